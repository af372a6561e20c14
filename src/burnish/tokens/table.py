"""All tokens of a data set in three flat arrays."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

import numpy as np

from burnish.tokens.example import Example

Tokens = np.ndarray | list[int]
Weights = np.ndarray | list[float]


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Documents end to end: ``ids`` int32 and ``weights`` fp32 (tokens,), ``offsets`` int64 (rows + 1,).

    ``weights[i]`` is how much producing token i counts in the loss; 0 for a token that is only given.
    Flat arrays instead of objects, because a pretraining set holds tens of millions of tokens. They may be
    mapped from files, and are not to be written to.
    """

    ids: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_examples(cls, examples: Iterable[Example]) -> TokenTable:
        return cls.from_documents((example.input_ids, example.weights) for example in examples)

    @classmethod
    def from_documents(cls, documents: Iterable[tuple[Tokens, Weights]]) -> TokenTable:
        table = GrowingTable(BytesIO(), BytesIO())
        for ids, weights in documents:
            table.add(ids, weights)
        return table.in_memory()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def length(self, row: int) -> int:
        return int(self.offsets[row + 1] - self.offsets[row])

    def document(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(self.offsets[row], self.offsets[row + 1])
        return self.ids[part], self.weights[part]

    def weight(self, row: int) -> float:
        """How much a row counts in the loss: a first token is never predicted."""
        return float(self.document(row)[1][1:].sum())

    @property
    def longest(self) -> int:
        """Tokens of the longest document."""
        return int(np.diff(self.offsets).max())

    @property
    def tokens(self) -> int:
        return len(self.ids)

    @property
    def trained_tokens(self) -> int:
        """Tokens with a weight that something stands before."""
        firsts = self.offsets[:-1][np.diff(self.offsets) > 0]
        return int(np.count_nonzero(self.weights) - np.count_nonzero(self.weights[firsts]))


class GrowingTable:
    """A table that is made a document at a time. ``ids`` and ``weights`` are files open for writing, or
    ``BytesIO``: so a large table need never be in memory. Both get raw arrays, no header.
    """

    def __init__(self, ids: BinaryIO, weights: BinaryIO) -> None:
        self.ids, self.weights = ids, weights
        self._ends = array("q", [0])

    def add(self, ids: Tokens, weights: Weights) -> None:
        assert len(ids) == len(weights)
        self._ends.append(self._ends[-1] + len(ids))
        self.ids.write(np.asarray(ids, np.int32).tobytes())
        self.weights.write(np.asarray(weights, np.float32).tobytes())

    @property
    def offsets(self) -> np.ndarray:
        return np.array(self._ends, np.int64)

    def in_memory(self) -> TokenTable:
        """The finished table, where both files are ``BytesIO``."""
        assert isinstance(self.ids, BytesIO) and isinstance(self.weights, BytesIO)
        return TokenTable(
            ids=np.frombuffer(self.ids.getbuffer(), np.int32),
            weights=np.frombuffer(self.weights.getbuffer(), np.float32),
            offsets=self.offsets,
        )
