"""Cross-entropy against a hand calculation, against torch and against its derivative."""

from __future__ import annotations

import math
from importlib import import_module

import pytest
import torch
from torch.nn import functional

from burnish.loss import Rows, cross_entropy, linear_cross_entropy


def random_case(rows: int = 7, vocabulary: int = 11) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(rows, vocabulary, generator=draw)
    targets = torch.randint(vocabulary, (rows,), generator=draw)
    return logits, targets, 2 * torch.rand(rows, generator=draw)


def test_the_two_rows_of_the_docstring_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    loss, count = cross_entropy(logits, torch.tensor([0, 1]), torch.tensor([1.0, 2.0]))
    assert loss.item() == pytest.approx(math.log(2) + 2 * math.log(4 / 3))
    assert count.item() == 3.0


def test_equals_torch_on_random_input() -> None:
    logits, targets, weights = random_case()
    loss, count = cross_entropy(logits, targets, torch.ones(7))
    torch.testing.assert_close(loss, functional.cross_entropy(logits, targets, reduction="sum"))
    assert count.item() == 7
    weighted, total = cross_entropy(logits, targets, weights)
    each = -torch.log_softmax(logits, dim=-1)[torch.arange(7), targets]
    torch.testing.assert_close(weighted, (weights * each).sum())
    torch.testing.assert_close(total, weights.sum())


def test_the_gradient_is_the_weighted_softmax_less_one_hot() -> None:
    logits, targets, weights = random_case()
    logits.requires_grad_(True)
    cross_entropy(logits, targets, weights)[0].backward()
    by_hand = torch.softmax(logits.detach(), dim=-1) - functional.one_hot(targets, 11)
    torch.testing.assert_close(logits.grad, weights[:, None] * by_hand)


def test_the_gradient_is_that_of_finite_differences() -> None:
    logits, targets, weights = random_case(3, 4)
    logits.requires_grad_(True)
    cross_entropy(logits, targets, weights)[0].backward()
    assert logits.grad is not None
    nudge = 1e-2
    for row in range(3):
        for column in range(4):
            up, down = logits.detach().clone(), logits.detach().clone()
            up[row, column] += nudge
            down[row, column] -= nudge
            slope = (cross_entropy(up, targets, weights)[0] - cross_entropy(down, targets, weights)[0]) / (
                2 * nudge
            )
            assert slope.item() == pytest.approx(logits.grad[row, column].item(), abs=1e-3)


def test_a_row_of_weight_zero_does_not_count() -> None:
    logits, targets, weights = random_case()
    weights[3] = 0.0
    rest = [0, 1, 2, 4, 5, 6]
    with_it = cross_entropy(logits, targets, weights)
    without = cross_entropy(logits[rest], targets[rest], weights[rest])
    torch.testing.assert_close(with_it, without)


def test_the_sum_over_parts_is_the_sum_over_the_whole() -> None:
    logits, targets, weights = random_case()
    whole, count = cross_entropy(logits, targets, weights)
    parts = [cross_entropy(logits[part], targets[part], weights[part]) for part in (slice(3), slice(3, None))]
    torch.testing.assert_close(parts[0][0] + parts[1][0], whole)
    torch.testing.assert_close(parts[0][1] + parts[1][1], count)


def test_no_rows_give_nothing() -> None:
    empty = torch.zeros(0, 5, requires_grad=True)
    loss, count = cross_entropy(empty, torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    loss.backward()
    assert (loss.item(), count.item()) == (0.0, 0.0)


def test_bf16_logits_get_an_fp32_softmax() -> None:
    """50,000 equal logits: summed in bf16 the partition function would stick at 256."""
    logits = torch.zeros(2, 50_000, dtype=torch.bfloat16)
    loss, _ = cross_entropy(logits, torch.tensor([0, 1]), torch.ones(2))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(2 * math.log(50_000), rel=1e-5)


def test_bf16_logits_lose_nothing_but_their_own_rounding() -> None:
    logits, targets, weights = random_case()
    rounded = logits.bfloat16()
    torch.testing.assert_close(
        cross_entropy(rounded, targets, weights)[0], cross_entropy(rounded.float(), targets, weights)[0]
    )


def test_large_logits_stay_finite() -> None:
    loss, _ = cross_entropy(torch.tensor([[1e4, -1e4]]), torch.tensor([1]), torch.ones(1))
    assert loss.item() == pytest.approx(2e4)


# The head and its loss in chunks


@pytest.mark.parametrize("rows", [0, 1, 7, 300])
@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("cached", [None, 4 * 20 * 5])
@pytest.mark.parametrize("evenly", [False, True])
@pytest.mark.parametrize("tail", [{}, {"scale": 0.5}, {"softcap": 3.0}, {"scale": 2.0, "softcap": 5.0}])
def test_chunks_give_the_loss_and_all_gradients_of_the_whole(
    rows: int,
    chunk: int | None,
    cached: int | None,
    evenly: bool,
    tail: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``cached``: five rows at a time between the products of a chunk."""
    if cached:
        monkeypatch.setattr(import_module("burnish.loss.linear_cross_entropy"), "CACHED", cached)
    torch.manual_seed(0)
    hidden, weight, bias = (torch.randn(*shape, requires_grad=True) for shape in ((rows, 8), (20, 8), (20,)))
    targets, weights = torch.randint(0, 20, (rows,)), torch.ones(rows) if evenly else torch.rand(rows)
    logits = (hidden @ weight.T + bias) * tail.get("scale", 1.0)
    if "softcap" in tail:
        logits = tail["softcap"] * torch.tanh(logits / tail["softcap"])
    whole = 0.3 * cross_entropy(logits, targets, weights)[0]
    expected = torch.autograd.grad(whole, (hidden, weight, bias))
    in_chunks = 0.3 * linear_cross_entropy(hidden, weight, targets, weights, bias=bias, chunk=chunk, **tail)
    torch.testing.assert_close(in_chunks, whole, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(torch.autograd.grad(in_chunks, (hidden, weight, bias)), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_target_that_the_model_holds_impossible_has_its_loss_and_slope() -> None:
    """Its share, e to the minus 400, is no fp32 number but 0."""
    weight = torch.tensor([[400.0], [0.0], [390.0]])
    hidden = torch.tensor([[1.0], [1.0]], requires_grad=True)
    targets, weights, bias = torch.tensor([1, 2]), torch.tensor([0.5, 2.0]), torch.zeros(3)
    whole = cross_entropy(hidden @ weight.T, targets, weights)[0]
    (expected,) = torch.autograd.grad(whole, hidden)
    loss = linear_cross_entropy(hidden, weight, targets, weights, bias=bias)
    assert loss.item() == pytest.approx(0.5 * 400 + 2 * 10, rel=1e-4)
    torch.testing.assert_close(torch.autograd.grad(loss, hidden)[0], expected)


def test_only_the_rows_that_are_trained_get_a_gradient() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(5, 8, requires_grad=True), torch.randn(20, 8, requires_grad=True)
    targets, weights = torch.tensor([3, 7, 0, 19, 3]), torch.rand(5)
    numbers = torch.tensor([3, 19])
    values = weight[numbers].detach().requires_grad_()
    (whole,) = torch.autograd.grad(cross_entropy(hidden @ weight.T, targets, weights)[0], weight)
    loss = linear_cross_entropy(hidden, weight, targets, weights, rows=Rows(numbers, values), chunk=2)
    loss.backward()
    assert weight.grad is None
    torch.testing.assert_close(values.grad, whole[numbers])


def test_a_frozen_head_in_bf16_gives_the_slope_of_the_states_alone() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(40, 16).bfloat16().requires_grad_()
    weight = torch.randn(50, 16).bfloat16()
    targets, weights = torch.randint(0, 50, (40,)), torch.ones(40)
    linear_cross_entropy(hidden, weight, targets, weights).backward()
    exact = hidden.detach().float().requires_grad_()
    cross_entropy(exact @ weight.float().T, targets, weights)[0].backward()
    assert hidden.grad is not None and exact.grad is not None
    torch.testing.assert_close(hidden.grad.float(), exact.grad, rtol=0.05, atol=0.05)
    with torch.no_grad():
        assert linear_cross_entropy(hidden, weight, targets, weights).isfinite()
