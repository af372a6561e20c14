"""What rows begin with alike stands once in a batch, and nothing that is learnt changes by it."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.model.forward import flat
from burnish.tokens import Batch, TokenTable, flatten, micro_batches
from burnish.tokens import shared as shared_module
from burnish.tokens.shared import Document
from burnish.train.objective import next_token_loss
from conftest import tiny_model

Learnt = dict[tuple[tuple[int, ...], int], float]
"""(the tokens before, the token to say) -> its weight."""


def learnt(batches: list[Batch]) -> Learnt:
    """What batches ask of a model, read off their segments token by token."""
    asked: Learnt = defaultdict(float)
    for batch in batches:
        seen: dict[int, tuple[int, ...]] = {}
        ends: list[tuple[int, ...]] = []
        for segment in batch.segments:
            before = () if segment.parent is None else ends[segment.parent]
            for at in range(segment.start, segment.start + segment.length):
                assert int(batch.position_ids[at]) == len(before)
                before = (*before, int(batch.input_ids[at]))
                seen[at] = before
            ends.append(before)
        assert len(seen) == len(batch.input_ids)
        targets = zip(batch.target_positions, batch.target_ids, batch.target_weights, strict=True)
        for position, token, weight in targets:
            asked[seen[int(position)], int(token)] += float(weight)
    return asked


def wanted(documents: list[Document]) -> Learnt:
    asked: Learnt = defaultdict(float)
    for ids, weights in documents:
        for at in range(1, len(ids)):
            if weights[at]:
                asked[tuple(map(int, ids[:at])), int(ids[at])] += float(weights[at])
    return asked


def document(ids: list[int], weights: list[float] | None = None) -> Document:
    return np.array(ids, np.int32), np.array(weights or [1.0] * len(ids), np.float32)


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_module, "WORTH", 2)


def test_the_tree_of_the_docstring_by_hand() -> None:
    s, t = [1, 2], [3, 4]
    documents = [
        document([*s, 5, 6, 7]),
        document([*s, 8]),
        document(s + t + [9, 10]),
        document(s + t + [11]),
    ]
    batch = flatten(documents, share=True)
    assert [(g.start, g.length, g.parent) for g in batch.segments] == [
        (0, 2, None),  # S
        (2, 2, 0),  # T
        (4, 2, 1),
        (6, 1, 1),
        (7, 3, 0),
        (10, 1, 0),
    ]
    assert batch.input_ids.tolist() == [1, 2, 3, 4, 9, 10, 11, 5, 6, 7, 8]
    assert batch.position_ids.tolist() == [0, 1, 2, 3, 4, 5, 4, 2, 3, 4, 2]
    assert learnt([batch]) == wanted(documents)


def test_documents_that_are_equal_or_end_within_another_stand_once() -> None:
    documents = [document([1, 2, 3]), document([1, 2, 3], [0.0, 0.0, 0.5]), document([1, 2, 3, 4])]
    batch = flatten(documents, share=True)
    assert batch.input_ids.tolist() == [1, 2, 3, 4]
    assert learnt([batch]) == wanted(documents)


rows = st.lists(
    st.lists(st.integers(1, 2), min_size=1, max_size=9).map(
        lambda ids: document(ids, [0.25 * ((n + len(ids)) % 3) for n in range(len(ids))])
    ),
    min_size=1,
    max_size=9,
)


@given(rows, st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_any_rows_in_any_budget_are_learnt_as_laid_whole(documents: list[Document], budget: int) -> None:
    table = TokenTable.from_documents(documents)
    batches = micro_batches(table, range(len(table)), budget, share=True)
    assert learnt(batches) == pytest.approx(wanted(documents))
    for batch in batches:
        roots = sum(segment.parent is None for segment in batch.segments)
        assert len(batch.input_ids) <= budget or roots == len(batch.segments) == 1
    plain = micro_batches(table, range(len(table)), budget)
    assert learnt(plain) == pytest.approx(wanted(documents))
    assert sum(len(b.input_ids) for b in batches) <= sum(len(b.input_ids) for b in plain)


@given(rows)
@settings(max_examples=25, deadline=None)
def test_loss_and_gradients_are_those_of_rows_laid_whole(documents: list[Document]) -> None:
    outcomes = []
    for share in (False, True):
        model = tiny_model("llama", 11)
        batch = flatten(documents, share=share)
        loss = next_token_loss(flat(model, batch), batch)
        loss.backward()
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        outcomes.append((loss.detach(), torch.cat(gradients)))
    (loss, gradient), (shared_loss, shared_gradient) = outcomes
    torch.testing.assert_close(shared_loss, loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(shared_gradient, gradient, rtol=1e-5, atol=1e-5)
