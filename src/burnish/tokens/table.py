"""All tokens of a data set in three flat arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from burnish.tokens.example import Example


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Documents end to end: ``ids`` int32 and ``weights`` fp32 (tokens,), ``offsets`` int64 (rows + 1,).

    ``weights[i]`` is how much producing token i counts in the loss; 0 for a token that is only given.
    Flat arrays instead of objects, because a pretraining set holds tens of millions of tokens.
    """

    ids: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_examples(cls, examples: Iterable[Example]) -> TokenTable:
        return cls.from_documents(
            (np.asarray(e.input_ids, np.int32), np.asarray(e.weights, np.float32)) for e in examples
        )

    @classmethod
    def from_documents(cls, documents: Iterable[tuple[np.ndarray, np.ndarray]]) -> TokenTable:
        pairs = list(documents)
        empty_ids, empty_weights = np.zeros(0, np.int32), np.zeros(0, np.float32)
        lengths = np.array([len(ids) for ids, _ in pairs], np.int64)
        return cls(
            ids=np.concatenate([empty_ids, *(ids for ids, _ in pairs)]),
            weights=np.concatenate([empty_weights, *(weights for _, weights in pairs)]),
            offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def length(self, row: int) -> int:
        return int(self.offsets[row + 1] - self.offsets[row])

    def document(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(self.offsets[row], self.offsets[row + 1])
        return self.ids[part], self.weights[part]

    @property
    def tokens(self) -> int:
        return len(self.ids)

    @property
    def trained_tokens(self) -> int:
        """Tokens with a weight that something stands before: a first token is never predicted."""
        firsts = self.offsets[:-1][np.diff(self.offsets) > 0]
        return int(np.count_nonzero(self.weights) - np.count_nonzero(self.weights[firsts]))
