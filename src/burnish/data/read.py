"""Rows of a file to conversations, with every bad row named."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from burnish.data.conversation import Conversation, Source
from burnish.data.keys import (
    ROW_KEYS,
    TEXT_ROW_KEYS,
    nearest,
    require_known,
    require_no_row_content,
    shown,
    unread,
)
from burnish.data.memory import HELD_OUT_IN_MEMORY, MEMORY, MemoryRows, Rows, as_line, row_sources
from burnish.errors import DataError

SHOWN = 10
"""Bad rows named in one error; the rest are counted."""


@dataclass(frozen=True)
class BadRow:
    """A row that could not be read, and why."""

    source: Source
    error: DataError


def read(rows: Rows) -> list[Conversation]:
    """All conversations of jsonl files of ``messages`` rows, or of a list of such rows as dicts. Raises
    ``DataError`` naming the bad rows."""
    conversations, bad = read_rows(rows)
    if bad:
        raise summarised(bad)
    return conversations


def read_rows(rows: Rows) -> tuple[list[Conversation], list[BadRow]]:
    """Good rows as conversations and bad rows with their reasons; a missing file is a ``DataError``."""
    conversations: list[Conversation] = []
    bad: list[BadRow] = []
    for row in each_row(rows):
        if isinstance(row, BadRow):
            bad.append(row)
        else:
            conversations.append(row)
    return conversations, bad


def each_row(rows: Rows) -> Iterator[Conversation | BadRow]:
    """All rows in their order, one at a time; a missing file is a ``DataError``."""
    for place in row_sources(rows):
        in_memory = isinstance(place, MemoryRows)
        found = place.numbered() if isinstance(place, MemoryRows) else _lines(Path(place))
        for source, row in found:
            try:
                yield _conversation(as_line(row, source) if in_memory else row, source)
            except DataError as error:
                yield BadRow(source, error)


def summarised(bad: Sequence[BadRow]) -> DataError:
    """One error for many bad rows: the first ones in full, the rest as a count."""
    if len(bad) == 1:
        return bad[0].error
    lines = [row.error.what for row in bad[:SHOWN]]
    if len(bad) > SHOWN:
        lines.append(f"... and {len(bad) - SHOWN} more")
    return DataError(
        f"{len(bad)} rows cannot be read:\n  " + "\n  ".join(lines),
        why=bad[0].error.why,
        fix="Mend the rows, or leave them out (counted in the ledger) with data.bad_rows: skip.",
    )


def _lines(path: Path) -> Iterator[tuple[Source, str]]:
    if str(path) in (MEMORY, HELD_OUT_IN_MEMORY):
        raise DataError(
            f"{path}: these rows were in the memory of a program, and no file holds them",
            fix="Hand them over again, from Python: sft(config, data=rows, resume=True); or give a file.",
        )
    if not path.is_file():
        what = f"{path}: {'is a folder, not a file' if path.is_dir() else 'no such file'}"
        raise DataError(what, fix="Give the path of a .jsonl or .jsonl.gz file of rows.")
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise DataError(
            f"{path}: not a .jsonl or .jsonl.gz file",
            fix='Write one JSON object a line: {"messages": [...]}.',
        )
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield Source(str(path), number), line
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error})", fix="Save the file as UTF-8.") from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: not a whole gzip file ({error})", fix="Compress it again.") from error


def _conversation(line: str, source: Source) -> Conversation:
    try:
        row = json.loads(line, object_pairs_hook=_object)
        if "\\u" in line:
            json.dumps(row, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{source}: not JSON ({error})",
            why="The row's conversation cannot be read, and guessing would train on something else.",
            fix="Write one JSON object a line.",
        ) from error
    if not isinstance(row, Mapping):
        raise DataError(f"{source}: a {type(row).__name__}, not an object with messages")
    if isinstance(row.get("text"), str) and "messages" not in row:
        return _plain_text(row, source)
    if "messages" not in row:
        keys = ", ".join(repr(key) for key in row) or "none"
        meant = next((f"; did you mean messages by {key!r}?" for key in row if nearest(key, ROW_KEYS)), "")
        raise DataError(
            f"{source}: the row has no messages (its keys: {keys}){meant}",
            fix='Write {"messages": [{"role": "user", "content": ...}, '
            '{"role": "assistant", "content": ...}]}.',
        )
    require_known(row, ROW_KEYS, f"{source}: the row")
    require_no_row_content(row, str(source))
    tools: Any = row.get("tools") or []
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except ValueError:
            tools = None
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise DataError(f"{source}: its tools are no list of objects", fix="Write a list of JSON schemas.")
    made = Conversation.from_messages(row["messages"], tools, source)
    others = unread(row, ROW_KEYS, "rows")
    return replace(made, unread=(*others, *made.unread)) if others else made


def _plain_text(row: Mapping[str, Any], source: Source) -> Conversation:
    if not row["text"].strip():
        raise DataError(f"{source}: its text is empty", fix="Write the text, or take the row out.")
    require_known(row, TEXT_ROW_KEYS | ROW_KEYS, f"{source}: the row")
    require_no_row_content(row, str(source))
    return Conversation(
        (), source=source, text=row["text"], unread=tuple(unread(row, TEXT_ROW_KEYS, "rows of text"))
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; ``ValueError`` where a name is there twice, of which only the last would be read."""
    found = dict(pairs)
    if len(found) < len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{shown(name)} is there twice")
    return found
