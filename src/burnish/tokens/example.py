"""Token ids with the ones to learn marked."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.data import Source


@dataclass(frozen=True)
class Example:
    """What the model reads: ``loss_mask[i]`` says that token i is one to learn to produce.

    Both lists have the same length. The shift to positions that predict happens in ``Batch``.
    """

    input_ids: list[int]
    loss_mask: list[bool]
    source: Source

    def __post_init__(self) -> None:
        assert len(self.input_ids) == len(self.loss_mask)

    @property
    def trained_tokens(self) -> int:
        return sum(self.loss_mask[1:])
