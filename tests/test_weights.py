"""How much each token counts: which turns are learnt, weights, spans, plain text, and the loss they reach.

Pebble's byte tokenizer makes every weight checkable by hand: a byte a token, 16 + its place behind '!', and
the reserved 0 end of text, 2 user, 3 assistant, 5 end of turn.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from burnish.config import load_config
from burnish.data import Conversation, read
from burnish.data.conversation import PRIVATE
from burnish.errors import DataError, TemplateError
from burnish.loss import cross_entropy
from burnish.prepare.prepare import prepare
from burnish.prepare.prepared import Prepared
from burnish.template import ChatTemplate
from burnish.template.chatml import give_chatml
from burnish.tokens import Example, TokenTable, encode, flatten
from conftest import byte_tokenizer, needs_shared, shared_tokenizer

Marks = dict[str, Any]


def user(text: str, **marks: Any) -> Marks:
    return {"role": "user", "content": text, **marks}


def assistant(text: str, **marks: Any) -> Marks:
    return {"role": "assistant", "content": text, **marks}


def span(start: int, end: int, weight: float = 0) -> Marks:
    return {"start": start, "end": end, "weight": weight}


@lru_cache
def template_named(name: str) -> ChatTemplate:
    """Pebble's on a byte tokenizer, or ChatML-lite on a real tokenizer."""
    if name == "pebble":
        return ChatTemplate(byte_tokenizer())
    tokenizer = shared_tokenizer(name)
    give_chatml(tokenizer)
    return ChatTemplate(tokenizer)


def only_example(*messages: Marks, name: str = "pebble", **options: Any) -> Example:
    (example,) = encode(Conversation.from_messages(messages), template_named(name), **options)
    return example


def trained(example: Example, name: str = "pebble") -> list[tuple[str, float]]:
    """The text of each trained token and its weight."""
    decode = template_named(name).tokenizer.decode
    pairs = zip(example.input_ids, example.weights, strict=True)
    return [(str(decode([token])), weight) for token, weight in pairs if weight]


def answer_weights(answer: str, name: str = "pebble", **marks: Any) -> list[float]:
    """The weights of an answer's tokens, its stop token the last of them."""
    plain = only_example(user("q"), assistant(answer), name=name)
    marked = only_example(user("q"), assistant(answer, **marks, train=True), name=name)
    assert marked.input_ids == plain.input_ids
    start = plain.loss_mask.index(True)
    assert not any(marked.weights[:start])
    return marked.weights[start:]


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def prepared(folder: Path, *rows: Any, **changes: Any) -> Prepared:
    """A file of rows, made ready for training on pebble's byte tokenizer; nothing is held out."""
    settings = {"data.train": [str(written(folder, *rows))], "data.held_out_share": 0.0}
    return prepare(load_config(None, [], **settings, **changes), template_named("pebble"), None)


def row(*messages: Marks) -> dict[str, Any]:
    return {"messages": list(messages)}


# Which turns are learnt

TWO = (user("a"), assistant("b"), user("c"), assistant("d"))


@pytest.mark.parametrize(
    ("train_on", "first", "last", "learnt"),
    [
        ("all", {}, {}, "b|d|"),
        ("last", {}, {}, "d|"),
        ("none-but-marked", {}, {}, ""),
        ("all", {"train": False}, {}, "d|"),
        ("all", {"train": True}, {"train": False}, "b|"),
        ("last", {"train": True}, {}, "b|d|"),
        ("last", {}, {"train": False}, ""),
        ("none-but-marked", {"train": True}, {}, "b|"),
        ("none-but-marked", {"weight": 0.5}, {"weight": 0}, "b|"),
        ("none-but-marked", {"spans": [span(0, 1, 1)]}, {"train": False}, "b|"),
    ],
)
def test_train_on_says_which_turns_are_learnt_unless_a_message_says_it_itself(
    train_on: str, first: Marks, last: Marks, learnt: str, tmp_path: Path
) -> None:
    messages = (user("a"), assistant("b", **first), user("c"), assistant("d", **last))
    examples = encode(Conversation.from_messages(messages), template_named("pebble"), train_on=train_on)
    texts = [text for example in examples for text, _ in trained(example)]
    assert "".join(texts).replace("<|end|>", "|") == learnt
    settings = {"tokens.train_on": train_on}
    other = row(user("q"), assistant("x", train=True))
    table = prepared(tmp_path, row(*messages), other, **settings).train
    assert table.trained_tokens == len(texts) + 2  # x and its stop token


def test_a_turn_that_is_not_learnt_is_read_all_the_same() -> None:
    whole, last = only_example(*TWO), only_example(*TWO, train_on="last")
    assert last.input_ids == whole.input_ids == [2, 80, 5, 3, 81, 5, 2, 82, 5, 3, 83, 5]
    assert whole.weights == [0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1]
    assert last.weights == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]


def test_what_follows_the_last_learnt_turn_is_not_read() -> None:
    example = only_example(user("a"), assistant("b"), user("c"), assistant("d", train=False))
    assert example.input_ids == [2, 80, 5, 3, 81, 5]


def test_a_turn_that_is_not_learnt_needs_no_proof() -> None:
    """The greeting has nothing before it, and the reasoning is dropped by the template: laws broken twice."""
    greeting, thinks = assistant("Hi"), assistant("b", reasoning_content="hm")
    learnt = assistant("d")
    for broken in ([greeting, user("c"), learnt], [user("a"), thinks, user("c"), learnt]):
        conversation = Conversation.from_messages(broken)
        with pytest.raises(TemplateError):
            encode(conversation, template_named("pebble"))
        (example,) = encode(conversation, template_named("pebble"), train_on="last")
        assert trained(example) == [("d", 1), ("<|end|>", 1)]


# Weights and spans, by hand


def test_a_weight_is_that_of_every_token_of_the_turn() -> None:
    example = only_example(user("a"), assistant("Hi", weight=0.3), user("b"), assistant("No"))
    assert list(zip(example.input_ids, example.weights, strict=True)) == [
        (2, 0), (80, 0), (5, 0),  # <|user|> a <|end|>
        (3, 0), (55, 0.3), (88, 0.3), (5, 0.3),  # <|assistant|> H i <|end|>
        (2, 0), (81, 0), (5, 0),  # <|user|> b <|end|>
        (3, 0), (61, 1), (94, 1), (5, 1),  # <|assistant|> N o <|end|>
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("marks", "weights"),
    [
        ({"spans": [span(0, 2)]}, [0, 0, 1, 1, 1]),  # an answer put into the model's mouth: Yes
        ({"spans": [span(3, 4)]}, [1, 1, 1, 0, 0]),  # the stop token counts as the last character does
        ({"spans": [span(3, 4, 0.5), span(0, 1)]}, [0, 1, 1, 0.5, 0.5]),  # in any order
        ({"spans": [span(1, 3, 2)], "weight": 0.25}, [0.25, 2, 2, 0.25, 0.25]),
        ({"spans": [span(1, 2, 1)], "weight": 0}, [0, 1, 0, 0, 0]),
        ({"spans": [{"start": 0, "end": 1, "train": False}]}, [0, 1, 1, 1, 1]),
        ({"spans": [{"start": 3, "end": 4, "train": True}], "train": False}, [0, 0, 0, 1, 1]),
        ({"spans": [span(0, 2), span(2, 4, 0.5)]}, [0, 0, 0.5, 0.5, 0.5]),
    ],
)
def test_characters_of_a_span_count_otherwise_than_the_rest(marks: Marks, weights: list[float]) -> None:
    """Four characters and the stop token."""
    example = only_example(user("q"), assistant("Yes!", **marks))
    assert example.input_ids == [2, 96, 5, 3, 72, 84, 98, 16, 5]
    assert example.weights == [0, 0, 0, 0, *weights]


@given(data=st.data())
def test_each_byte_has_the_weight_of_its_character(data: st.DataObject) -> None:
    characters = st.characters(
        exclude_categories=["Cs"], exclude_characters=["\N{REPLACEMENT CHARACTER}", *PRIVATE]
    )
    answer = data.draw(st.text(characters, max_size=12).map(lambda text: text + "."))
    edges = sorted(data.draw(st.sets(st.integers(0, len(answer)), max_size=6)))
    weights = st.sampled_from([0.0, 0.5, 1.0, 3.0])
    rest = data.draw(weights)
    spans = [span(a, b, data.draw(weights)) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    by_character = [rest] * len(answer)
    for item in spans:
        by_character[item["start"] : item["end"]] = [item["weight"]] * (item["end"] - item["start"])
    by_byte = [w for c, w in zip(answer, by_character, strict=True) for _ in c.encode()]
    conversation = Conversation.from_messages([user("q"), assistant(answer, weight=rest, spans=spans)])
    examples = encode(conversation, template_named("pebble"))
    if not any(item["weight"] for item in spans) and not rest:
        assert examples == []
    else:
        assert examples[0].weights == [0, 0, 0, 0, *by_byte, by_character[-1]]


@pytest.mark.parametrize("answer", ["end", "|", "n"])
def test_an_answer_that_also_stands_in_the_stop_token_is_found(answer: str) -> None:
    weights = answer_weights(answer, spans=[span(0, len(answer), 0.5)])
    assert weights == [0.5] * (len(answer) + 1)


def test_an_answer_that_also_stands_in_its_tool_call_is_found() -> None:
    tokenizer = byte_tokenizer()
    give_chatml(tokenizer)
    call = {"type": "function", "function": {"name": "go", "arguments": {"to": "Rome"}}}
    answer = assistant("Rome", tool_calls=[call], spans=[span(0, 2)])
    (example,) = encode(Conversation.from_messages([user("q"), answer]), ChatTemplate(tokenizer))
    learnt = [token for token, mark in zip(example.input_ids, example.loss_mask, strict=True) if mark]
    assert str(tokenizer.decode(learnt)).startswith("me\n<tool_call>\n")


def test_a_replacement_character_in_the_answer_is_a_character() -> None:
    assert answer_weights("\N{REPLACEMENT CHARACTER}a.", spans=[span(1, 2)]) == [1, 1, 1, 0, 1, 1]


@pytest.mark.parametrize(
    ("train_on", "learnt"),
    [("last", [("b", 1), ("d", 1), ("<|end|>", 1)]), ("none-but-marked", [("b", 1)])],
)
def test_outside_its_spans_a_message_counts_as_it_would_without_them(
    train_on: str, learnt: list[tuple[str, float]]
) -> None:
    """Only the b of the first answer is marked, so nothing else of it is learnt."""
    marked = assistant("bcd", spans=[span(0, 1, 1)])
    example = only_example(user("a"), marked, user("c"), assistant("d"), train_on=train_on)
    assert trained(example) == learnt


# Spans and tokens of several characters

REAL = ("qwen2", "gpt2", "phi-3")


@needs_shared
@pytest.mark.parametrize(
    ("name", "answer", "where", "weights"),
    [
        ("qwen2", "I 😀 you", (2, 3), [1, 0, 1, 1]),  # I, space and face, you, <|im_end|>
        ("qwen2", "👍👍 ok", (0, 2), [0, 0, 1, 1]),
        ("qwen2", "a🧑‍🚀b", (1, 4), [1, 0, 0, 0, 0, 1, 1]),  # person, two halves of a joiner, rocket
        ("gpt2", "👍👍 ok", (0, 2), [0, 0, 0, 0, 1, 1]),  # two tokens each
        ("gpt2", "ok👍", (0, 2), [0, 1, 1, 1]),
        ("phi-3", "I 😀 you", (2, 3), [1, 1, 0, 0, 0, 0, 1, 1]),  # the space, four bytes
        ("phi-3", "Hi 日本", (3, 5), [1, 1, 0, 0, 0]),
    ],
)
def test_all_tokens_of_a_character_have_its_weight(
    name: str, answer: str, where: tuple[int, int], weights: list[float]
) -> None:
    assert answer_weights(answer, name, spans=[span(*where)]) == weights


@needs_shared
@pytest.mark.parametrize("answer", ["ok 😀", "ok 语"])
def test_white_space_and_half_a_character_count_as_the_character(answer: str) -> None:
    """gpt2 writes the space and the first bytes of the character as one token."""
    weights = answer_weights(answer, "gpt2", spans=[span(3, 4)])
    assert weights == [1, *[0] * (len(weights) - 1)]


@needs_shared
@pytest.mark.parametrize("answer", ["👍👍 ok", "so 😀😀"])
def test_neighbouring_characters_of_byte_tokens_are_told_apart(answer: str) -> None:
    start = 0 if answer.startswith("👍") else 3
    weights = answer_weights(answer, "phi-3", spans=[span(start, start + 1)])
    assert weights.count(0) == 4


WORDS = st.sampled_from("the cat ran to 1984 Rome, naive (or not) well... don't x=y Straße".split())


@needs_shared
@pytest.mark.parametrize("name", REAL)
@given(words=st.lists(WORDS, min_size=1, max_size=8), data=st.data())
def test_a_span_of_whole_words_is_never_refused_and_covers_just_these(
    name: str, words: list[str], data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, len(words) - 1))
    answer, masked = " ".join(words), " ".join(words[first : last + 1])
    start = len(" ".join([*words[:first], ""]))
    example = only_example(
        user("q"), assistant(answer, spans=[span(start, start + len(masked), 0.5)]), name=name
    )
    tokenizer = template_named(name).tokenizer
    pairs = list(zip(example.input_ids, example.weights, strict=True))
    stop = template_named(name).stop_tokens[0]
    half = str(tokenizer.decode([token for token, weight in pairs if weight == 0.5])).removesuffix(stop)
    assert half.strip() == masked
    learnt = str(tokenizer.decode([token for token, weight in pairs if weight]))
    assert learnt.strip() == answer + stop


@needs_shared
@pytest.mark.parametrize("edge", [4, 5, 6])
def test_white_space_before_a_span_may_share_a_token_with_its_first_word(edge: int) -> None:
    """'Hello' ' world': the space is the second token's, whichever side of the edge it stands on."""
    span_ = span(edge, 11)
    if edge == 4:
        with pytest.raises(TemplateError, match="the token 'Hello' straddles the edge of a span"):
            answer_weights("Hello world", "gpt2", spans=[span_])
    else:
        assert answer_weights("Hello world", "gpt2", spans=[span_]) == [1, 0, 0]


@needs_shared
def test_a_prefilled_beginning_is_given_and_the_rest_is_learnt() -> None:
    for prefill in ('{"answer":', "Sure, "):
        answer = assistant(prefill + " forty two", spans=[span(0, len(prefill))])
        example = only_example(user("q"), answer, name="gpt2")
        learnt = "".join(text for text, _ in trained(example, "gpt2"))
        assert learnt.split() == ["forty", "two<|im_end|>"]


@needs_shared
def test_a_token_across_the_edge_of_a_span_is_refused_with_file_and_row(tmp_path: Path) -> None:
    path = written(tmp_path, row(*TWO), row(user("q"), assistant("Hello world", spans=[span(0, 3)])))
    config = load_config(None, [], **{"data.train": [str(path)], "data.held_out_share": 0.0})
    with pytest.raises(TemplateError) as caught:
        prepare(config, template_named("gpt2"), None)
    assert caught.value.law == "borders"
    assert caught.value.what.startswith(f"{path}:2: message 2: law 'borders' fails: the token 'Hello'")


@needs_shared
def test_no_remedy_is_named_that_leaves_the_token_across_the_edge() -> None:
    conversation = Conversation.from_messages([user("q"), assistant("Hello world", spans=[span(0, 3)])])
    with pytest.raises(TemplateError, match="straddles") as caught:
        encode(conversation, template_named("gpt2"))
    assert caught.value.remedies == ()
    assert "Move the span's edge" in caught.value.fix


def test_a_span_may_lie_on_a_special_token_that_a_person_typed() -> None:
    assert answer_weights("a<|end|>b", spans=[span(1, 8)]) == [1, *[0] * 7, 1, 1]


@pytest.mark.parametrize(
    ("where", "weights"), [((1, 2), [0, 1, 1]), ((2, 4), [1, 0, 0]), ((0, 1), [1, 1, 1])]
)
def test_spans_move_with_an_answer_whose_edges_the_template_trims(
    where: tuple[int, int], weights: list[float]
) -> None:
    """Of ' ab ' only ab is rendered, and the stop token counts as the b does."""
    tokenizer = byte_tokenizer()
    own = str(tokenizer.chat_template)
    tokenizer.chat_template = own.replace("message['content']", "message['content'] | trim")
    answer = assistant(" ab ", spans=[span(*where)])
    (example,) = encode(Conversation.from_messages([user("q"), answer]), ChatTemplate(tokenizer))
    assert example.weights == [0, 0, 0, 0, *weights]


def test_an_answer_that_also_stands_in_its_reasoning_is_found() -> None:
    template = ChatTemplate(byte_tokenizer(), remedies=["keep_reasoning"])
    answer = assistant("Hi", reasoning_content="Say Hi.", spans=[span(0, 2)])
    (example,) = encode(Conversation.from_messages([user("q"), answer]), template)
    learnt = [token for token, mark in zip(example.input_ids, example.loss_mask, strict=True) if mark]
    assert template.tokenizer.decode(learnt) == "<think>\nSay Hi.\n</think>\n\n"


@needs_shared
def test_spans_of_an_answer_that_the_tokenizer_writes_otherwise_are_refused() -> None:
    """qwen2 puts the accent and its letter together: four characters for five."""
    with pytest.raises(TemplateError, match="its spans cannot be found in the rendered turn") as caught:
        answer_weights("cafe\u0301", "qwen2", spans=[span(0, 2)])
    assert caught.value.law == "borders"


# Plain text


def test_every_token_of_plain_text_is_learnt_and_the_end_too(tmp_path: Path) -> None:
    table = prepared(tmp_path, {"text": "Hi\n"}).train
    ids, weights = table.document(0)
    assert ids.tolist() == [55, 88, 214, 0]  # H i newline <|endoftext|>
    assert weights.tolist() == [1, 1, 1, 1]
    assert table.trained_tokens == 3  # nothing stands before H to predict it from
    batch = flatten([table.document(0)])
    assert batch.target_positions.tolist() == [0, 1, 2]
    assert batch.target_ids.tolist() == [88, 214, 0]


def test_special_tokens_typed_in_plain_text_are_text(tmp_path: Path) -> None:
    ids, _ = prepared(tmp_path, {"text": "<|end|>"}).train.document(0)
    assert ids.tolist() == [43, 107, 84, 93, 83, 107, 45, 0]  # < | e n d | > <|endoftext|>


@needs_shared
@pytest.mark.parametrize(
    ("name", "begins", "ends"),
    [("qwen2", [], [151645]), ("gpt2", [], [50256]), ("mistral_v1", [], [2]), ("phi-3", [1], [32000])],
)
def test_plain_text_begins_and_ends_as_the_tokenizer_says(
    name: str, begins: list[int], ends: list[int], tmp_path: Path
) -> None:
    (conversation,) = read(written(tmp_path, {"text": "The sea is wide."}))
    tokenizer = shared_tokenizer(name)
    if not tokenizer.chat_template:
        give_chatml(tokenizer)
    (example,) = encode(conversation, ChatTemplate(tokenizer))
    own = list(tokenizer("The sea is wide.")["input_ids"])
    assert own[: len(begins)] == begins
    expected = own if own[-1:] == ends else own + ends
    assert example.input_ids == expected
    assert example.weights == [1] * len(expected)


# What is refused

BAD_MARKS = {
    "a negative weight": ({"weight": -0.5}, "weight is -0.5"),
    "no number": ({"weight": float("nan")}, "weight is nan"),
    "no end": ({"weight": float("inf")}, "weight is inf"),
    "a weight in words": ({"weight": "1"}, "weight is '1'"),
    "a weight that is a truth": ({"weight": True}, "weight is True"),
    "train in words": ({"train": "yes"}, "train is 'yes'"),
    "train as a number": ({"train": 1}, "train is 1"),
    "train with weight 0": ({"train": True, "weight": 0}, "train is True, but weight is 0"),
    "no train with a weight": ({"train": False, "weight": 0.5}, "train is False, but weight is 0.5"),
    "a span behind the end": ({"spans": [span(0, 4)]}, "of which there are 3"),
    "a span before the start": ({"spans": [span(-1, 2)]}, "a span is {'start': -1"),
    "an empty span": ({"spans": [span(1, 1)]}, "a span is"),
    "a span turned round": ({"spans": [span(2, 1)]}, "a span is"),
    "a span without an end": ({"spans": [{"start": 0}]}, "a span is"),
    "a span of halves": ({"spans": [{"start": 0, "end": 1.5, "weight": 0}]}, "a span is"),
    "a span that is a list": ({"spans": [[0, 1]]}, "a span is [0, 1]"),
    "spans that are a text": ({"spans": "0-1"}, "a span is '0-1'"),
    "spans that overlap": ({"spans": [span(0, 2), span(1, 3)]}, "spans overlap"),
    "a span with a negative weight": ({"spans": [span(0, 1, -1)]}, "a span: weight is -1"),
    "a span at odds with itself": (
        {"spans": [{"start": 0, "end": 1, "weight": 0, "train": True}]},
        "a span: train is True, but weight is 0",
    ),
    "a number that is no float": ({"weight": 10**400}, "weight is 1000"),
    "a number that is endless as fp32": ({"weight": 1e39}, "weight is 1e+39"),
    "a number that is 0 as fp32": ({"weight": 1e-50}, "weight is 1e-50"),
    "a span of truths": ({"spans": [{"start": False, "end": True, "weight": 0}]}, "a span is"),
    "spans that are a number": ({"spans": 0}, "span"),
    "spans that are an empty object": ({"spans": {}}, "span"),
    "a span with a misspelt key": ({"spans": [{"start": 0, "end": 1, "wieght": 0}]}, "span"),
}


@pytest.mark.parametrize(("marks", "says"), BAD_MARKS.values(), ids=BAD_MARKS.keys())
def test_a_bad_mark_is_refused_with_file_row_and_message(marks: Marks, says: str, tmp_path: Path) -> None:
    path = written(tmp_path, row(*TWO), row(user("q"), assistant("abc", **marks)))
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.what.startswith(f"{path}:2: message 2")
    assert says in str(caught.value)


@pytest.mark.parametrize("marks", [{"train": True}, {"weight": 0.1}, {"spans": [span(0, 1, 1)]}])
@pytest.mark.parametrize("role", ["user", "system", "tool"])
def test_only_the_assistant_can_be_learnt(role: str, marks: Marks) -> None:
    with pytest.raises(DataError, match=rf"message 1 \({role}\) is marked to be trained"):
        Conversation.from_messages([{"role": role, "content": "q", **marks}, assistant("a")])


@pytest.mark.parametrize("marks", [{"train": False}, {"weight": 0}, {"train": None, "spans": []}])
def test_that_a_question_is_not_learnt_may_be_said(marks: Marks) -> None:
    assert only_example(user("q", **marks), assistant("a")).weights == [0, 0, 0, 0, 1, 1]


# The way to the loss


def test_weights_reach_the_loss() -> None:
    """Answer Hi at weight 0.3 and its stop token at 2. The model gives H a half, the others 1 in 272."""
    example = only_example(user("q"), assistant("Hi.", weight=0.3, spans=[span(2, 3, 2)]))
    table = TokenTable.from_examples([example])
    assert table.weights.tolist() == pytest.approx([0, 0, 0, 0, 0.3, 0.3, 2, 2])
    assert table.trained_tokens == 4
    batch = flatten([table.document(0)])
    assert batch.target_positions.tolist() == [3, 4, 5, 6]
    assert batch.target_ids.tolist() == [55, 88, 29, 5]  # H i . <|end|>
    assert batch.target_weights.tolist() == pytest.approx([0.3, 0.3, 2, 2])
    logits = torch.zeros(4, 272)
    logits[0, 55] = math.log(271)  # as much as all others together
    total, count = cross_entropy(logits, batch.target_ids, batch.target_weights)
    assert float(count) == pytest.approx(0.3 + 0.3 + 2 + 2)
    assert float(total) == pytest.approx(0.3 * math.log(2) + (0.3 + 2 + 2) * math.log(272), rel=1e-6)


def test_weights_of_a_file_reach_the_batch(tmp_path: Path) -> None:
    data = prepared(
        tmp_path,
        row(user("q"), assistant("Yes", weight=0.5)),
        row(user("q"), assistant("Yes", spans=[span(0, 2)]), user("q"), assistant("No", train=False)),
        {"text": "Hi"},
    )
    batch = flatten([data.train.document(place) for place in range(3)])
    decode = template_named("pebble").tokenizer.decode
    learnt = [str(decode([token])) for token in batch.target_ids.tolist()]
    assert list(zip(learnt, batch.target_weights.tolist(), strict=True)) == [
        ("Y", 0.5), ("e", 0.5), ("s", 0.5), ("<|end|>", 0.5),
        ("s", 1), ("<|end|>", 1),
        ("i", 1), ("<|endoftext|>", 1),
    ]  # fmt: skip


ALL_MASKED = [
    row(user("q"), assistant("a", train=False)),
    row(user("q"), assistant("a", weight=0), user("r"), assistant("b", train=False)),
    row(user("q"), assistant("abc", spans=[span(0, 3)])),
    row(user("q")),
]


@pytest.mark.parametrize("masked", ALL_MASKED)
def test_a_conversation_whose_turns_are_all_masked_never_reaches_training(
    masked: dict[str, Any], tmp_path: Path
) -> None:
    data = prepared(tmp_path, masked, row(*TWO))
    assert len(data.train) == 1
    assert (data.ledger.counts["trained"], data.ledger.counts["nothing to learn"]) == (1, 1)
    assert [line["row"] for line in data.ledger.lines] == [1]
    with pytest.raises(DataError, match="no token would be trained") as caught:
        prepared(tmp_path, masked)
    assert "1 nothing to learn" in caught.value.what
