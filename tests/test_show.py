"""``burnish show``: each token with its message and why it is learnt, for people and for programs."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from burnish.config import load_config
from burnish.data import Conversation, Source
from burnish.errors import TemplateError
from burnish.prepare.show import ShownRow, show
from burnish.report.tokens_page import tokens_page
from burnish.template import ChatTemplate
from burnish.template.chatml import give_chatml
from burnish.tokens import encode, encode_all, fit
from burnish.tokens.view import ViewedToken, view
from conftest import byte_tokenizer, needs_shared, shared_tokenizer
from templates import SUITE, sources, tokenizer_with
from test_check import assistant, saved, user, written
from test_masks import TOY, conversation_of
from test_readme import run


def viewed(messages: list[dict[str, Any]], template: ChatTemplate | None = None) -> tuple[ViewedToken, ...]:
    template = template or ChatTemplate(byte_tokenizer())
    (example,) = encode(Conversation.from_messages(messages), template)
    return view(example, template)


def test_the_toy_conversation_by_hand() -> None:
    template = ChatTemplate(byte_tokenizer())
    (example,) = encode(conversation_of(TOY), template)
    tokens = view(example, template)
    assert [token.id for token in tokens] == example.input_ids
    assert [(token.text, token.role, token.message) for token in tokens[:5]] == [
        ("<|system|>", "system", 0),
        ("B", "system", 0),
        ("e", "system", 0),
        ("<|end|>", "system", 0),
        ("<|user|>", "user", 1),
    ]
    assert [token.message for token in tokens] == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 3 + [4] * 4
    assert [token.trained for token in tokens] == example.loss_mask
    assert [(t.text, t.why) for t in tokens[8:12]] == [
        ("<|assistant|>", "given: the model reads it"),
        ("H", "learnt: the answer"),
        ("i", "learnt: the answer"),
        ("<|end|>", "learnt: the stop token"),
    ]


def test_weights_spans_and_turns_that_are_given_say_why() -> None:
    tokens = viewed(
        [
            user("a"),
            assistant("bc", train=False),
            user("d"),
            assistant("ef", weight=0.5, spans=[{"start": 0, "end": 1, "weight": 0}]),
        ]
    )
    by_text = {token.text: token for token in tokens}
    assert by_text["b"].why == "given: not to be learnt here"
    assert by_text["e"].why == "given: a span of weight 0"
    assert (by_text["f"].why, by_text["f"].weight) == ("learnt: the answer, weight 0.5", 0.5)


def test_plain_text_belongs_to_no_message() -> None:
    template = ChatTemplate(byte_tokenizer())
    (encoded,) = encode_all([Conversation((), text="Hi", source=Source("t", 1))], template)
    tokens = view(encoded.examples[0], template)
    assert [(t.text, t.role, t.message, t.trained) for t in tokens] == [
        ("H", "text", None, False),  # nothing stands before it
        ("i", "text", None, True),
        ("<|endoftext|>", "text", None, True),
    ]


def test_a_part_of_a_row_keeps_the_numbers_of_its_messages() -> None:
    template = ChatTemplate(byte_tokenizer())
    (encoded,) = encode_all([conversation_of(TOY)], template)
    (example,) = fit(encoded, template, 12, "truncate_left").examples
    assert [token.message for token in view(example, template)] == [0] * 4 + [3] * 3 + [4] * 4


def test_a_character_of_several_tokens_stands_at_its_last() -> None:
    tokens = viewed([user("a"), assistant("\U0001f600!")])
    assert [token.text for token in tokens if token.trained] == ["", "", "", "\U0001f600", "!", "<|end|>"]


@needs_shared
@pytest.mark.parametrize("name", ["qwen2", "phi-3", "mistral_v1", "mistral_v3", "gpt2"])
def test_real_tokenizers_give_every_message_its_words(name: str) -> None:
    tokenizer = shared_tokenizer(name)
    if not tokenizer.chat_template:
        give_chatml(tokenizer)
    template = ChatTemplate(tokenizer)
    messages = [
        user("Where is Rome?"),
        assistant("In Italy \U0001f600."),
        user("And Lima?"),
        assistant("In Peru."),
    ]
    (example,) = encode(Conversation.from_messages(messages), template)
    tokens = view(example, template)
    for place, message in enumerate(messages):
        mine = [token for token in tokens if token.message == place]
        assert message["content"] in "".join(token.text for token in mine)
        assert {token.role for token in mine} == {message["role"]}
    said = "".join(token.text for token in tokens if token.trained)
    assert "In Italy \U0001f600." in said and "Lima" not in said


def shown(folder: Path, rows: list[Any], *numbers: int, **changes: Any) -> list[ShownRow]:
    config = load_config(None, [], **{"data.train": [str(written(folder, rows))]}, **changes)
    return show(config, numbers)[0]


GOOD = {"messages": [user("Where is the cat?"), assistant("On the mat.")]}
THINKS = {"messages": [user("2+2?"), assistant("4.", reasoning_content="Two and two.")]}


def test_a_row_that_breaks_a_law_is_shown_as_that(tmp_path: Path) -> None:
    good, bad = shown(tmp_path, [GOOD, THINKS])
    assert good.error is None and good.examples[0].trained == 6
    assert bad.error is not None and bad.error.law == "faithful"


def test_rows_are_chosen_by_their_number(tmp_path: Path) -> None:
    assert [row.source.rsplit(":")[-1] for row in shown(tmp_path, [GOOD, "{", THINKS, GOOD], 4, 1)] == [
        "1",
        "4",
    ]
    assert len(shown(tmp_path, [GOOD] * 5)) == 3


def test_a_shortened_row_says_so(tmp_path: Path) -> None:
    long = {"messages": [user("a " * 100), assistant("b"), *GOOD["messages"]]}
    (row,) = shown(tmp_path, [long], **{"tokens.max_length": 32})
    assert row.fate.startswith("shortened: ")


def test_json_is_an_object_a_line_with_these_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = written(tmp_path, [GOOD, GOOD])
    run(["show", str(data), "--model", "pebble", "--json"])
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["source"] == f"{data}:1" and second["source"] == f"{data}:2"
    assert set(first) == {"source", "tokens"}
    assert all(
        set(token) == {"id", "text", "trained", "weight", "role", "message"} for token in first["tokens"]
    )
    assert "".join(t["text"] for t in first["tokens"] if t["trained"]) == "On the mat.<|end|>"


def test_without_colour_the_trained_tokens_stand_in_brackets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path, [GOOD, {"messages": [user("a"), assistant("b", weight=0.5)]}])
    run(["show", str(data), "--model", "pebble"])
    said = capsys.readouterr().out
    assert "<|assistant|>⟦On the mat.<|end|>⟧" in said
    assert "<|assistant|>⟦0.5:b<|end|>⟧" in said
    assert f"6 of 14 tokens trained  {data}:1" in said


def test_a_config_shows_its_own_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = written(tmp_path, [GOOD])
    (tmp_path / "run.yaml").write_text(
        f"data: {{train: [{data}]}}\ntokens: {{train_on: none-but-marked}}\n", "utf-8"
    )
    run(["show", str(tmp_path / "run.yaml")])
    assert "nothing to learn" not in capsys.readouterr().err


class Tags(HTMLParser):
    """Collects open tags and the tokens' words; void elements close themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tips: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.tips += [value for name, value in attrs if name == "data-tip" and value]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_every_token_says_what_it_is() -> None:
    tokens = viewed([user("<script>alert(1)</script>"), assistant("No.")])
    page = tokens_page([("rows.jsonl:1", tokens)])
    reader = Tags()
    reader.feed(page)
    assert not reader.open
    assert "<script>" not in page
    assert len(reader.tips) == len(tokens)
    assert reader.tips[-1] == "id 5 · <|end|> · assistant, message 2 · weight 1 · learnt: the stop token"


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, page = written(tmp_path, [GOOD]), tmp_path / "tokens.html"
    run(["show", str(data), "--model", "pebble", "--html", str(page)])
    assert f"1 example on {page}" in capsys.readouterr().out
    assert "On" in page.read_text("utf-8")


def test_base_folders_are_read_without_weights(tmp_path: Path) -> None:
    """A folder with a tokenizer and a config is enough to show and to check."""
    saved(byte_tokenizer(), tmp_path / "base")
    (tmp_path / "base" / "config.json").write_text('{"model_type": "llama"}', "utf-8")
    (tmp_path / "base" / "model.safetensors").write_bytes(b"never read")
    (row,) = shown(tmp_path, [GOOD], **{"model.name": str(tmp_path / "base")})
    assert row.examples


ATTRIBUTED = ["system, several turns", "call and result"]


@needs_shared
@pytest.mark.parametrize("kind", ATTRIBUTED)
@pytest.mark.parametrize("nth", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_any_template_gives_every_message_its_own_words(nth: int, kind: str) -> None:
    """Whatever a template does with a conversation that is proven: each message that it renders has its words
    and no other's, and all that is learnt belongs to answers. Of every ``nth`` template."""
    messages, tools = SUITE[kind]
    conversation = Conversation.from_messages(messages, tools)
    proven, wrong = 0, []
    for name, source in list(sources().items())[ATTRIBUTED.index(kind) :: nth]:
        template = ChatTemplate(tokenizer_with(source), source_text=source)
        try:
            examples = encode(conversation, template)
        except TemplateError:
            continue
        proven += 1
        for example in examples:
            tokens = view(example, template)
            assert example.conversation is not None
            spoken = example.conversation.messages[: example.turns[-1] + 1]
            for place, message in enumerate(spoken):
                mine = "".join(token.text for token in tokens if token.message == place)
                others = [m.content for n, m in enumerate(spoken) if n != place and m.content]
                if (message.content or "get_weather") not in mine or any(text in mine for text in others):
                    wrong.append((name, place, message.role, mine))
            if any(token.trained and token.role != "assistant" for token in tokens):
                wrong.append((name, -1, "learnt", ""))
    assert proven * nth > 50 and not wrong
