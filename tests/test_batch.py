"""From examples to flat batches: nothing lost, nothing twice, the shift in one place."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.data import Source
from burnish.tokens import Example, Order, Segment, TokenTable, flatten, micro_batches


def document(ids: list[int], weights: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(ids, np.int32), np.array(weights, np.float32)


def test_the_toy_of_the_docstring_by_hand() -> None:
    batch = flatten([document([7, 8, 9], [0, 1, 1]), document([7, 6], [0, 1])])
    assert batch.input_ids.tolist() == [7, 8, 9, 7, 6]
    assert batch.position_ids.tolist() == [0, 1, 2, 0, 1]
    assert batch.segments == (Segment(0, 3), Segment(3, 2))
    assert batch.target_positions.tolist() == [0, 1, 3]
    assert batch.target_ids.tolist() == [8, 9, 6]
    assert batch.target_weights.tolist() == [1.0, 1.0, 1.0]


def test_a_first_token_is_never_a_target() -> None:
    batch = flatten([document([5, 6], [1, 1]), document([7], [1]), document([8, 9], [1, 0])])
    assert batch.target_ids.tolist() == [6]
    assert batch.target_positions.tolist() == [0]


def test_weights_stay_with_their_tokens() -> None:
    batch = flatten([document([1, 2, 3, 4], [0, 0.5, 0, 2])])
    assert list(zip(batch.target_ids.tolist(), batch.target_weights.tolist(), strict=True)) == [
        (2, 0.5),
        (4, 2.0),
    ]


def test_flatten_leaves_the_table_as_it_is() -> None:
    table = TokenTable.from_documents([document([1, 2], [1, 1])])
    flatten([table.document(0)])
    assert table.weights.tolist() == [1, 1]


TOKEN = st.tuples(st.integers(0, 99), st.sampled_from([0.0, 1.0]))
DOCUMENTS = st.lists(st.lists(TOKEN, min_size=1, max_size=12), min_size=1, max_size=15)


def table_of(rows: list[list[tuple[int, float]]]) -> TokenTable:
    return TokenTable.from_documents(document([i for i, _ in row], [w for _, w in row]) for row in rows)


@given(DOCUMENTS, st.integers(1, 60))
def test_micro_batches_hold_every_row_exactly_once_under_any_budget(
    rows: list[list[tuple[int, float]]], budget: int
) -> None:
    table = table_of(rows)
    batches = micro_batches(table, range(len(table)), budget)
    found = [
        tuple(batch.input_ids[s.start : s.start + s.length].tolist())
        for batch in batches
        for s in batch.segments
    ]
    assert sorted(found) == sorted(tuple(i for i, _ in row) for row in rows)
    for batch in batches:
        assert len(batch.input_ids) <= budget or len(batch.segments) == 1


@given(DOCUMENTS, st.integers(1, 60))
def test_the_budget_changes_neither_targets_nor_their_count(
    rows: list[list[tuple[int, float]]], budget: int
) -> None:
    table = table_of(rows)
    targets = [
        (int(i), float(w))
        for batch in micro_batches(table, range(len(table)), budget)
        for i, w in zip(batch.target_ids, batch.target_weights, strict=True)
    ]
    by_hand = [(i, w) for row in rows for i, w in row[1:] if w]
    assert sorted(targets) == sorted(by_hand)
    assert table.trained_tokens == len(by_hand)


@given(DOCUMENTS)
def test_a_target_is_the_token_behind_the_position_that_predicts_it(
    rows: list[list[tuple[int, float]]],
) -> None:
    table = table_of(rows)
    batch = flatten([table.document(row) for row in range(len(table))])
    behind = batch.target_positions + 1
    assert batch.input_ids[behind].tolist() == batch.target_ids.tolist()
    assert (batch.position_ids[behind] == batch.position_ids[batch.target_positions] + 1).all()


def test_a_row_longer_than_the_budget_stands_alone() -> None:
    table = TokenTable.from_documents([document([1] * n, [1] * n) for n in (2, 9, 3, 2)])
    lengths = [[s.length for s in batch.segments] for batch in micro_batches(table, range(4), 5)]
    assert lengths == [[9], [3], [2, 2]]


def test_micro_batches_are_about_equal_in_size() -> None:
    table = TokenTable.from_documents([document([1] * n, [1] * n) for n in (6, 5, 4, 3, 2, 2)])
    lengths = [[s.length for s in batch.segments] for batch in micro_batches(table, range(6), 16)]
    assert lengths == [[6, 3, 2], [5, 4, 2]]


def test_a_step_takes_only_the_rows_it_is_given() -> None:
    table = TokenTable.from_documents([document([n, n], [0, 1]) for n in range(10)])
    (batch,) = micro_batches(table, [7, 2], 100)
    assert batch.target_ids.tolist() == [2, 7]


def test_the_table_counts_and_gives_back_its_documents() -> None:
    examples = [
        Example([4, 5, 6], [False, True, True], Source("a.jsonl", 1)),
        Example([7], [True], Source("a.jsonl", 2)),
        Example([8, 9], [True, True], Source("a.jsonl", 3)),
    ]
    table = TokenTable.from_examples(examples)
    assert (len(table), table.tokens, table.trained_tokens) == (3, 6, 3)
    assert [table.length(row) for row in range(3)] == [3, 1, 2]
    assert table.trained_tokens == sum(example.trained_tokens for example in examples)
    for row, example in enumerate(examples):
        ids, weights = table.document(row)
        assert ids.tolist() == example.input_ids
        assert weights.tolist() == [float(marked) for marked in example.loss_mask]


def test_an_empty_table_is_empty() -> None:
    table = TokenTable.from_examples([])
    assert (len(table), table.tokens, table.trained_tokens) == (0, 0, 0)


def test_ids_and_mask_must_be_of_one_length() -> None:
    with pytest.raises(AssertionError):
        Example([1, 2], [True], Source())


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 3), st.integers(0, 3))
def test_every_epoch_is_a_permutation_of_all_rows(rows: int, batch_size: int, seed: int, epoch: int) -> None:
    order = Order(rows, batch_size, seed)
    assert order.steps_per_epoch == math.ceil(rows / batch_size)
    first = epoch * order.steps_per_epoch
    steps = [order.step(first + step) for step in range(order.steps_per_epoch)]
    assert sorted(row for step in steps for row in step) == list(range(rows))
    assert all(len(step) == batch_size for step in steps[:-1])


def test_a_step_is_a_function_of_seed_and_step_alone() -> None:
    forward = [Order(30, 4, seed=1).step(step) for step in range(20)]
    order = Order(30, 4, seed=1)
    assert [order.step(step) for step in reversed(range(20))] == forward[::-1]
    assert forward != [Order(30, 4, seed=2).step(step) for step in range(20)]


def test_epochs_differ_in_their_order() -> None:
    order = Order(30, 30, seed=0)
    assert order.step(0) != order.step(1)
