"""The loss of a hand-written loop, by hand, against torch and against the loss that burnish trains with."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from burnish import BurnishError, masked_cross_entropy
from burnish.loss import cross_entropy


def random_case(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(3, 5, 11, generator=draw)
    targets = torch.randint(11, (3, 5), generator=draw)
    return logits.to(dtype), targets, torch.rand(3, 5, generator=draw) < 0.6


def test_the_row_of_the_docstring_by_hand() -> None:
    logits = torch.tensor([[[0.0, 0.0], [0.0, math.log(3)]]])
    targets = torch.tensor([[0, 1]])
    both = masked_cross_entropy(logits, targets, torch.tensor([[1, 1]]))
    assert both.shape == ()
    assert both.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    second = masked_cross_entropy(logits, targets, torch.tensor([[False, True]]))
    assert second.item() == pytest.approx(math.log(4 / 3))
    weighted = masked_cross_entropy(logits, targets, torch.tensor([[0.5, 1.5]]))
    assert weighted.item() == pytest.approx((0.5 * math.log(2) + 1.5 * math.log(4 / 3)) / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_equals_torch_with_what_is_masked_ignored(dtype: torch.dtype) -> None:
    logits, targets, mask = random_case(dtype)
    ignored = targets.masked_fill(~mask, -100)
    wanted = functional.cross_entropy(logits.float().flatten(0, 1), ignored.flatten())
    for given in (mask, mask.long(), mask.float()):
        torch.testing.assert_close(masked_cross_entropy(logits, ignored, given), wanted)


def test_the_gradient_is_torchs_and_none_goes_to_what_is_masked() -> None:
    logits, targets, mask = random_case()
    ours, theirs = (logits.clone().requires_grad_(True) for _ in range(2))
    masked_cross_entropy(ours, targets, mask).backward()
    ignored = targets.masked_fill(~mask, -100)
    functional.cross_entropy(theirs.flatten(0, 1), ignored.flatten()).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert ours.grad is not None and (ours.grad[~mask] == 0).all() and (ours.grad[mask] != 0).any()


def test_weights_give_the_mean_that_burnish_trains_with() -> None:
    logits, targets, mask = random_case()
    weights = mask * torch.rand(3, 5, generator=torch.Generator().manual_seed(1))
    loss, count = cross_entropy(logits.flatten(0, 1), targets.flatten(), weights.flatten())
    torch.testing.assert_close(masked_cross_entropy(logits, targets, weights), loss / count)


def test_what_is_masked_is_not_read() -> None:
    logits, targets, mask = random_case()
    wanted = masked_cross_entropy(logits, targets, mask)
    logits[~mask] = math.nan
    assert torch.equal(masked_cross_entropy(logits, targets.masked_fill(~mask, 10**6), mask), wanted)


LOGITS, TARGETS, MASK = random_case()
REFUSED = {
    "the mask of shifted labels": (LOGITS, TARGETS, MASK[:, 1:], r"mask \(3, 4\) do not fit"),
    "targets that are shifted alone": (LOGITS, TARGETS[:, 1:], MASK[:, 1:], r"targets \(3, 4\)"),
    "flat logits": (LOGITS.flatten(0, 1), TARGETS, MASK, r"logits \(15, 11\)"),
    "a mask a row": (LOGITS, TARGETS, MASK[:, :1], r"mask \(3, 1\)"),
    "logits of whole numbers": (LOGITS.long(), TARGETS, MASK, "logits are torch.int64"),
    "targets that are no ids": (LOGITS, TARGETS.float(), MASK, "targets torch.float32"),
    "mask and targets exchanged": (LOGITS, MASK, TARGETS, "targets torch.bool"),
    "an empty mask": (LOGITS, TARGETS, torch.zeros(3, 5), "the mask lets no target through"),
    "no rows": (LOGITS[:0], TARGETS[:0], MASK[:0], "the mask lets no target through"),
    "a mask below 0": (LOGITS, TARGETS, MASK.float() - 0.5, "negative or not finite"),
    "a mask that is no number": (LOGITS, TARGETS, MASK * math.inf, "not finite"),
    "a target that no logit is of": (LOGITS, TARGETS + 11, MASK, "of 11 classes"),
    "an ignored target under the mask": (LOGITS, TARGETS * 0 - 100, MASK, "a target under the mask is -100"),
    "two devices": (LOGITS, TARGETS.to("meta"), MASK, "targets on meta"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused(case: tuple[Tensor, Tensor, Tensor, str]) -> None:
    logits, targets, mask, says = case
    with pytest.raises(BurnishError, match=says):
        masked_cross_entropy(logits, targets, mask)
