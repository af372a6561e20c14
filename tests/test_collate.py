"""Examples to padded batches: the labels by hand, and the laws over many."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from burnish import ChatTemplate, Conversation, Example, collate, encode
from burnish.data import Source
from burnish.errors import DataError
from conftest import small_tokenizer

PAD = 6


def example(ids: list[int], weights: list[float], row: int = 1) -> Example:
    return Example(ids, weights, Source("rows.jsonl", row))


FIRST = example([7, 8, 9, 6], [0, 0, 1, 1])
SECOND = example([7, 6], [0, 1], row=2)


def test_the_batch_of_the_docstring() -> None:
    batch = collate([FIRST, SECOND], PAD)
    assert list(batch) == ["input_ids", "attention_mask", "labels"]
    assert all(tensor.dtype == torch.int64 and tensor.shape == (2, 4) for tensor in batch.values())
    assert batch["input_ids"].tolist() == [[7, 8, 9, 6], [7, 6, 6, 6]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, -100, 9, 6], [-100, 6, -100, -100]]


def test_a_trained_stop_token_stays_trained_where_it_is_the_pad_token() -> None:
    tokenizer = small_tokenizer()
    template = ChatTemplate(tokenizer)
    encoded = [
        found
        for text in ("Paris.", "Water, and ice is water that is cold.")
        for found in encode(Conversation.from_prompt("What is it?", text), template)
    ]
    stop = template.stop_ids[0]
    batch = collate(encoded, stop)
    for row, found in enumerate(encoded):
        last = len(found.input_ids) - 1
        assert batch["labels"][row, last] == stop == batch["input_ids"][row, last]
        assert batch["attention_mask"][row, last] == 1
        assert (batch["labels"][row, last + 1 :] == -100).all()


WEIGHTS = st.sampled_from([0.0, 1.0])
IDS = st.integers(0, 12)


@st.composite
def examples(draw: st.DrawFn) -> list[Example]:
    rows = draw(st.lists(st.lists(st.tuples(IDS, WEIGHTS), min_size=1, max_size=9), min_size=1, max_size=5))
    return [example([i for i, _ in row], [w for _, w in row], n) for n, row in enumerate(rows, 1)]


@given(examples(), IDS)
def test_what_is_real_and_what_is_trained_can_be_read_back(rows: list[Example], pad: int) -> None:
    batch = collate(rows, pad)
    longest = max(len(row.input_ids) for row in rows)
    assert all(tensor.shape == (len(rows), longest) for tensor in batch.values())
    for number, row in enumerate(rows):
        length = len(row.input_ids)
        assert batch["attention_mask"][number].tolist() == [1] * length + [0] * (longest - length)
        assert batch["input_ids"][number].tolist() == row.input_ids + [pad] * (longest - length)
        wanted = [
            token if weight and place else -100
            for place, (token, weight) in enumerate(zip(row.input_ids, row.weights, strict=True))
        ]
        assert batch["labels"][number].tolist() == wanted + [-100] * (longest - length)
        assert int((batch["labels"][number] != -100).sum()) == row.trained_tokens


@given(examples())
def test_rows_of_a_prepared_file_give_the_same_batch_in_whatever_form_they_come(rows: list[Example]) -> None:
    wanted = collate(rows, PAD)
    as_lists = [
        {
            "input_ids": row.input_ids,
            "labels": [i if w else -100 for i, w in zip(row.input_ids, row.weights, strict=True)],
            "source": str(row.source),
        }
        for row in rows
    ]
    as_arrays, as_tensors = (
        [{key: kind(row[key]) for key in ("input_ids", "labels")} for row in as_lists]
        for kind in (np.array, torch.tensor)
    )
    for row in as_arrays:
        row["labels"].setflags(write=False)
    for given_rows in (as_lists, as_arrays, as_tensors):
        found = collate(given_rows, PAD)
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_the_examples_stay_as_they_were() -> None:
    trained = example([3, 4], [1, 1])
    labels = torch.tensor([3, 4])
    collate([trained, {"input_ids": labels, "labels": labels}], PAD)
    assert trained.weights == [1, 1]
    assert labels.tolist() == [3, 4]


def test_nothing_is_cut_unless_it_is_asked_for() -> None:
    assert collate([FIRST], PAD)["input_ids"].shape == (1, 4)
    batch = collate([FIRST, SECOND], PAD, max_length=3)
    assert batch["input_ids"].tolist() == [[7, 8, 9], [7, 6, 6]]
    assert batch["labels"].tolist() == [[-100, -100, 9], [-100, 6, -100]]


def test_an_example_of_which_the_cut_leaves_nothing_to_learn_is_refused() -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:1 has 4 tokens; cut to 2 it has nothing to learn"):
        collate([SECOND, FIRST], PAD, max_length=2)
    given_only = dataclasses.replace(FIRST, weights=[0.0] * 4)
    assert (collate([given_only], PAD, max_length=2)["labels"] == -100).all()


WEIGHTED = example([7, 8, 9, 6], [0, 0.5, 0, 2], row=3)


def test_weights_are_refused_unless_they_are_asked_for() -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:3 has tokens that count neither 0 nor 1"):
        collate([FIRST, WEIGHTED], PAD)
    batch = collate([SECOND, WEIGHTED], PAD, loss_weights=True)
    assert batch["loss_weights"].dtype == torch.float32
    assert batch["loss_weights"].tolist() == [[0, 1, 0, 0], [0, 0.5, 0, 2]]
    assert batch["labels"].tolist() == [[-100, 6, -100, -100], [-100, 8, -100, 6]]
    row = {"input_ids": [7, 8, 9, 6], "labels": [-100, 8, -100, 6], "loss_weights": [0, 0.5, 0, 2]}
    again = collate([SECOND, row], PAD, loss_weights=True)
    assert all(torch.equal(again[key], batch[key]) for key in batch)
    with pytest.raises(DataError, match="example 1 has tokens that count neither"):
        collate([row], PAD)


def test_the_weight_of_a_first_token_is_no_reason_to_refuse() -> None:
    assert collate([example([7, 8], [0.5, 1])], PAD)["labels"].tolist() == [[-100, 8]]


@pytest.mark.parametrize(
    ("rows", "pad", "length", "says"),
    [
        ([], PAD, None, "no example to collate"),
        ([FIRST], None, None, "pad_id is None"),
        ([FIRST], -100, None, "pad_id is -100"),
        ([FIRST], True, None, "pad_id is True"),
        ([FIRST], PAD, 1, "max_length is 1"),
        ([example([], [])], PAD, None, r"rows\.jsonl:1 has no tokens"),
        (
            [{"input_ids": [1, 2]}],
            PAD,
            None,
            "example 1 has no input_ids or no labels .its keys: 'input_ids'",
        ),
        ([{"input_ids": [1, 2], "labels": [2, -100]}], PAD, None, "its labels do not fit its input_ids"),
        ([{"input_ids": [1, 2], "labels": [1]}], PAD, None, "its labels do not fit its input_ids"),
        ([{"input_ids": ["a"], "labels": [1]}], PAD, None, "example 1: its input_ids are no list of numbers"),
    ],
)
def test_what_cannot_be_a_batch_is_refused(rows: list[object], pad: int, length: int, says: str) -> None:
    with pytest.raises(DataError, match=says):
        collate(rows, pad, length)  # type: ignore[arg-type]
