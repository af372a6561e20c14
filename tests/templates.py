"""Chat templates as they are met in the wild, a tokenizer for each, and conversations to put to them."""

from __future__ import annotations

import copy
import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import Any

from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerBase

from burnish import pebble
from conftest import SHARED
from own_templates import OWN, WITH_MARKERS

Message = dict[str, Any]

_MARKER = re.compile(
    r"<\|[A-Za-z0-9_:]+\|>|<\uff5c[^\uff5c>{}]+\uff5c>|<\|[a-z_]+>|<[a-z_]+\|>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|MODEL_SETTINGS"
    r"|CALL_ID|ARGS|THINK)\]|\[\|[a-z]+\|\]|<(?:start|end)_of_turn>|<end_of_utterance>|</?s>|\[gMASK\]|<sop>"
)
"""What a tokenizer made for such a template would hold as one special token."""


_TAG = re.compile(r"</?(?:think|tool_call|tool_response|arg_key|arg_value)>")
"""What Qwen's and GLM's tokenizers hold as one token that is not special."""

ADDED = ", added"
"""Behind the name of a template: its markers are added tokens that are not special."""


@cache
def sources() -> dict[str, str]:
    """Folder and name -> Jinja source: ``own/``, and the shared templates and those in TRL's wheel, so far as
    either is there. TRL is looked up and not imported, which would take seconds."""
    places = [(f"{folder.name}/", folder) for folder in sorted((SHARED / "templates").glob("*"))]
    trl = importlib.util.find_spec("trl")
    places += [("trl/", Path(p, "chat_templates")) for p in (trl and trl.submodule_search_locations) or ()]
    found = {f"own/{name}": source for name, source in OWN.items()}
    found |= {f"own/{name}{ADDED}": OWN[name] for name in WITH_MARKERS}
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


def tokenizer_of(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer for the template of this name, as its name says."""
    return tokenizer_with(sources()[name], special=not name.endswith(ADDED))


def tokenizer_with(source: str, special: bool = True) -> PreTrainedTokenizerBase:
    """Pebble's byte-level BPE with the template ``source`` and every marker that it writes as one token,
    those that it puts together from pieces too: ``special``, or merely added as tags are. ``<s>`` begins
    texts, ``</s>`` ends them."""
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
    tags = sorted({*_TAG.findall(source)})
    if special:
        tokenizer.add_special_tokens(
            {"additional_special_tokens": markers}, replace_extra_special_tokens=False
        )
    else:
        tags = [*markers, *tags]
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    return tokenizer


# Conversations

Row = tuple[list[Message], list[Message] | None]
"""Messages and tools, as a row of a data set holds them."""


def user(text: str | list[Message]) -> Message:
    return {"role": "user", "content": text}


def system(text: str | list[Message]) -> Message:
    return {"role": "system", "content": text}


def assistant(
    text: str | list[Message], reasoning: str = "", calls: list[Message] | None = None, **more: Any
) -> Message:
    message: Message = {"role": "assistant", "content": text, **more}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    return message


def parts(*texts: str) -> list[Message]:
    """A content given as text parts."""
    return [{"type": "text", "text": text} for text in texts]


def call_of(name: str, arguments: dict[str, Any] | str, number: int = 1) -> Message:
    """The id has nine letters and digits, which is what Mistral's templates ask for."""
    function = {"name": name, "arguments": arguments}
    return {"type": "function", "id": f"call0000{number}", "function": function}


def call(city: str, number: int = 1, as_text: bool = False) -> Message:
    return call_of("get_weather", f'{{"city": "{city}"}}' if as_text else {"city": city}, number)


def result(text: str, number: int = 1, role: str = "tool", name: str = "get_weather") -> Message:
    return {"role": role, "name": name, "tool_call_id": f"call0000{number}", "content": text}


def with_ids(messages: list[Message], prefix: str) -> list[Message]:
    """The messages with other call ids, in calls and results alike."""
    changed = []
    for message in messages:
        more = {}
        if calls := message.get("tool_calls"):
            more["tool_calls"] = [{**call, "id": prefix + call["id"][-1]} for call in calls]
        if number := message.get("tool_call_id"):
            more["tool_call_id"] = prefix + number[-1]
        changed.append({**message, **more})
    return changed


def tool_of(name: str, says: str, **properties: str) -> Message:
    """A tool whose parameters are texts. ``properties``: name -> description."""
    described = {key: {"type": "string", "description": words} for key, words in properties.items()}
    schema = {"type": "object", "properties": described, "required": [*described]}
    return {"type": "function", "function": {"name": name, "description": says, "parameters": schema}}


WEATHER = tool_of("get_weather", "The weather in a city.", city="The city.")
FORECAST = tool_of("get_weather_forecast", "What the sky will do.", town="The place.", day="The date.")
TOOLS = [WEATHER]


def _weather(*between: Message) -> Row:
    return [user("Weather in Paris?"), *between, assistant("It is sunny in Paris.")], TOOLS


def _two_calls(*calls: Message, tools: list[Message] = TOOLS) -> Row:
    names = [call["function"]["name"] for call in calls]
    return [
        user("Weather in Paris and Lima?"),
        assistant("", calls=list(calls)),
        result("21 degrees", name=names[0]),
        result("17 degrees", 2, name=names[1]),
        assistant("It is warmer in Paris."),
    ], tools


SUITE: dict[str, Row] = {
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
    "tags in content": (
        [
            user("What are <tool_call>, </think> and <arg_value>?"),
            assistant("<tool_call> opens a call, <arg_value> a value."),
        ],
        None,
    ),
    "white space at edges": (
        [user("  Write a haiku.\n"), assistant("\nOld pond\n  frog leaps in\n\n")],
        None,
    ),
    "empty question": ([user(""), assistant("In Italy.")], None),
    "name of a channel": (
        [user("Which round?"), assistant("final it is", spans=[{"start": 0, "end": 5, "weight": 0.5}])],
        None,
    ),
    "nothing but the name of a channel": (
        [
            user("Which round?"),
            assistant("final", "They ask for one.", spans=[{"start": 0, "end": 5, "weight": 0.5}]),
        ],
        None,
    ),
    "system": ([system("Be brief."), user("Where is Rome?"), assistant("In Italy.")], None),
    "several turns": (
        [user("Where is Rome?"), assistant("In Italy."), user("And Lima?"), assistant("It is in Peru.")],
        None,
    ),
    "past answer not learnt": (
        [
            user("Where is Rome?"),
            assistant("In Italy.", train=False),
            user("And Lima?"),
            assistant("It is in Peru."),
        ],
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
    # Contents given as parts
    "a part": ([user(parts("Where is Rome?")), assistant(parts("In Italy."))], None),
    "several parts": (
        [
            system(parts("Be", " brief.")),
            user(parts("Where is", " Rome?")),
            assistant(parts("In It", "aly.")),
            user(parts("And ", "Lima?")),
            assistant(parts("It is in", " Peru.")),
        ],
        None,
    ),
    # Reasoning
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
    "reasoning within the answer": ([user("What is 2+2?"), assistant("Four it is.", "Four")], None),
    "reasoning within answers": (
        [
            user("What is 2+2?"),
            assistant("Four it is.", "Four"),
            user("And 3+3?"),
            assistant("Then six it is.", "six"),
        ],
        None,
    ),
    "reasoning is the answer": ([user("What is 2+2?"), assistant("Four", "Four")], None),
    "reasoning in a row": (
        [
            user("What is 2+2?"),
            assistant("It is four.", "Two and two."),
            assistant("Surely.", "They may doubt it."),
            assistant("Ask on.", "That was short."),
        ],
        None,
    ),
    "empty thought": ([user("What is 2+2?"), assistant("It is four.", reasoning_content="")], None),
    "empty thought in content": (
        [user("What is 2+2?"), assistant("<think>\n\n</think>\n\nIt is four.")],
        None,
    ),
    # Tools
    "call and result": _weather(assistant("", calls=[call("Paris")]), result("21 degrees")),
    "parallel calls": _two_calls(call("Paris"), call("Lima", 2)),
    "one call twice": _two_calls(call("Paris"), call("Paris", 2)),
    "two functions": _two_calls(
        call("Paris"),
        call_of("get_weather_forecast", {"town": "Lima", "day": "Monday"}, 2),
        tools=[WEATHER, FORECAST],
    ),
    "two functions, the longer name first": _two_calls(
        call_of("get_weather_forecast", {"town": "Paris", "day": "Monday"}),
        call("Lima", 2),
        tools=[FORECAST, WEATHER],
    ),
    "a tool's name begins another's": (
        [
            user("Sky over Lima?"),
            assistant("", calls=[call_of("get_weather_forecast", {"town": "Lima", "day": "Monday"})]),
            result("clouds", name="get_weather_forecast"),
            assistant("It will be grey."),
        ],
        [WEATHER, FORECAST],
    ),
    "tools and no call": ([user("Where is Rome?"), assistant("In Italy.")], [WEATHER, FORECAST]),
    "tools named in the question": (
        [user("What does get_weather do? And what is its city?"), assistant("It looks at the sky.")],
        TOOLS,
    ),
    "a tool named in the question and called": (
        [
            user("Give get_weather the city Paris."),
            assistant("", calls=[call("Paris")]),
            result("21 degrees"),
            assistant("It is sunny."),
        ],
        TOOLS,
    ),
    "a call quoted in content": _weather(
        assistant("I ask get_weather for the city Paris.", calls=[call("Paris")]), result("21 degrees")
    ),
    "a call quoted in thought": _weather(
        assistant("", "I need get_weather with the city Paris.", [call("Paris")]), result("21 degrees")
    ),
    "past call not learnt": _weather(
        assistant("", calls=[call("Paris")], train=False), result("21 degrees in Paris by get_weather, city")
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
    "a call, then another question": (
        [
            system("Be brief."),
            user("Weather in Paris?"),
            assistant("", "They ask for the weather.", [call("Paris")]),
            result("21 degrees"),
            assistant("It is sunny.", "That is warm."),
            user("And in Lima?"),
            assistant("", "Once more, then.", [call("Lima", 2)]),
            result("17 degrees", 2),
            assistant("It is mild.", "That is less."),
        ],
        TOOLS,
    ),
    "arguments as text": _weather(assistant("", calls=[call("Paris", as_text=True)]), result("21 degrees")),
    "nested arguments": _weather(
        assistant(
            "",
            calls=[
                call_of(
                    "get_weather",
                    {
                        "city": {"named": "Paris", "also": ["Lutetia", "Lutèce"]},
                        "days": 3,
                        "in": 'the "old" & <new>',
                    },
                )
            ],
        ),
        result('{"degrees": 21, "sky": "blue"}'),
    ),
    "short names": (
        [
            user("c"),
            assistant("", calls=[call_of("a", {"b": 1})]),
            result("d", name="a"),
            assistant("e"),
        ],
        [tool_of("a", "f", b="g")],
    ),
    "special tokens in names": (
        [
            user("Weather in Paris?"),
            assistant("", calls=[call_of("get_weather", {"</s>": "Paris", "<|im_end|>": "now"})]),
            result("21 degrees"),
            assistant("It is sunny."),
        ],
        [tool_of("get_weather", "The weather in a city.", **{"</s>": "The city.", "<|im_end|>": "When."})],
    ),
    "call ids of other lengths": (
        with_ids(_two_calls(call("Paris"), call("Lima", 2))[0], "call_"),
        TOOLS,
    ),
    **{
        f"result of {role}": _weather(assistant("", calls=[call("Paris")]), result("21 degrees", role=role))
        for role in ("ipython", "function", "observation")
    },
}
"""Kind -> row."""
