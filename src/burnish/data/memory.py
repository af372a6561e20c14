"""Rows that a program hands over instead of a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from burnish.data.conversation import Source
from burnish.errors import DataError

MEMORY = "<memory>"
"""What stands in the place of a path for rows that no file holds, and of a name for such a model."""
HELD_OUT_IN_MEMORY = "<memory, held out>"
"""The same for rows that are held out."""


@dataclass(frozen=True, eq=False)
class MemoryRows:
    """Dicts, each as a line of a jsonl file would hold it. ``name`` stands for the path in every ``Source``.

    They are read more than once, and must not change while something reads them.
    """

    rows: Sequence[Mapping[str, Any]]
    name: str = MEMORY

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        return self.name

    def numbered(self) -> Iterator[tuple[Source, Any]]:
        """Each row with its source; rows count from 1."""
        for number, row in enumerate(self.rows, 1):
            yield Source(self.name, number), row

    @cached_property
    def sha256(self) -> str:
        """Of the rows as lines of JSON, in hex."""
        found = hashlib.sha256()
        for source, row in self.numbered():
            try:
                line = as_line(row, source)
            except DataError:  # it is reported where rows are read
                line = repr(row)
            found.update(line.encode() + b"\n")
        return found.hexdigest()


RowSource = str | Path | MemoryRows
"""Where rows come from: a file or a program."""

Rows = RowSource | Sequence[RowSource] | Sequence[Mapping[str, Any]]
"""What is taken wherever rows are: a file, several, or a list of dicts."""


def row_sources(rows: Rows, name: str = MEMORY) -> tuple[str | MemoryRows, ...]:
    """A file or several as their paths, dicts as ``MemoryRows`` of that ``name``. A list is of files where
    its first item is one. Raises ``DataError`` for what is neither."""
    if isinstance(rows, MemoryRows):
        return (rows,)
    if isinstance(rows, str | Path):
        return (str(rows),)
    if isinstance(rows, Mapping) or not hasattr(rows, "__len__") or not hasattr(rows, "__getitem__"):
        raise DataError(
            f"rows are a {type(rows).__name__}",
            why="Rows are read more than once, in their order.",
            fix='Give the path of a file, or a list of dicts such as [{"messages": [...]}].',
        )
    many: Sequence[Any] = rows
    if len(many) and isinstance(many[0], str | Path | MemoryRows):
        return tuple(source for item in many for source in row_sources(item, name))
    return (MemoryRows(many, name),)


def as_line(row: Any, source: Source) -> str:
    """A row as the line of a file. Raises ``DataError`` for what JSON has no word for."""
    try:
        return json.dumps(row)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"{source}: not JSON ({error})",
            why="A row in memory is read as the line of a file is.",
            fix="Write it in dicts, lists, strings and numbers.",
        ) from error
