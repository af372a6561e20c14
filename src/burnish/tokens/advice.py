"""What would help where a law fails: found by trying."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise

from burnish.data import Conversation
from burnish.data.conversation import SYSTEM_ROLES, TOOL_ROLES
from burnish.errors import RunawayTemplateError, TemplateError
from burnish.template import ChatTemplate
from burnish.template.chatml import give_chatml
from burnish.template.parts import reasoning_and_text, reasoning_block
from burnish.template.remedies import REMEDIES
from burnish.tokens.encoding import encode_weighted

THINKING = ("enable_thinking", "thinking")
MOST = 5
"""Remedies tried together."""


def advised(
    error: TemplateError,
    template: ChatTemplate,
    conversation: Conversation,
) -> TemplateError:
    """The same error with the remedies that work for this conversation; as it is, where the template is
    not at fault."""
    if isinstance(error, RunawayTemplateError) or _holds(template, conversation):
        return error
    sets = working_remedies(template, conversation)
    words = [f"template.options: {option}" for option in _options(template, conversation)]
    words += [f"template.remedies: [{', '.join((*template.remedies, *names))}]" for names in sets]
    if chatml_works(template, conversation):
        words.append("template.kind: chatml")
    fix = error.fix or "No remedy helps: take the row out, or use another template."
    if words:
        fix = f"Set {', or '.join(words)}."
    return TemplateError(error.what, why=error.why, fix=fix, law=error.law, remedies=sets)


def working_remedies(template: ChatTemplate, conversation: Conversation) -> tuple[tuple[str, ...], ...]:
    """The smallest sets of further remedies with which the conversation is proven, at most three of them.

    A set grows only by remedies that change what is wrong: a proof stops at the first fault, so each
    remedy that helps leads on to the next fault.
    """
    candidates = [name for name in _relevant(conversation) if name not in template.remedies]
    if template.stops_at_next_turn:
        candidates.sort(key=lambda name: name != "stop_at_next_turn")
    grown: dict[tuple[str, ...], str | None] = {(): _fault(template, conversation)}
    for _ in range(MOST):
        tried: dict[tuple[str, ...], str | None] = {}
        for names, fault in grown.items():
            for name in candidates:
                more = tuple(sorted({*names, name}, key=candidates.index))
                if name not in names and more not in tried:
                    now = _fault(template.with_remedies((*template.remedies, *more)), conversation)
                    if now != fault or not names:  # one alone may only bring out what the next is for
                        tried[more] = now
        if found := [names for names, fault in tried.items() if fault is None]:
            return tuple(sorted(found, key=lambda names: [candidates.index(name) for name in names])[:3])
        grown = tried
    return ()


def _options(template: ChatTemplate, conversation: Conversation) -> Iterator[str]:
    """The values of a switch for reasoning, where the template reads one, with which the laws hold."""
    for name in THINKING:
        if name in str(template.source) and name not in template.options:
            for value in (True, False):
                if _holds(template.with_options({name: value}), conversation):
                    yield f"{{{name}: {str(value).lower()}}}"


def chatml_works(template: ChatTemplate, conversation: Conversation) -> bool:
    """Whether ChatML-lite would do. It is tried on a copy of the tokenizer, whose tokens it changes."""
    tokenizer = copy.deepcopy(template.tokenizer)
    give_chatml(tokenizer)
    return _holds(
        ChatTemplate(tokenizer, typed_tokens=template.typed_tokens, base_stop_ids=template.base_stop_ids),
        conversation,
    )


def _holds(template: ChatTemplate, conversation: Conversation) -> bool:
    return _fault(template, conversation) is None


def _fault(template: ChatTemplate, conversation: Conversation) -> str | None:
    """What is wrong first, if anything: by its token ids and spans."""
    try:
        encode_weighted(conversation, template)
    except TemplateError as error:
        return error.what
    return None


def _relevant(conversation: Conversation) -> Iterator[str]:
    """Remedies that could do anything for this conversation."""
    messages = conversation.as_dicts()
    roles = {message["role"] for message in messages}
    calls = any("tool_calls" in message for message in messages)
    reasons = any(reasoning_and_text(message)[0] or reasoning_block(message) for message in messages)
    neighbours = any(a["role"] == b["role"] for a, b in pairwise(messages))
    needless = {
        "keep_reasoning": not reasons,
        "drop_reasoning": not reasons,
        "merge_system_into_user": not (roles & set(SYSTEM_ROLES) or conversation.tools),
        "merge_consecutive": not neighbours,
        "split_turns": sum(message["role"] == "user" for message in messages) < 2,
        "rename_call_ids": not (calls or roles & set(TOOL_ROLES)),
        "tools_as_text": not (calls or conversation.tools or roles & set(TOOL_ROLES)),
        "tool_role_tool": not roles & set(TOOL_ROLES[1:]),
        "arguments_as_text": not calls,
        "add_bos": True,
    }
    return (name for name in REMEDIES if not needless.get(name, False))
