"""Which tokens end an answer in a template: found by rendering, not looked up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from burnish.errors import TemplateError

if TYPE_CHECKING:
    from burnish.template.chat_template import ChatTemplate

ANSWER = "burnishanswer"
_CALL = {"type": "function", "id": "burnish01", "function": {"name": "burnishcall", "arguments": {"x": 1}}}
_USER = {"role": "user", "content": "x"}
_SAYS = {"role": "assistant", "content": ANSWER}
_CALLS = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
_RESULT = {"role": "tool", "name": "burnishtool", "tool_call_id": "burnish01", "content": "y"}
_TOOL = {
    "type": "function",
    "function": {
        "name": "burnishtool",
        "description": "z",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer", "description": "x"}}},
    },
}


def find_stop_tokens(template: ChatTemplate) -> tuple[str, ...]:
    """The token that ends a plain answer, the one that ends a tool call, and the end of sequence.

    What follows an answer may go on behind its end: phi-3 closes the last turn with ``<|end|>`` and the
    conversation with ``<|endoftext|>``; Cohere ends an answer with two tokens. The end of the turn is the
    last token of what still stands there once another message follows; where nothing does (GPT-OSS ends a
    turn otherwise when it is past), the last token of what stands there now.
    """
    endings = [_ending(template, _SAYS, _USER, ANSWER), _ending(template, _CALLS, _RESULT, "burnishcall")]
    found = [token for token in endings if token]
    if template.tokenizer.eos_token:
        found.append(str(template.tokenizer.eos_token))
    return tuple(dict.fromkeys(found))


def written_tokens(template: ChatTemplate, among: Iterable[str]) -> tuple[str, ...]:
    """Those of ``among`` that the template writes in an ordinary conversation."""
    text = ""
    for system in ([{"role": "system", "content": "z"}], []):
        try:
            text = template.render([*system, _USER, _SAYS], add_generation_prompt=True)
            break
        except TemplateError:  # some templates know no system turn
            continue
    return tuple(token for token in among if token in text)


def shared_length(one: str, other: str) -> int:
    """The number of characters with which both begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _ending(
    template: ChatTemplate, answer: dict[str, Any], following: dict[str, Any], said: str
) -> str | None:
    tails, opening = [], ""
    tools = [_TOOL] if answer is _CALLS else []
    for messages in ([_USER, answer], [_USER, answer, following]):
        try:
            text = template.render(messages, tools, add_generation_prompt=False)
        except TemplateError:
            continue
        before, found, tail = text.rpartition(said)
        tails.append(tail if found else "")
        opening = opening or before
    if not any(tails):
        return None
    stays = _tokens(tails[0][: shared_length(tails[0], tails[-1])], template.added)
    if not stays and answer is _SAYS:
        stays = _tokens(tails[0], template.added)
    # Where the next header begins alike for all roles, its first tokens stay too: they also open turns.
    opens = set(_tokens(opening, template.added))
    closing = [token for token in stays if token not in opens] or stays
    return closing[-1] if closing else None


def _tokens(text: str, tokens: tuple[str, ...]) -> list[str]:
    """The added tokens that stand in ``text``, in order, tags such as ``</tool_call>`` left out."""
    found, place = [], 0
    while place < len(text):
        token = next((token for token in tokens if text.startswith(token, place)), None)
        if token and token.strip() and (token == "</s>" or not token.startswith(("</", "[/"))):
            found.append(token)
        place += len(token) if token else 1
    return found
