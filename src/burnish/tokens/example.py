"""Token ids with the ones to learn marked."""

from __future__ import annotations

from dataclasses import dataclass, field

from burnish.data import Conversation, Source


@dataclass(frozen=True)
class Example:
    """What the model reads: ``weights[i]`` is how much producing token i counts in the loss, 0 for a
    token that is only given.

    Both lists have the same length. The shift to positions that predict happens in ``Batch``.
    ``turns``: the places of the messages that are learnt, in ``conversation``, from which the example was
    rendered (a part of the row, where that was too long); ``places``: those of its messages in the row,
    where it is a part.
    """

    input_ids: list[int]
    weights: list[float]
    source: Source
    turns: tuple[int, ...] = ()
    conversation: Conversation | None = field(default=None, repr=False, compare=False)
    places: tuple[int, ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        assert len(self.input_ids) == len(self.weights)

    @property
    def loss_mask(self) -> list[bool]:
        """Whether each token is one to learn to produce."""
        return [weight > 0 for weight in self.weights]

    @property
    def trained_tokens(self) -> int:
        first = bool(self.weights) and self.weights[0] > 0  # nothing stands before it to predict it from
        return len(self.weights) - self.weights.count(0) - first
