"""The files of a run: the rows that can be read, and which of them are held out."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from burnish.config import DataConfig
from burnish.curate.overlap import overlap, prompt_hash
from burnish.curate.split import held_out_rows
from burnish.data import Conversation
from burnish.data.memory import MemoryRows
from burnish.data.read import BadRow, each_row
from burnish.files import sha256
from burnish.prepare.in_memory import NOTHING, InMemory, Sources
from burnish.prepare.ledger import ALSO_TRAINED, READ, REJECTED, Ledger


@dataclass(frozen=True)
class Survey:
    """What is known of rows before any is encoded: which of them are held out, and which of these are trained
    too, (rows,) of bool each; and the rows that cannot be read, which are not among them."""

    held_out: np.ndarray
    also_trained: np.ndarray
    bad: list[BadRow]

    def __len__(self) -> int:
        return len(self.held_out)

    @property
    def measured(self) -> np.ndarray:
        return np.asarray(self.held_out & ~self.also_trained)


@dataclass(frozen=True)
class DataSource:
    """Rows to train on and rows to hold out, in files or in memory. Without the latter ``held_out_share`` of
    the rows is held out, chosen by their prompts and ``seed``. ``bad_rows``: what becomes of rows that cannot
    be read."""

    train: Sources
    held_out: Sources
    held_out_share: float
    seed: int
    bad_rows: Literal["error", "skip"]

    @classmethod
    def of(cls, data: DataConfig, seed: int, in_memory: InMemory = NOTHING) -> DataSource:
        train, held_out = in_memory.train or data.train, in_memory.held_out or data.held_out
        return cls(train, held_out, data.held_out_share, seed, data.bad_rows)

    def described(self) -> list[dict[str, Any]]:
        """Path, hash and number of rows of each file or list, for ``provenance.json``."""
        return [
            {"path": str(place), "sha256": digest(place), "rows": _count(place)}
            for place in (*self.train, *self.held_out)
        ]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that exist, in the order in which they are read."""
        places = (*self.train, *self.held_out)
        paths = (Path(place) for place in places if isinstance(place, str))
        return tuple(path for path in paths if path.is_file())

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

    def survey(self, ledger: Ledger) -> Survey:
        """Read all rows once, and count them in ``ledger``; note there those that cannot be read, and those
        that are held out in the files and trained too, which are not measured."""
        bad: list[BadRow] = []
        if self.held_out:
            bad_held: list[BadRow] = []
            found = overlap(self._read(self.train, ledger, bad), self._read(self.held_out, ledger, bad_held))
            held_out = np.repeat([False, True], [found.train, found.held_out])
            also = np.zeros(len(held_out), bool)
            also[[found.train + number for number in found.twins]] = True
            for _, twin in sorted(found.twins.items()):
                same = "the same as" if twin.exact else "but for case and white space the same as"
                ledger.note(ALSO_TRAINED, twin.held_out, f"{same} {twin.trained}")
            ledger.same_prompt = found.same_prompt
            bad += bad_held
        else:
            prompts = [prompt_hash(row, self.seed) for row in self._read(self.train, ledger, bad)]
            held_out = held_out_rows(prompts, self.held_out_share)
            also = np.zeros(len(held_out), bool)
        for row in bad:
            ledger.note(REJECTED, row.source, row.error.what)
        return Survey(held_out, also, bad)

    def _read(self, paths: Sources, ledger: Ledger, bad: list[BadRow]) -> Iterator[Conversation]:
        for row in each_row(paths):
            ledger.counts[READ] += 1
            if isinstance(row, BadRow):
                bad.append(row)
            else:
                yield row


def digest(place: str | MemoryRows) -> str:
    """SHA-256 of a file, or of rows in memory, in hex."""
    return place.sha256 if isinstance(place, MemoryRows) else sha256(Path(place))


def _count(place: str | MemoryRows) -> int:
    if isinstance(place, MemoryRows):
        return len(place)
    with (gzip.open if place.endswith(".gz") else open)(place, "rb") as file:
        return sum(1 for line in file if line.strip())
