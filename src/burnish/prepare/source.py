"""The files of a run: the rows that can be read, and which of them are held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from burnish.config import DataConfig
from burnish.curate.split import held_out_rows, prompt_hash
from burnish.data import Conversation
from burnish.data.read import BadRow, each_row, summarised
from burnish.prepare.ledger import READ, REJECTED, Ledger


@dataclass(frozen=True)
class DataSource:
    """Files to train on and files to hold out. Without the latter ``held_out_share`` of the rows is held out,
    chosen by their prompts and ``seed``. ``bad_rows``: what becomes of rows that cannot be read."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    held_out_share: float
    seed: int
    bad_rows: Literal["error", "skip"]

    @classmethod
    def of(cls, data: DataConfig, seed: int) -> DataSource:
        return cls(data.train, data.held_out, data.held_out_share, seed, data.bad_rows)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that exist, in the order in which they are read."""
        return tuple(path for path in map(Path, (*self.train, *self.held_out)) if path.is_file())

    @property
    def splits(self) -> bool:
        """Whether rows to hold out are chosen among those to train on."""
        return not self.held_out and self.held_out_share > 0

    def stamps(self) -> list[tuple[int, int]]:
        """Size and time of change of each file: other ones tell that it was written to."""
        stats = [path.stat() for path in self.files]
        return [(stat.st_size, stat.st_mtime_ns) for stat in stats]

    def rows(self) -> Iterator[Conversation]:
        """The rows that can be read, one at a time."""
        rows = each_row((*self.train, *self.held_out))
        return (row for row in rows if not isinstance(row, BadRow))

    def survey(self, ledger: Ledger) -> np.ndarray:
        """Whether each of ``rows`` is held out, (rows,) of bool. Counts all rows in ``ledger``, and notes
        those that cannot be read, or raises a ``DataError`` that names them."""
        if self.held_out:
            counts = [sum(1 for _ in self._read(paths, ledger)) for paths in (self.train, self.held_out)]
            return np.repeat([False, True], counts)
        prompts = [prompt_hash(conversation, self.seed) for conversation in self._read(self.train, ledger)]
        return held_out_rows(prompts, self.held_out_share)

    def _read(self, paths: Sequence[str], ledger: Ledger) -> Iterator[Conversation]:
        bad = []
        for row in each_row(paths):
            ledger.counts[READ] += 1
            if isinstance(row, BadRow):
                bad.append(row)
            else:
                yield row
        if bad and self.bad_rows == "error":
            raise summarised(bad)
        for row in bad:
            ledger.note(REJECTED, row.source, row.error.what)
