"""Checkpoints that exist whole or not at all.

A checkpoint is a folder ``step-000040`` with ``state.safetensors`` (fp32 masters and moments) and
``state.json`` (the step, and the hash of every other file). It is written under another name, flushed
to the disk and renamed, so that a power cut leaves the previous one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from burnish.errors import RunError
from burnish.train.optimizer import MasterAdamW

TENSORS, STATE = "state.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk: where it is, after how many steps, and what the run had to remember."""

    path: Path
    step: int
    memory: dict[str, Any]


def save(folder: Path, optimizer: MasterAdamW, step: int, memory: dict[str, Any], keep: int) -> Path:
    """Write the checkpoint of ``step`` into ``folder`` and remove all but the newest ``keep``.

    ``memory`` is JSON: what the run needs to go on besides weights (the best held-out loss, say).
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{step:06d}"
    staged = folder / f".writing-{final.name}"
    for leftover in (staged, final):
        shutil.rmtree(leftover, ignore_errors=True)
    staged.mkdir()
    save_file({k: t.contiguous() for k, t in optimizer.state().items()}, staged / TENSORS)
    state = {"step": step, "memory": memory, "sha256": {TENSORS: sha256(staged / TENSORS)}}
    (staged / STATE).write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    for path in (staged / TENSORS, staged / STATE, staged):
        flush(path)
    staged.rename(final)
    flush(folder)
    for old in _by_step(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint whose hashes hold; ``RunError`` where the newest one is damaged."""
    found = _by_step(folder)
    if not found:
        return None
    path = found[-1]
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        found_checkpoint = Checkpoint(path, state["step"], state["memory"])
        whole = all(sha256(path / name) == digest for name, digest in state["sha256"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise RunError(
            f"{path} is damaged: its contents do not match the hashes written with it",
            why="Resuming from it would continue from weights that no training produced.",
            fix="Remove that folder; the run then resumes from the checkpoint before it.",
        )
    return found_checkpoint


def _by_step(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))


def restore(checkpoint: Checkpoint, optimizer: MasterAdamW) -> None:
    optimizer.load(load_file(checkpoint.path / TENSORS))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """fsync a file, or a folder's list of names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
