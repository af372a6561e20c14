"""Which tokens end an answer in a template: found by rendering, not looked up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from burnish.errors import TemplateError

if TYPE_CHECKING:
    from burnish.template.chat_template import ChatTemplate

ASKED, ANSWER, CALL = "burnishasked", "burnishanswer", "burnishcall"
_USER = {"role": "user", "content": ASKED}
_SAYS = {"role": "assistant", "content": ANSWER}
_RESULT = {"role": "tool", "name": CALL, "tool_call_id": "burnish01", "content": "y"}


def _calls(*names: str) -> dict[str, Any]:
    calls = [
        {"type": "function", "id": f"burnish0{number}", "function": {"name": name, "arguments": {"x": 1}}}
        for number, name in enumerate(names, 1)
    ]
    return {"role": "assistant", "content": "", "tool_calls": calls}


_TOOL = {
    "type": "function",
    "function": {
        "name": CALL,
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
    answer = _ending(template, _SAYS, _USER, ANSWER)
    # Two calls, where the template takes them: what stands behind each of them ends no turn.
    call = _ending(template, _calls(CALL, f"{CALL}too"), _RESULT, f"{CALL}too") or _ending(
        template, _calls(CALL), _RESULT, CALL
    )
    endings = [answer, call]
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
    tails, before = [], ""
    calls = answer.get("tool_calls") or []
    for messages in ([_USER, answer], [_USER, answer, following]):
        try:
            text = template.render(messages, [_TOOL] if calls else [], add_generation_prompt=False)
        except TemplateError:
            continue
        asked, _, rest = text.partition(ASKED)
        before, found, tail = rest.partition(said)
        if found:
            tails.append(tail)
    if not tails:
        return None
    stays = _tokens(tails[0][: shared_length(tails[0], tails[-1])], template.added)
    if not stays:
        stays = _tokens(tails[0], template.added)
    if len(calls) > 1:
        stays = [token for token in stays if token not in before.partition(CALL)[2]]
    # What ends a question ends an answer too, where both end alike. Else the last token, leaving out those
    # that open turns: they stay as well where the next header begins alike for all roles.
    ends_question = _tokens(before, template.added)[:1]
    if ends_question and ends_question[0] in stays:
        return ends_question[0]
    opens = set(_tokens(asked, template.added))
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
