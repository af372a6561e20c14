"""The header of an answer: what a template writes before every answer and leaves out of the generation
prompt.

A model need not learn to say it, and must not: at inference it would be asked to begin with it, by nobody.
What it says cannot tell it: ``Falcon:``, ``### Answer:`` and a bare token are headers, while GPT-OSS's
``<|channel|>final<|message|>`` is the model's own choice. What tells it is that it stands there whatever the
answer is: plain, with reasoning, or a call. A beginning that all of these share and that none of them ends
with is one of a choice (``to=user``, ``to=functions.add``), unless the generation prompt writes no header at
all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.errors import TemplateError
from burnish.template import think
from burnish.template.compose import composed
from burnish.template.renderer import Renderer

Messages = Sequence[Mapping[str, Any]]

TEXT, THOUGHT, CALLED = "burnishanswer", "burnishthought", "burnishcalled"
_PLAIN = {"role": "assistant", "content": TEXT}
_REASONED = {**_PLAIN, "reasoning_content": THOUGHT}
_FUNCTION = {"name": CALLED, "arguments": {"burnishkey": "burnishvalue"}}
_CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "id": "burnish01", "function": _FUNCTION}],
}
_TOOL = {
    "type": "function",
    "function": {"name": CALLED, "description": "z", "parameters": {"type": "object", "properties": {}}},
}
_WORD = re.compile(r"\w+|\s+|.", re.DOTALL)


def header_of(
    renderer: Renderer, remedies: Sequence[str], history: Messages, tools: Messages, before: str
) -> str:
    """What stands before any answer behind ``history``; empty where nothing does. ``before``: what stands
    before the answer at hand."""
    found = _before(renderer, remedies, history, tools)
    kinds = [_cut(renderer, text) for text in (*found.values(), before)]
    shared = 0
    while all(len(kind) > shared for kind in kinds) and len({kind[shared] for kind in kinds}) == 1:
        shared += 1
    header = "".join(kinds[0][:shared]).strip()
    # A call's own name may be the choice.
    spoken = [kind for kind, name in zip(kinds, found, strict=False) if name != CALLED]
    if any(not "".join(kind[shared:]).strip() for kind in spoken):
        return header
    asked, bare = (renderer.render(history, tools, add_generation_prompt=g) for g in (True, False))
    return header if asked == bare else ""


def _before(
    renderer: Renderer, remedies: Sequence[str], history: Messages, tools: Messages
) -> dict[str, str]:
    """What stands before each kind of answer that the template writes."""
    found = {}
    for answer, first, offered in (
        (_PLAIN, TEXT, tools),
        (_REASONED, THOUGHT, tools),
        (_CALL, CALLED, tools or [_TOOL]),
    ):
        try:
            added = composed(renderer, remedies, [*history, answer], offered, len(history)).added
        except TemplateError:
            continue
        if first in added:
            found[first] = added.partition(first)[0]
    return found


def _cut(renderer: Renderer, text: str) -> list[str]:
    """Tokens of the template and words, without blocks of reasoning, which are the model's to open."""
    for tags in think.KNOWN:
        text = text.replace(tags.open, "").replace(tags.close, "")
    text = text.lstrip()
    pieces: list[str] = []
    while text:
        token = next((token for token in renderer.added if token and text.startswith(token)), None)
        found = _WORD.match(text)
        piece = token or (found[0] if found else text[0])
        pieces.append(piece)
        text = text[len(piece) :]
    return pieces
