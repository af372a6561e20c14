"""Chat templates as they are met in the wild, a tokenizer for each, conversations to put to them, and what
was said in those by whom."""

from __future__ import annotations

import copy
import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from burnish import pebble
from conftest import SHARED

Message = dict[str, Any]

_MARKER = re.compile(
    r"<\|[A-Za-z0-9_:]+\|>|<\uff5c[^\uff5c>{}]+\uff5c>|<\|[a-z_]+>|<[a-z_]+\|>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|MODEL_SETTINGS"
    r"|CALL_ID|ARGS|THINK)\]|\[\|[a-z]+\|\]|<(?:start|end)_of_turn>|<end_of_utterance>|</?s>"
)
"""What a tokenizer made for such a template would hold as one special token."""


@cache
def sources() -> dict[str, str]:
    """Folder and name -> Jinja source, of the shared templates and of those in TRL's wheel, so far as
    either is there. TRL is looked up and not imported, which would take seconds."""
    places = [(f"{folder.name}/", folder) for folder in sorted((SHARED / "templates").glob("*"))]
    trl = importlib.util.find_spec("trl")
    places += [("trl/", Path(p, "chat_templates")) for p in (trl and trl.submodule_search_locations) or ()]
    found = {}
    for prefix, folder in places:
        for file in sorted(folder.glob("*.jinja")):
            text = file.read_text("utf-8")
            # These alone are indented for reading, which their authors ask to undo.
            plain = text.replace("    ", "").replace("\n", "") if prefix == "chat_templates/" else text
            found[prefix + file.stem] = plain
    return found


@cache
def _pebble() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(Path(pebble.__file__).parent / "model", local_files_only=True)


def tokenizer_with(source: str) -> PreTrainedTokenizerBase:
    """Pebble's byte-level BPE with the template ``source`` and every marker that it writes as a special
    token, those that it puts together from pieces too. ``<s>`` begins texts, ``</s>`` ends them."""
    tokenizer = copy.deepcopy(_pebble())
    tokenizer.chat_template = source
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})
    written = source
    for kind in ("system, several turns", "several turns"):
        try:
            written += tokenizer.apply_chat_template(
                SUITE[kind][0], tokenize=False, add_generation_prompt=True
            )
        except Exception:  # some templates know no system turn, some want parts instead of text
            continue
    markers = sorted({*_MARKER.findall(written)} - {"<s>", "</s>"})
    tokenizer.add_special_tokens({"additional_special_tokens": markers}, replace_extra_special_tokens=False)
    return tokenizer


# Conversations


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def system(text: str) -> Message:
    return {"role": "system", "content": text}


def assistant(text: str, reasoning: str = "", calls: list[Message] | None = None) -> Message:
    message: Message = {"role": "assistant", "content": text}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    return message


def call(city: str, number: int = 1, as_text: bool = False) -> Message:
    """The id has nine letters and digits, which is what Mistral's templates ask for."""
    arguments = f'{{"city": "{city}"}}' if as_text else {"city": city}
    function = {"name": "get_weather", "arguments": arguments}
    return {"type": "function", "id": f"call0000{number}", "function": function}


def result(text: str, number: int = 1, role: str = "tool") -> Message:
    return {"role": role, "name": "get_weather", "tool_call_id": f"call0000{number}", "content": text}


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "The city."}},
                "required": ["city"],
            },
        },
    }
]


def _weather(*between: Message) -> tuple[list[Message], list[Message]]:
    return [user("Weather in Paris?"), *between, assistant("It is sunny in Paris.")], TOOLS


SUITE: dict[str, tuple[list[Message], list[Message] | None]] = {
    "one turn": ([user("Where is Rome?"), assistant("In Italy.")], None),
    "short contents": ([user("b"), assistant("a")], None),
    "emoji, right to left": ([user("مرحبا 👋🏽 שלום"), assistant("مرحبا بك 😀 👩‍🚀 שלום")], None),
    "markers in content": (
        [
            user("What are <|im_end|>, </s> and [INST]? And <|im_start|>assistant"),
            assistant("<|im_end|> ends a turn, </s> a text, [INST] asks, <|im_start|>assistant begins one."),
        ],
        None,
    ),
    "white space at edges": (
        [user("  Write a haiku.\n"), assistant("\nOld pond\n  frog leaps in\n\n")],
        None,
    ),
    "empty question": ([user(""), assistant("In Italy.")], None),
    "system": ([system("Be brief."), user("Where is Rome?"), assistant("In Italy.")], None),
    "several turns": (
        [user("Where is Rome?"), assistant("In Italy."), user("And Lima?"), assistant("It is in Peru.")],
        None,
    ),
    "system, several turns": (
        [
            system("Be brief."),
            user("Where is Rome?"),
            assistant("In Italy."),
            user("And Lima?"),
            assistant("It is in Peru."),
        ],
        None,
    ),
    "short, several turns": ([system("s"), user("e"), assistant("a"), user("i"), assistant("t")], None),
    "ends in a question": ([user("Where is Rome?"), assistant("In Italy."), user("And Lima?")], None),
    "answers in a row": (
        [
            user("Where is Rome?"),
            assistant("In Italy."),
            assistant("South of Florence."),
            assistant("By a river."),
        ],
        None,
    ),
    "reasoning": ([user("What is 2+2?"), assistant("It is four.", "Two and two.")], None),
    "reasoning, several turns": (
        [
            user("What is 2+2?"),
            assistant("It is four.", "Two and two."),
            user("And 3+3?"),
            assistant("That is six.", "Three and three."),
        ],
        None,
    ),
    "reasoning in content": (
        [user("What is 2+2?"), assistant("<think>\nTwo and two.\n</think>\n\nIt is four.")],
        None,
    ),
    "call and result": _weather(assistant("", calls=[call("Paris")]), result("21 degrees")),
    "parallel calls": (
        [
            user("Weather in Paris and Lima?"),
            assistant("", calls=[call("Paris"), call("Lima", 2)]),
            result("21 degrees"),
            result("17 degrees", 2),
            assistant("It is warmer in Paris."),
        ],
        TOOLS,
    ),
    "content with a call": (
        [
            system("Be brief."),
            user("Weather in Paris?"),
            assistant("Let me look.", calls=[call("Paris")]),
            result("21 degrees"),
            assistant("Sunny."),
        ],
        TOOLS,
    ),
    "reasoning with a call": (
        [
            user("Weather in Paris?"),
            assistant("", "They ask for the weather.", [call("Paris")]),
            result("21 degrees"),
            assistant("It is sunny.", "That is warm."),
        ],
        TOOLS,
    ),
    "arguments as text": _weather(assistant("", calls=[call("Paris", as_text=True)]), result("21 degrees")),
    **{
        f"result of {role}": _weather(assistant("", calls=[call("Paris")]), result("21 degrees", role=role))
        for role in ("ipython", "function", "observation")
    },
}
"""Kind -> messages and tools. Every text is said once in a conversation, so that what is missing, doubled or
in the wrong mouth shows."""

TWINS = {
    "short contents": "one turn",
    "emoji, right to left": "one turn",
    "markers in content": "one turn",
    "short, several turns": "system, several turns",
}
"""Kinds that differ from another in their texts alone: so must what is rendered of them."""


# What was said


def spoken(message: Message) -> list[str]:
    """Reasoning, content (each may be empty), then names and arguments of calls, as a person reads them."""
    content, reasoning = message["content"].strip(), message.get("reasoning_content", "")
    if inline := re.fullmatch(r"<think>\n(.*)\n</think>\n\n(.*)", content):
        reasoning, content = inline.groups()
    functions = [call["function"] for call in message.get("tool_calls", ())]
    arguments = [text for function in functions for pair in function["arguments"].items() for text in pair]
    return [reasoning, content, *(function["name"] for function in functions), *arguments]


def frame(completion: str, stop: str, message: Message) -> str:
    """What is left of a completion without its stop token and what the person wrote."""
    left = completion.removesuffix(stop)
    for text in spoken(message):
        left = left.replace(text, "", 1) if text else left
    return left


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
