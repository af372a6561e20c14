"""Checkpoints that exist completely or not at all.

A checkpoint is a folder ``step-000040`` with ``state.safetensors`` (fp32 masters and moments, by the names of
the parameters), ``state.json`` (the step, and what else the run has to remember) and ``manifest.json`` (the
SHA-256 of the two). It is written under another name, flushed to the disk and renamed, so that a power cut
leaves the one before it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from burnish.errors import RunError
from burnish.files import STAGED, discard, flush, sha256, writing

TENSORS, STATE, MANIFEST = "state.safetensors", "state.json", "manifest.json"
REMOVING = ".removing-"
"""How the name of a checkpoint begins that is on its way out."""
SPARE = 16 * 2**20
"""Bytes that must be free beside the tensors."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk: where it is, after how many steps, and the state of the run beside its
    weights."""

    path: Path
    step: int
    state: dict[str, Any]


@dataclass(frozen=True)
class Found:
    """The newest intact checkpoint, and the newer ones that are damaged."""

    checkpoint: Checkpoint | None
    damaged: tuple[Path, ...] = ()


def save(
    folder: Path,
    tensors: Mapping[str, Tensor],
    step: int,
    state: Mapping[str, Any],
    keep: int,
    *,
    also_keep: int | None = None,
) -> Path:
    """Write the checkpoint of ``step`` into ``folder`` and remove all but the newest ``keep`` and that of the
    step ``also_keep``.

    ``tensors``: the optimizer's state. ``state`` is JSON: what the run needs to go on besides weights (the
    best held-out loss, say). Raises ``RunError`` where the disk is full, beforehand or while writing; the
    earlier checkpoints stay whole.
    """
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    final = folder / name(step)
    staged = folder / f"{STAGED}{final.name}"
    with writing(f"{folder}: the checkpoint of step {step}"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            flush(folder.parent)
            _clear(folder)
            _require_space(folder, tensors)
            staged.mkdir()
            save_file(tensors, staged / TENSORS)
            _write_json(staged / STATE, {"step": step, "state": state})
            _write_json(staged / MANIFEST, {name: sha256(staged / name) for name in (TENSORS, STATE)})
            for path in (staged / TENSORS, staged / STATE, staged / MANIFEST, staged):
                flush(path)
            remove(final)  # damaged, or the run would have gone on from it
            staged.rename(final)
            flush(folder)
            prune(folder, keep, also_keep)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    return final


def find(folder: Path) -> Found:
    """The newest checkpoint whose hashes hold. Raises ``RunError`` where there are some and none is
    intact."""
    damaged: list[Path] = []
    for path in reversed(_by_step(folder)):
        if checkpoint := intact(path):
            return Found(checkpoint, tuple(damaged))
        damaged.append(path)
    if damaged:
        raise RunError(
            f"{folder}: every checkpoint is damaged: {', '.join(path.name for path in damaged)}",
            why="Going on from one would continue from weights that no training produced.",
            fix="Start the run anew; check the disk, since something changed these files.",
        )
    return Found(None)


def intact(path: Path) -> Checkpoint | None:
    """The checkpoint in this folder; None where its files are not those that were written."""
    try:
        hashes = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if set(hashes) != {TENSORS, STATE} or any(sha256(path / n) != digest for n, digest in hashes.items()):
            return None
        written = json.loads((path / STATE).read_text(encoding="utf-8"))
        return Checkpoint(path, written["step"], written["state"])
    except PermissionError as error:
        raise RunError(f"{path} may not be read: {error}", fix="Go on as the user who began.") from error
    except (OSError, ValueError, TypeError):
        return None


def name(step: int) -> str:
    """Of the folder of a step's checkpoint."""
    return f"step-{step:06d}"


def tensors_of(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The optimizer's state as it was saved."""
    tensors: dict[str, Tensor] = load_file(checkpoint.path / TENSORS)
    return tensors


def weights_of(checkpoint: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    """Name and fp32 master of each trained weight."""
    with safe_open(checkpoint.path / TENSORS, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 - it is no dict
            kind, _, weight = key.partition("/")
            if kind == "master":
                yield weight, file.get_tensor(key)


def _require_space(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) + SPARE
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"it takes {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free")


def _clear(folder: Path) -> None:
    for prefix in (STAGED, REMOVING):
        for leftover in folder.glob(f"{prefix}step-*"):
            if _is_name(leftover.name.removeprefix(prefix)):
                discard(leftover)


def prune(folder: Path, keep: int, also_keep: int | None) -> None:
    """Remove all checkpoints but the newest ``keep`` and that of the step ``also_keep``; and what a run that
    was killed left half written or half removed."""
    _clear(folder)
    for old in _by_step(folder)[:-keep]:
        if _step_of(old) != also_keep:
            remove(old)


def remove(path: Path) -> None:
    """Remove a checkpoint, under another name first: if the process is killed meanwhile, none is damaged."""
    if path.exists() or path.is_symlink():
        going = path.with_name(f"{REMOVING}{path.name}")
        path.rename(going)
        discard(going)


def _by_step(folder: Path) -> list[Path]:
    """The checkpoints in the folder. What a person has put there under a name of their own is none."""
    found = [path for path in folder.glob("step-*") if _is_name(path.name)]
    return sorted((path for path in found if path.is_dir() and not path.is_symlink()), key=_step_of)


def _is_name(text: str) -> bool:
    digits = text.removeprefix("step-")
    return digits.isascii() and digits.isdecimal() and text == name(int(digits))


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
