"""What burnish calls proven, judged by token ids and by invented words.

It shares no code with the proof. It knows of each row what was said by whom, renders and encodes with plain
transformers and the saved source, and reads what was trained back from ids. A word is found in rendered text
by chance, so each row is also put with invented words in the place of all that it says: there every word must
be trained as often as it was said and in that order. The row itself must come out the same but for its
words.

``python tests/oracle.py [PART OF A NAME ...] [1/3]`` prints the table of all templates and kinds, or of the
first third of the pairs, and what is wrong; to standard error a line of JSON a pair.
"""

from __future__ import annotations

import copy
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby, pairwise, takewhile
from typing import Any

from transformers.utils import logging

from burnish.data import Conversation
from burnish.data.conversation import TOOL_ROLES
from burnish.errors import TemplateError
from burnish.template import ChatTemplate
from burnish.template.chatml import give_chatml
from burnish.tokens import Example, encode, encode_all
from templates import SUITE, Message, Row, assistant, call_of, sources, tokenizer_of, tool_of, user

PROVEN, REMEDY, REFUSED, NOT_RENDERABLE = "proven as is", "by remedy", "refused", "not renderable"
COLUMNS = (PROVEN, REMEDY, REFUSED, NOT_RENDERABLE)
CHATML = "template.kind: chatml"


# What was said


@dataclass(frozen=True)
class Said:
    """Something of a message. ``kind``: reasoning, content, name, key or value."""

    kind: str
    text: Any


THOUGHT = re.compile(r"(<think>\n)(.*?)(\n</think>\n\n)(.*)", re.DOTALL)


def said_in(message: Message) -> list[Said]:
    """What the message says, in order, as the row gives it."""
    found = [Said("reasoning", message.get("reasoning_content") or "")]
    content = message["content"]
    if isinstance(content, list):
        found += [Said("content", part["text"]) for part in content]
    elif inline := THOUGHT.fullmatch(content):
        found += [Said("reasoning", inline[2]), Said("content", inline[4])]
    else:
        found += [Said("content", text) for text in split_at_spans(message)]
    for call in message.get("tool_calls", ()):
        found.append(Said("name", call["function"]["name"]))
        found += leaves(arguments_of(call))
    stripped = [Said(s.kind, s.text.strip() if isinstance(s.text, str) else s.text) for s in found]
    return [said for said in stripped if said.text != ""]


def leaves(value: Any) -> list[Said]:
    """Keys and values of arguments, however deep. Booleans and nothing have no words of their own."""
    if isinstance(value, dict):
        return [said for key, inner in value.items() for said in (Said("key", key), *leaves(inner))]
    if isinstance(value, list):
        return [said for inner in value for said in leaves(inner)]
    return [] if isinstance(value, bool) or value is None else [Said("value", value)]


def split_at_spans(message: Message) -> list[str]:
    content, spans = message["content"], message.get("spans", ())
    edges = sorted({0, len(content), *(span[edge] for span in spans for edge in ("start", "end"))})
    return [content[a:b] for a, b in pairwise(edges)]


def arguments_of(call: Message) -> dict[str, Any]:
    given = call["function"]["arguments"]
    return dict(json.loads(given)) if isinstance(given, str) else given


# Invented words


@dataclass
class Invention:
    """A row with an invented word in the place of each thing that it says.

    ``words``: word -> what it stands for. Names of tools and arguments get one word wherever they stand, in
    the order in which some templates sort them; all else gets one each time, but for values that are alike.
    """

    row: Row
    salt: int = 0
    words: dict[str, Said] = field(default_factory=dict)
    names: dict[tuple[str, str], str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        messages, tools = copy.deepcopy(self.row)
        for kind, text in sorted(names_in(self.row)):
            self.names[kind, text] = self.word(Said(kind, text))
        self.tools = [self._tool(tool) for tool in tools] if tools is not None else None
        self.messages = [self._message(message) for message in messages]

    def word(self, said: Said) -> Any:
        """Letters that no template has a reason to change, or a number; none is within another."""
        number = len(self.words) + 40 * self.salt
        if isinstance(said.text, int | float):
            word: Any = type(said.text)(7_310_057 + 1013 * number)
        else:
            word = "vux" + "".join("bdfgklmnprst"[number // 12**n % 12] + "aei"[n] for n in (2, 1, 0))
        assert str(word) not in self.words
        self.words[str(word)] = said
        return word

    def around(self, kind: str, text: str) -> str:
        """The word with the white space that stands around the text."""
        core = text.strip()
        return text.replace(core, self.word(Said(kind, core))) if core else text

    def _tool(self, tool: Message) -> Message:
        function = tool["function"]
        function["name"] = self.names["name", function["name"]]
        schema, properties = function.get("parameters") or {}, properties_of(function)
        for described in (function, *properties.values()):
            if "description" in described:
                described["description"] = self.word(Said("description", described["description"]))
        if properties:
            schema["properties"] = {self.names["key", key]: value for key, value in properties.items()}
            schema["required"] = [self.names["key", key] for key in schema.get("required", ())]
        return tool

    def _leaf(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self.names["key", key]: self._leaf(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._leaf(inner) for inner in value]
        for said in leaves(value):
            if str(value) not in self.values:
                self.values[str(value)] = self.word(said)
            return self.values[str(value)]
        return value

    def _message(self, message: Message) -> Message:
        content = message["content"]
        if message.get("reasoning_content"):
            message["reasoning_content"] = self.around("reasoning", message["reasoning_content"])
        if isinstance(content, list):
            for part in content:
                part["text"] = self.around("content", part["text"])
        elif inline := THOUGHT.fullmatch(content):
            thought = self.around("reasoning", inline[2])
            message["content"] = inline[1] + thought + inline[3] + self.around("content", inline[4])
        elif spans := message.get("spans"):
            pieces = [self.around("content", text) for text in split_at_spans(message)]
            assert len(spans) == 1 and spans[0]["start"] == 0
            message["content"] = "".join(pieces)
            spans[0]["end"] = len(pieces[0])
        else:
            message["content"] = self.around("content", content)
        if "name" in message:
            message["name"] = self.names["name", message["name"]]
        for call in message.get("tool_calls", ()):
            invented = self._leaf(arguments_of(call))
            as_text = isinstance(call["function"]["arguments"], str)
            call["function"]["name"] = self.names["name", call["function"]["name"]]
            call["function"]["arguments"] = json.dumps(invented) if as_text else invented
        return message


def names_in(row: Row) -> set[tuple[str, str]]:
    """Names of tools and of their arguments."""
    functions = [tool["function"] for tool in row[1] or ()]
    calls = [call for message in row[0] for call in message.get("tool_calls", ())]
    names = {("name", function["name"]) for function in functions}
    names |= {("name", call["function"]["name"]) for call in calls}
    names |= {("name", message["name"]) for message in row[0] if "name" in message}
    names |= {("key", key) for function in functions for key in properties_of(function)}
    return names | {("key", s.text) for call in calls for s in leaves(arguments_of(call)) if s.kind == "key"}


def properties_of(function: Message) -> dict[str, Message]:
    return dict((function.get("parameters") or {}).get("properties") or {})


def with_calls_reversed(row: Row) -> Row:
    """The row with the calls of each message in the other order."""
    messages, tools = copy.deepcopy(row)
    for message in messages:
        if calls := message.get("tool_calls"):
            message["tool_calls"] = calls[::-1]
    return messages, tools


# What burnish makes of a row


@dataclass(frozen=True)
class Proof:
    """A template with which burnish calls a row proven. ``how``: remedies, or another setting."""

    how: tuple[str, ...]
    template: ChatTemplate


@dataclass(frozen=True)
class Outcome:
    """``law``, ``what``: of the refusal without remedies. ``faults``: advice that cannot be followed."""

    column: str
    law: str = ""
    what: str = ""
    proofs: tuple[Proof, ...] = ()
    faults: tuple[str, ...] = ()


@cache
def template_named(name: str) -> ChatTemplate:
    return ChatTemplate(tokenizer_of(name))


@cache
def changed(template: ChatTemplate, how: tuple[str, ...]) -> ChatTemplate:
    """The template with remedies, with an option (``name=value``), or ChatML in its place."""
    if how == (CHATML,):
        tokenizer = copy.deepcopy(template.tokenizer)
        give_chatml(tokenizer)
        return ChatTemplate(tokenizer)
    if how and "=" in how[0]:
        option, value = how[0].split("=")
        return template.with_options({option: value == "true"})
    return template.with_remedies(how) if how else template


def conversation_of_row(row: Row) -> Conversation:
    return Conversation.from_messages(*row)


@cache
def outcome(name: str, kind: str) -> Outcome:
    """TRL's training templates differ from their siblings by marks alone, so there the sibling's remedies are
    taken, which takes a tenth of the time of a search."""
    try:
        template_named(name).tokenizer.apply_chat_template(
            SUITE[kind][0], tools=SUITE[kind][1], tokenize=False
        )
    except Exception:
        return Outcome(NOT_RENDERABLE)
    sibling = name.removesuffix("_training")
    known = None
    if sibling != name and sibling in sources() and outcome(sibling, kind).column in (REMEDY, REFUSED):
        known = [proof.how for proof in outcome(sibling, kind).proofs]
    return outcome_of(template_named(name), SUITE[kind], known)


def outcome_of(template: ChatTemplate, row: Row, known: Sequence[tuple[str, ...]] | None = None) -> Outcome:
    """``known``: the advice for the row, where it is known."""
    error = refusal(template, row)
    if error is None:
        return Outcome(PROVEN, proofs=(Proof((), template),))
    proofs, faults = [], []
    for how in advice(template, row) if known is None else known:
        remedied = changed(template, how)
        if refused := refusal(remedied, row):
            faults.append(f"advice: {list(how)} is refused: {refused.what}")
        else:
            proofs.append(Proof(how, remedied))
    column = REMEDY if any(proof.how != (CHATML,) for proof in proofs) else REFUSED
    return Outcome(column, error.law, error.what, tuple(proofs), tuple(faults))


def refusal(template: ChatTemplate, row: Row) -> TemplateError | None:
    """Why burnish does not train on the row, without the search for advice."""
    (encoded,) = encode_all([conversation_of_row(row)], template)
    return encoded.error


def advice(template: ChatTemplate, row: Row) -> list[tuple[str, ...]]:
    """All that the refusal advises: sets of remedies, an option, ChatML."""
    try:
        encode(conversation_of_row(row), template)
    except TemplateError as error:
        options = re.findall(r"options: {(\w+): (true|false)}", error.fix)
        chatml = [(CHATML,)] if CHATML in error.fix else []
        return [*error.remedies, *[(f"{name}={value}",) for name, value in options], *chatml]
    raise AssertionError("the row is not refused")


# The judgement

MERGING = {"merge_consecutive"}
PREPARING = {"merge_consecutive", "drop_reasoning", "keep_reasoning", "rename_call_ids"}
"""Remedies that change the messages before they are served."""


@dataclass(frozen=True)
class Trained:
    """A turn as ids: what is read before it, and what is learnt. ``says``: numbers (from 0) of the messages
    of the row that it says, several where they are merged. ``weights``: of the learnt ids."""

    says: tuple[int, ...]
    prompt: list[int]
    learnt: list[int]
    weights: list[float]


def faults(name: str, kind: str) -> list[str]:
    """What is wrong with what burnish says of a pair: nothing, if it is right."""
    return faults_of(outcome(name, kind), SUITE[kind])


def faults_of(found: Outcome, row: Row) -> list[str]:
    """What is wrong with what burnish says of a row. Each begins with the reason."""
    words = list(found.faults)
    if found.column == REFUSED and not (found.law or found.what):
        words.append("law: a refusal names none")
    for proof in found.proofs:
        words += [f"{fault} {list(proof.how)}" for fault in judged(proof, row)]
        words += [f"{fault} {list(proof.how)}" for fault in ends(proof.template)]
    return list(dict.fromkeys(words))


def judged(proof: Proof, row: Row) -> Iterator[str]:
    """What is wrong with the proof of a row."""
    turns, found = trained(proof, row)
    yield from found
    yield from unlike_parts(proof, row)
    invention = Invention(row)
    if refused := refusal(proof.template, invented_row(invention)):
        yield f"chance: refused with invented words: {refused.what}"
        return
    invented, found = trained(proof, invented_row(invention))
    yield from found
    yield from kept(proof, invention, invented)
    yield from (f"spans: {fault}" for fault in spanned(proof, row, turns))
    yield from otherwise(proof, invention, turns, invented)
    if any(len(message.get("tool_calls", ())) > 1 for message in row[0]):
        other = Invention(with_calls_reversed(row), salt=1)
        if refused := refusal(proof.template, invented_row(other)):
            if "groupby" not in str(
                proof.template.source
            ):  # which writes them by name, whatever the row says
                yield f"chance: refused with its calls in the other order: {refused.what}"
        else:
            again, found = trained(proof, invented_row(other))
            yield from found
            yield from kept(proof, other, again)


def invented_row(invention: Invention) -> Row:
    return invention.messages, invention.tools


def plain_messages(row: Row) -> list[Message]:
    """The messages as a client sends them: contents as text, arguments as objects."""
    found = []
    for message in row[0]:
        plain = {key: value for key, value in message.items() if key not in ("train", "weight", "spans")}
        if isinstance(plain["content"], list):
            plain["content"] = "".join(part["text"] for part in plain["content"])
        if calls := plain.get("tool_calls"):
            plain["tool_calls"] = [
                {**call, "function": {**call["function"], "arguments": arguments_of(call)}} for call in calls
            ]
        found.append(plain)
    return found


def served_messages(proof: Proof, row: Row) -> tuple[list[Message], list[tuple[int, ...]]]:
    """The messages that are served, and for each the numbers of those of the row that it stands for."""
    groups = [(n,) for n in range(len(row[0]))]
    if MERGING & {*proof.how}:
        roles = [message["role"] for message in row[0]]
        together = groupby(range(len(roles)), key=lambda n: (roles[n], roles[n] in TOOL_ROLES and n))
        groups = [tuple(group) for _, group in together]
    if PREPARING & {*proof.how}:
        return proof.template.prepared(conversation_of_row(row)).as_dicts(), groups
    return plain_messages(row), groups


def served_ids(proof: Proof, messages: list[Message], tools: list[Message] | None) -> list[int]:
    """What plain transformers feeds with the saved source, typed special tokens read as text."""
    return plain_ids(proof, messages, tools, sanitize_control_tokens=True)


def plain_ids(
    proof: Proof, messages: list[Message], tools: list[Message] | None, prompt: bool = True, **more: Any
) -> list[int]:
    given = proof.template.tokenizer.apply_chat_template(
        messages, tools=tools, chat_template=proof.template.source, add_generation_prompt=prompt, **more
    )
    return list(given["input_ids"])


def text_of(proof: Proof, ids: Sequence[int]) -> str:
    return str(
        proof.template.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    )


def answer_of(proof: Proof, turn: Trained) -> str:
    """What is learnt before the stop token, read in its place: SentencePiece kinds drop a space at the
    beginning of what they decode."""
    prompt = text_of(proof, turn.prompt)
    return text_of(proof, turn.prompt + turn.learnt[:-1]).removeprefix(prompt)


def trained(proof: Proof, row: Row) -> tuple[list[Trained], list[str]]:
    """The turns that are learnt, read back from ids, and what is wrong with these: laws *served*, *stops* and
    *only*."""
    messages, groups = served_messages(proof, row)
    if len(messages) != len(groups):
        return [], [f"served: {len(groups)} messages became {len(messages)}"]
    stops = {*proof.template.stop_ids}
    turns: list[Trained] = []
    wrong: list[str] = []
    for example in encode(conversation_of_row(row), proof.template):
        learnt_places = {n for n, weight in enumerate(example.weights) if weight > 0}
        covered: set[int] = set()
        for index in example.turns:
            prompt = served_ids(proof, messages[:index], row[1])
            start = len(prompt)
            if example.input_ids[:start] != prompt:
                typed = plain_ids(proof, messages[:index], row[1])
                if not (
                    only_thoughts_are_typed(messages[:index]) and example.input_ids[: len(typed)] == typed
                ):
                    wrong.append(f"served: the ids before message {index + 1} are not those that are served")
                    continue
                prompt, start = typed, len(typed)
            end = next((n for n, i in enumerate(example.input_ids) if n >= start and i in stops), None)
            if end is None:
                wrong.append(f"stops: no stop id behind message {index + 1}: {tail(proof, example)!r}")
                continue
            places = range(start, end + 1)
            if not {*places} <= learnt_places:
                wrong.append(f"stops: message {index + 1} is not learnt up to its first stop id")
            covered |= {*places}
            ids, weights = example.input_ids[start : end + 1], example.weights[start : end + 1]
            turns.append(Trained(groups[index], prompt, ids, weights))
        if (more := learnt_places - covered) and not wrong:
            shown = text_of(proof, [example.input_ids[n] for n in sorted(more)])
            wrong.append(f"only: {shown!r} is learnt beside the turns up to their first stop ids")
    learnt = [
        n for n, message in enumerate(row[0]) if message["role"] == "assistant" and message.get("train", True)
    ]
    if [n for turn in turns for n in turn.says] != learnt and not wrong:
        wrong.append(f"only: messages {[n for turn in turns for n in turn.says]} are learnt, not {learnt}")
    return turns, wrong


def only_thoughts_are_typed(messages: list[Message]) -> bool:
    """Whether no special token is typed but the tags of reasoning in what the assistant said, which rows hold
    on purpose. Reading these as text, as plain transformers can, or as tokens is the same to the laws."""
    thoughts = [m["content"] for m in messages if m["role"] == "assistant" and "</think>" in m["content"]]
    others = [m for m in messages if m["content"] not in thoughts]
    typed = re.sub("</?think>", "", str(thoughts)) + str(others)
    return bool(thoughts) and not re.search(r"<\||\|>|</?[a-z_]+>|\[/?INST", typed)


def tail(proof: Proof, example: Example) -> str:
    return text_of(
        proof, [i for i, weight in zip(example.input_ids, example.weights, strict=True) if weight][-8:]
    )


def unlike_parts(proof: Proof, row: Row) -> Iterator[str]:
    """Contents given as parts: the template's own rendering of the row, where it keeps them, is what a server
    feeds."""
    if PREPARING & {*proof.how} or not any(isinstance(message["content"], list) for message in row[0]):
        return
    lists = [
        {k: v for k, v in message.items() if k not in ("train", "weight", "spans")} for message in row[0]
    ]
    for example in encode(conversation_of_row(row), proof.template):
        for index in example.turns:
            text = plain_text(proof, lists[:index], row[1], True)
            said = [said.text for message in lists[:index] for said in said_in(message)]
            if text is None or "type" in text or not all(words in text for words in said):
                return  # the template does not know what a list is
            if example.input_ids[: len(ids := served_ids(proof, lists[:index], row[1]))] != ids:
                yield f"parts: plain transformers feeds {text[-60:]!r} for the row as it is"


# With invented words: all is there, once, in order, and nothing else


def places(text: str, word: str) -> list[int]:
    return [found.start() for found in re.finditer(re.escape(str(word)), text)]


def kept(proof: Proof, invention: Invention, turns: Sequence[Trained]) -> Iterator[str]:
    drops = "drop_reasoning" in proof.how
    for turn in turns:
        prompt, completion = text_of(proof, turn.prompt), answer_of(proof, turn)
        said = [said for n in turn.says for said in said_in(invention.messages[n])]
        yield from all_said(completion, said, drops, len(turn.says) > 1)
        yield from nothing_else(prompt, completion, said, proof)
        mine = {
            str(said.text)
            for n in turn.says
            for said in said_in(invention.messages[n])
            if said.kind in ("reasoning", "content")
        }
        for word, stands_for in invention.words.items():
            if stands_for.kind in ("reasoning", "content") and word not in mine and word in completion:
                yield f"stray: the answer holds {stands_for.text!r} of another message"
        yield from past_kept(proof, invention, turn, prompt)


def all_said(text: str, said: Sequence[Said], drops_reasoning: bool, merged: bool) -> Iterator[str]:
    """Each word as often as it was said, in order. A format may write the name of a call more than once."""
    counted = Counter((s.kind, str(s.text)) for s in said)
    names = {len(places(text, word)) / times for (kind, word), times in counted.items() if kind == "name"}
    for (kind, word), times in counted.items():
        found = len(places(text, word))
        wanted = 0 if kind == "reasoning" and drops_reasoning else times
        if kind == "name" and found >= times and len(names) == 1 and found % times == 0:
            continue
        if found != wanted:
            yield f"{'lost' if found < wanted else 'doubled'}: {kind} is said {found} times, not {wanted}"
            return
    for kind in ("reasoning", "content", "name"):
        order = dict.fromkeys(str(s.text) for s in said if s.kind == kind)
        found = [text.find(word) for word in order if word in text]
        if found != sorted(found):
            yield f"order: {kind} stands in another order"
    # Arguments are a mapping: a template may sort those of a call, but not mix the calls.
    calls: list[list[str]] = []
    for s in said:
        if s.kind == "name":
            calls.append([])
        elif s.kind == "value" and counted["value", str(s.text)] == 1:
            calls[-1].append(str(s.text))
    places_of = [[text.find(word) for word in call] for call in calls if call]
    if any(max(one) > min(other) for one, other in pairwise(places_of)):
        yield "order: values of two calls are mixed"
    if not merged:
        first = [
            text.find(str(s.text)) for s in said if s.kind in ("reasoning", "content") and str(s.text) in text
        ]
        if first != sorted(first):
            yield "order: reasoning stands behind the content"


OPENERS = re.compile(
    r"\s*(<think>(\s*</think>)?|</think>|\[THINK\](\s*\[/THINK\])?|<\|channel>thought(\s*<channel\|>)?"
    r"|<\|START_THINKING\|>(<\|END_THINKING\|>)?|<\|START_(RESPONSE|TEXT)\|>"
    r"|<\|channel\|>analysis<\|message\|><\|end\|><\|start\|>assistant"
    r"|<\|channel\|>(final|analysis|commentary)<\|message\|>)*\s*"
)
"""What a model says before an answer since it could say something else there: to think or not, and in which
channel."""


BLOCKS = r"<think>|\[THINK\]|<\|channel>thought|<\|START_THINKING\|>"


def nothing_else(prompt: str, completion: str, said: Sequence[Said], proof: Proof) -> Iterator[str]:
    words = [str(s.text) for s in said if str(s.text) in completion]
    if not words:
        return
    first = min(completion.find(word) for word in words)
    last = max(completion.rfind(word) + len(word) for word in words)
    before, behind = completion[:first], completion[last:]
    header = header_of(proof.template, proof.how)
    if header is None and not any(s.kind == "name" for s in said):
        header = OPENERS.sub("", before, count=1).strip()
    if header and before.lstrip().startswith(header):
        yield f"header: {header!r} is learnt"
    blocks = len(re.findall(BLOCKS, completion)) + bool(re.search(rf"({BLOCKS})\s*$", prompt))
    if blocks > 1 and not any("think" in str(s.text) for s in said):
        yield "blocks: two blocks of reasoning"
    if not any(s.kind == "name" for s in said) and re.search(
        r"\w", re.sub(r"<[^<>]*>|\[/?[A-Z_]+\]", "", behind)
    ):
        yield f"behind: {behind!r} is learnt behind the answer"
    if opened := [token for token in openers_of(proof.template) if token in behind]:
        yield f"behind: {opened[0]}, which begins the next turn, is learnt"
    structure = completion
    for word in words:
        structure = structure.replace(word, "")
    if re.search(r"&#?\w+;", structure):
        yield "escaped: quotes are escaped"
    if "'type': 'text'" in structure or '"type": "text"' in structure:
        yield "parts: a list of parts is written out"
    if fault := unbalanced(prompt, structure):
        yield f"balance: {fault}"


PROBES: tuple[Row, ...] = (
    ([user("vuxask"), assistant("vuxans")], None),
    ([user("vuxask"), assistant("vuxans", "vuxthink")], None),
    (
        [user("vuxask"), assistant("", calls=[call_of("vuxname", {"vuxkey": "vuxval"})])],
        [tool_of("vuxname", "vuxsays", vuxkey="vuxis")],
    ),
)
"""A plain answer, one with reasoning, a call."""


@cache
def header_of(template: ChatTemplate, how: tuple[str, ...]) -> str | None:
    """What every kind of answer begins with, beside what a model decides there: it says nothing of the
    answer, so the prompt should have ended in it. What all share and none is (``to=`` of ``to=user`` and
    ``to=self``) is the beginning of a choice, where the prompt writes a header of its own; a call's own name
    may be that choice."""
    if refusal(template, PROBES[0]):
        return None  # not to be told without a plain answer
    proof = Proof(how, template)
    leads = []
    for row in PROBES:
        if refusal(template, row) is None:
            turns, _ = trained(proof, row)
            leads += [
                OPENERS.sub("", answer_of(proof, turn).partition("vux")[0], count=1) for turn in turns[:1]
            ]
    letters = takewhile(lambda some: len({*some}) == 1, zip(*leads, strict=False))
    shared = "".join(some[0] for some in letters).strip()
    question = PROBES[0][0][:1]
    asks = plain_text(proof, question, None, True) != plain_text(proof, question, None, False)
    spoken = leads[: 1 + (refusal(template, PROBES[1]) is None)]
    return "" if asks and shared not in [lead.strip() for lead in spoken] else shared


@cache
def openers_of(template: ChatTemplate) -> list[str]:
    """The tokens of the generation prompt, beside those of blocks of reasoning."""
    proof, question = Proof((), template), PROBES[0][0][:1]
    asked, bare = (plain_text(proof, question, None, prompt) for prompt in (True, False))
    if asked is None or bare is None or not asked.startswith(bare):
        return []
    header = re.sub(rf"({BLOCKS}).*", "", asked[len(bare) :], flags=re.DOTALL)
    return [token for token in template.tokenizer.get_added_vocab() if token.strip() and token in header]


def past_kept(proof: Proof, invention: Invention, turn: Trained, prompt: str) -> Iterator[str]:
    """What stands before the answer holds all that was said until then, but for reasoning, and no more."""
    past = [*range(turn.says[0])]
    messages = invention.messages
    if "split_turns" in proof.how:
        asked = max(n for n in past if messages[n]["role"] == "user")
        past = [n for n in past if n >= asked or messages[n]["role"] in ("system", "developer")]
    said = [(n, s) for n in past for s in said_in(messages[n]) if s.kind != "reasoning"]
    counted = Counter((s.kind, str(s.text)) for _, s in said)
    for tool in invention.tools or ():
        function = tool["function"]
        counted["name", function["name"]] += 1
        counted.update(("description", function[key]) for key in ("description",) if key in function)
        counted.update(("key", key) for key in properties_of(function))
    tools = {word for kind, word in counted if kind == "description"}
    tools |= {word for kind, word in counted if (kind, word) not in {(s.kind, str(s.text)) for _, s in said}}
    for (kind, word), times in counted.items():
        found = len(places(prompt, word))
        what = f"{kind} of {invention.words[word].text!r}" if word in invention.words else kind
        if found < times:
            where = "tools" if word in tools else "past"
            yield f"{where}: {what} stands {found} times before the answer, not {times}"
    for roles in (("user", "assistant"), TOOL_ROLES):
        order = [str(s.text) for n, s in said if s.kind == "content" and messages[n]["role"] in roles]
        found_at = [prompt.find(word) for word in order if word in prompt]
        if found_at != sorted(found_at):
            yield f"order: what {roles[0]} says stands in another order"
    for number in range(turn.says[0], len(messages)):
        for s in said_in(messages[number]):
            if (
                s.kind in ("reasoning", "content", "value")
                and str(s.text) in prompt
                and (s.kind, str(s.text)) not in counted
            ):
                text = invention.words[str(s.text)].text
                yield f"future: {text!r} of message {number + 1} stands before the answer"


# The row itself


def otherwise(
    proof: Proof, invention: Invention, turns: Sequence[Trained], invented: Sequence[Trained]
) -> Iterator[str]:
    """The row's turns are the invented ones with its own words in their places."""
    if [turn.says for turn in turns] != [turn.says for turn in invented]:
        yield "chance: other turns are learnt with invented words"
        return
    for turn, like in zip(turns, invented, strict=True):
        for what, text, pattern in (
            ("prompt", text_of(proof, turn.prompt), text_of(proof, like.prompt)),
            ("answer", answer_of(proof, turn), answer_of(proof, like)),
            ("stop", text_of(proof, turn.learnt[-1:]), text_of(proof, like.learnt[-1:])),
        ):
            if not re.fullmatch(with_own_words(pattern, invention), text):
                yield f"chance: the {what} is {text[-80:]!r} and with invented words {pattern[-80:]!r}"


def with_own_words(text: str, invention: Invention) -> str:
    """A pattern for the text with each invented word replaced by what it stands for, in any spelling."""
    word = "|".join(re.escape(word) for word in sorted(invention.words, key=len, reverse=True))
    pieces = re.split(f"({word})", text)
    return "".join(
        f"(?:{'|'.join(re.escape(form) for form in spellings(invention.words[piece].text))})"
        if n % 2
        else re.escape(piece)
        for n, piece in enumerate(pieces)
    )


def spellings(value: Any) -> list[str]:
    """As it is, as JSON with and without ASCII escapes, as Python writes it."""
    if not isinstance(value, str):
        return [json.dumps(value), str(value)]
    escaped = (json.dumps(value, ensure_ascii=False), json.dumps(value), repr(value))
    return list(dict.fromkeys((value, *(form[1:-1] for form in escaped))))


def spanned(proof: Proof, row: Row, turns: Sequence[Trained]) -> Iterator[str]:
    """What has the weight of a span is what the row marks, and stands where the content does. What the
    template writes behind the content counts as the content's last character does."""
    for turn in turns:
        message = row[0][turn.says[0]]
        for span in message.get("spans", ()) if len(turn.says) == 1 else ():
            places = [n for n, weight in enumerate(turn.weights[:-1]) if weight == span["weight"]]
            wanted, rest = (
                message["content"][span["start"] : span["end"]],
                message["content"][span["start"] :],
            )
            if not places or places != [*range(places[0], places[-1] + 1)]:
                yield f"no run of tokens has the weight of {wanted!r}"
                continue
            marked = text_of(proof, turn.learnt[places[0] : places[-1] + 1]).strip()
            behind = answer_of(proof, turn).rpartition(message["content"])[2] if wanted == rest else ""
            if marked != (wanted + behind).strip():
                yield f"{marked!r} has the weight of {wanted!r}"
            elif not (found := text_of(proof, turn.learnt[places[0] : -1]).strip()).startswith(rest):
                yield f"the weight of {wanted!r} stands at {found!r}"


# What a template's stop tokens are


@cache
def ends(template: ChatTemplate) -> tuple[str, ...]:
    """What is wrong with the stop tokens of a template, whatever the row."""
    proof = Proof((), template)
    tokens = proof.template.tokenizer.convert_ids_to_tokens
    wrong = []
    asked, answered = (plain_text(proof, PROBES[0][0][:1], None, prompt) for prompt in (False, True))
    if asked is not None and answered is not None and answered.startswith(asked):
        header = proof.template.tokenizer(answered[len(asked) :], add_special_tokens=False)["input_ids"]
        wrong += [f"ends: {tokens(i)} begins the next turn" for i in proof.template.stop_ids if i in header]
    messages, tools = PROBES[2]
    before, called = (plain_text(proof, m, tools, p) for m, p in ((messages[:1], True), (messages, False)))
    if before and called and called.startswith(before) and "vuxval" in called[len(before) :]:
        inner = called[len(before) : called.rfind("vuxval")]
        ids = proof.template.tokenizer(inner, add_special_tokens=False)["input_ids"]
        wrong += [f"ends: {tokens(i)} stands within a call" for i in proof.template.stop_ids if i in ids]
    return tuple(wrong)


def plain_text(
    proof: Proof, messages: list[Message], tools: list[Message] | None, prompt: bool
) -> str | None:
    try:
        text = proof.template.tokenizer.apply_chat_template(
            messages,
            tools=tools,
            chat_template=proof.template.source,
            add_generation_prompt=prompt,
            tokenize=False,
        )
    except Exception:  # the template does not know such messages
        return None
    return str(text)


# Brackets

_BRACKETS = (
    (r"<\|(\w+)_start\|>", r"<\|(\w+)_end\|>"),
    (r"<\|START_([A-Z]+)\|>", r"<\|END_([A-Z]+)\|>"),
    (r"<\uff5c([^\uff5c]+)\u2581begin\uff5c>", r"<\uff5c([^\uff5c]+)\u2581end\uff5c>"),
    (r"<\|([a-z_]+)>", r"<([a-z_]+)\|>"),
    (r"\[(INST|THINK|SYSTEM_PROMPT)\]", r"\[/(INST|THINK|SYSTEM_PROMPT)\]"),
    (r"<([a-z_:]+)(?:[= ][^<>|]*)?>", r"</([a-z_:]+)>"),
    (r"()\{", r"()\}"),
    (r"()\[(?![A-Z/])", r"()(?<![A-Z])\]"),
    (r"()\(", r"()\)"),
)
"""What opens and what closes in templates, with the name that both must bear."""


def unbalanced(prompt: str, text: str) -> str:
    """The first bracket or tag of ``text`` without a partner, in words; empty where there is none. What the
    end of the prompt leaves open counts as open."""
    signs, opened = [], []
    for kind, (opens, closes) in enumerate(_BRACKETS):
        signs += [(m.start(), True, (kind, m[1]), m[0]) for m in re.finditer(opens, text)]
        signs += [(m.start(), False, (kind, m[1]), m[0]) for m in re.finditer(closes, text)]
        if left_open := re.search(rf"{opens}\s*$", prompt):
            opened.append(((kind, left_open[1]), left_open[0]))
    for _, opens, sign, shown in sorted(signs):
        if opens:
            opened.append((sign, shown))
        elif not opened or opened.pop()[0] != sign:
            return f"{shown} closes what is not open"
    return f"{opened[-1][1]} is left open" if opened else ""


# The table


def main(arguments: Sequence[str]) -> None:
    """One line a fault, as it is found; then how often, by reason and kind, and the table."""
    shares = [argument for argument in arguments if re.fullmatch(r"\d+/\d+", argument)]
    number, of = map(int, shares[0].split("/")) if shares else (1, 1)
    parts = [argument for argument in arguments if argument not in shares]
    names = [name for name in sources() if not parts or any(part in name for part in parts)]
    tally: Counter[tuple[str, str]] = Counter()
    reasons: Counter[tuple[str, str]] = Counter()
    for place, name in enumerate(names):
        for kind in [*SUITE][(number - 1 + place) % of :: of]:
            try:
                found, wrong = outcome(name, kind), faults(name, kind)
            except Exception as error:  # goes on with the next pair
                found, wrong = Outcome("crash"), [f"crash: {error!r}"]
            tally[kind, found.column] += 1
            tally[kind, "wrong"] += bool(wrong)
            reasons.update((reason_of(fault), kind) for fault in wrong)
            for fault in wrong:
                print(f"{found.column} | {name} | {kind} | {fault}", flush=True)
            how = [proof.how for proof in found.proofs]
            row = (name, kind, found.column, found.law, found.what, how, wrong)
            print(json.dumps(row), file=sys.stderr, flush=True)
    print_table(tally, reasons)


def reason_of(fault: str) -> str:
    found = re.match(r"\w+(: (reasoning|content|name|key|value|description)\b)?", fault)
    assert found
    return found[0]


def print_table(tally: Mapping[tuple[str, str], int], reasons: Mapping[tuple[str, str], int]) -> None:
    columns = (*COLUMNS, "wrong")
    rows = [(kind, *(tally[kind, column] for column in columns)) for kind in SUITE]
    total = ("all", *(sum(tally[kind, column] for kind in SUITE) for column in columns))
    for row in (("", *columns), *rows, total):
        print(f"{row[0]:42}" + "".join(f"{cell:>16}" for cell in row[1:]))
    for (reason, kind), times in sorted(reasons.items()):
        print(f"{reason:30} {kind:42} {times:5}")


if __name__ == "__main__":
    logging.set_verbosity_error()
    main(sys.argv[1:])
