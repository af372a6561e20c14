"""Finished token tables on disk, each set of them under the hash of all that it was made from::

~/.cache/burnish/
    2f9c.../                   a set; its name is the hash
        train.ids              raw arrays, mapped into memory on use
        train.weights
        train.offsets
        contents.json          its own SHA-256, then sizes and checksums of the arrays, and what else is known
    staged-2f9c...-x1y2/       one that is being made; it is renamed when it is whole
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from burnish.tokens.table import GrowingTable, TokenTable

CONTENTS = "contents.json"
STAGED = "staged-"
LEFT_OVER = 24 * 3600
"""Seconds after which a folder that is still being made is taken for one whose process was killed."""
TYPES: dict[str, Any] = {"ids": np.int32, "weights": np.float32, "offsets": np.int64}


class DamagedCache(Exception):
    """What stands in the cache is not what was written there. The message names the file."""


@dataclass(frozen=True)
class Kept:
    """Tables by name, and what else was kept with them."""

    tables: dict[str, TokenTable]
    rest: Any


def place() -> Path:
    """``$BURNISH_CACHE``, else ``burnish`` in ``$XDG_CACHE_HOME``, else in ``~/.cache``."""
    if own := os.environ.get("BURNISH_CACHE"):
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "burnish"


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder``, to be published as it; what is left of it in the end is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f"{STAGED}*"):
        if time.time() - left.stat().st_mtime > LEFT_OVER:
            shutil.rmtree(left, ignore_errors=True)
    stage = Path(tempfile.mkdtemp(prefix=f"{STAGED}{folder.name[:12]}-", dir=folder.parent))
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def growing(stage: Path, names: Sequence[str]) -> Iterator[dict[str, GrowingTable]]:
    """Tables that grow in files of ``stage``."""
    with ExitStack() as files:

        def opened(name: str) -> Any:
            return files.enter_context((stage / name).open("wb"))

        yield {name: GrowingTable(opened(f"{name}.ids"), opened(f"{name}.weights")) for name in names}


def complete(stage: Path, tables: Mapping[str, GrowingTable], rest: Any) -> Kept:
    """Write what is missing to the finished tables in ``stage``, and give all of it as it will be read."""
    described = {}
    for name, table in tables.items():
        offsets = table.offsets
        (stage / f"{name}.offsets").write_bytes(offsets.tobytes())
        checksums = {kind: _checksum(stage / f"{name}.{kind}") for kind in TYPES}
        described[name] = {"documents": len(offsets) - 1, "tokens": int(offsets[-1]), "checksums": checksums}
    body = json.dumps({"tables": described, "rest": rest}).encode()
    (stage / CONTENTS).write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    kept = load(stage)
    assert kept is not None
    return kept


def publish(stage: Path, folder: Path) -> None:
    """Give a complete ``stage`` its name. Where another process was quicker, its folder stays; a damaged one
    is replaced. What is mapped from ``stage`` stays readable. Raises ``OSError``."""
    try:
        stage.rename(folder)
    except OSError:
        try:
            if load(folder):
                return
        except DamagedCache:
            pass
        if folder.exists():
            aside = Path(f"{stage}-replaced")
            folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
        stage.rename(folder)


def load(folder: Path) -> Kept | None:
    """What was kept in ``folder``, its arrays mapped into memory; None where there is none. Every byte is
    checked: raises ``DamagedCache``."""
    if not folder.is_dir():
        return None
    try:
        digest, _, body = (folder / CONTENTS).read_bytes().partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            raise DamagedCache(f"{CONTENTS} has changed")
        contents = json.loads(body)
        tables = {name: _table(folder, name, about) for name, about in contents["tables"].items()}
    except OSError as error:
        raise DamagedCache(str(error)) from error
    return Kept(tables, contents["rest"])


def _table(folder: Path, name: str, about: Mapping[str, Any]) -> TokenTable:
    arrays = {}
    counts = {"ids": about["tokens"], "weights": about["tokens"], "offsets": about["documents"] + 1}
    for kind, type_ in TYPES.items():
        path, count = folder / f"{name}.{kind}", counts[kind]
        if (
            path.stat().st_size != count * np.dtype(type_).itemsize
            or _checksum(path) != about["checksums"][kind]
        ):
            raise DamagedCache(f"{path.name} has changed")
        # An empty file cannot be mapped. As a plain array, since each slice of a memmap costs microseconds.
        arrays[kind] = np.asarray(np.memmap(path, type_, "r")) if count else np.zeros(0, type_)
    return TokenTable(**arrays)


def _checksum(path: Path) -> int:
    """CRC-32: it finds accidents, at 4 GB/s; SHA-256 takes three times as long."""
    found = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            found = zlib.crc32(piece, found)
    return found
