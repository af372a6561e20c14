"""Files that are written whole or not at all, and read back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError

from burnish.errors import RunError

STAGED = ".writing-"
"""How the name of a file begins that is not yet whole."""

RUN_CONFIG, FINAL = "config.yaml", "final"
"""By these a run folder is known, and the model in it. ``run/folder.py`` names a run's other files; these two
stand here because what opens a model lies below the runs."""


@contextmanager
def writing(
    what: str,
    *,
    why: str = "The run stops here. What was saved before is whole.",
    fix: str = "Free some disk space, or mend what the message names; then go on with --resume.",
) -> Iterator[None]:
    """Tells what the disk refuses within the block, such as a file for which there is no space."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise RunError(f"{what} cannot be written: {error}", why=why, fix=fix) from error


def append_line(path: Path, row: dict[str, Any]) -> None:
    with writing(str(path)), open_to_append(path) as file:
        file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def open_to_append(path: Path) -> BinaryIO:
    """Open a file to write at its end, made where there is none. A symbolic link is not followed, but an
    ``OSError``."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, 0o666), "ab")


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a jsonl file of ours; none where it does not exist. A torn last line is passed over:
    the run was cut off while it wrote."""
    if not path.is_file():
        return
    lines = path.read_bytes().rstrip(b"\n").split(b"\n")  # as bytes: it may be torn within a character
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except ValueError as error:
            if number < len(lines):
                raise RunError(
                    f"{path}:{number}: not JSON; the run folder was changed by hand",
                    why="What the line said of the run is lost.",
                    fix="Put the file back as it was, or remove the line.",
                ) from error


def write_json(path: Path, value: Any) -> None:
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")


def write_whole(path: Path, content: bytes) -> None:
    """Whole or not at all, after a power cut too: written under another name, flushed, renamed. A symbolic
    link under either name is replaced, not followed."""
    staged = path.with_name(f"{STAGED}{path.name}")
    with writing(str(path)):
        staged.unlink(missing_ok=True)
        with staged.open("xb") as file:
            file.write(content)
        flush(staged)
        staged.replace(path)
        flush(path.parent)


def discard(path: Path) -> None:
    """Remove a file or a folder, where there is one; of a symbolic link only the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """fsync a file, or a folder's list of names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(path: Path) -> Any:
    """Raises ``RunError`` for a file that is missing, or that is torn or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(
            f"{path} cannot be read: {error}",
            why="What it says of the folder beside it is needed.",
            fix="Put it back, or copy the whole folder again.",
        ) from error


def sha256(path: Path) -> str:
    """Of a file's contents, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
