"""What an adapter's folder says: its base and its method, and what burnish wrote of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from transformers import PreTrainedModel

from burnish.adapters.saved import BOTTLENECK, CONFIG
from burnish.data.memory import MEMORY
from burnish.errors import ModelError
from burnish.files import read_json
from burnish.model.borrow import holds_weights_of, weights_digest
from burnish.model.load import opening
from burnish.model.quantize import Kind

METADATA = "burnish.json"
"""What burnish writes beside a model: its base, its stop tokens and where it came from."""


@dataclass(frozen=True)
class BaseIdentity:
    """Which base a model was trained on. ``sha256``: of its weights, where it was a folder or a model in
    memory."""

    name: str
    revision: str | None
    quantize: Kind
    sha256: str | None

    def matches(self, other: BaseIdentity) -> bool:
        """Whether both are one base. Hashes decide where both are known: a folder may have been moved."""
        if self.quantize != other.quantize:
            return False
        if self.sha256 and other.sha256:
            return self.sha256 == other.sha256
        return (self.name, self.revision) == (other.name, other.revision)

    def __str__(self) -> str:
        marks = [self.revision, None if self.quantize == "none" else self.quantize, (self.sha256 or "")[:12]]
        return " ".join([self.name, *(f"({mark})" for mark in marks if mark)])


def base_of(folder: Path) -> BaseIdentity:
    """The base of a model in a folder that burnish wrote, or of an adapter that peft did."""
    if base := metadata_of(folder).get("base"):
        with opening(f"{folder / METADATA} does not say which base it was trained on"):
            return BaseIdentity(base["name"], base["revision"], base.get("quantize", "none"), base["sha256"])
    with opening(f"{folder / CONFIG} does not say which base it was trained on"):
        return BaseIdentity(str(read_json(folder / CONFIG)["base_model_name_or_path"]), None, "none", None)


def base_in_memory(model: PreTrainedModel) -> BaseIdentity:
    """Of a model that a program holds: the folder or the Hub id that it was loaded from, where its weights
    are still those that stand there; else its weights alone say what it is."""
    name, commit = model.name_or_path, getattr(model.config, "_commit_hash", None)
    folder = Path(name).resolve()
    if name and folder.is_dir() and holds_weights_of(model, folder):
        return BaseIdentity(str(folder), None, "none", weights_sha256(str(folder)))
    if commit and not folder.exists():
        cached = try_to_load_from_cache(name, "config.json", revision=commit)
        if isinstance(cached, str) and holds_weights_of(model, Path(cached).parent):
            return BaseIdentity(name, commit, "none", None)
    return BaseIdentity(MEMORY, None, "none", weights_digest(model))


def metadata_of(folder: Path) -> dict[str, Any]:
    """What ``burnish.json`` holds; empty where burnish did not write the folder."""
    if not (folder / METADATA).is_file():
        return {}
    metadata = read_json(folder / METADATA)
    if not isinstance(metadata, dict):
        raise ModelError(f"{folder / METADATA} is not what burnish writes there", fix="Put it back.")
    return metadata


def is_adapter(location: str) -> bool:
    """Whether a folder holds an adapter; a Hub id is taken for a whole model."""
    return (Path(location) / CONFIG).is_file()


def kind_of(folder: Path) -> str:
    """An adapter's method, by the names that configs have for it."""
    with opening(f"{folder / CONFIG} is no adapter's config"):
        settings = read_json(folder / CONFIG)
        if settings["peft_type"] == BOTTLENECK:
            return "bottleneck"
        kind = str(settings["peft_type"]).lower().removesuffix("_tuning")
        return "dora" if kind == "lora" and settings.get("use_dora") else kind


def weights_sha256(location: str) -> str | None:
    """One hash over a local folder's weight files, by name and content; None for a Hub id."""
    files = sorted(Path(location).glob("*.safetensors")) if Path(location).is_dir() else []
    if not files:
        return None
    combined = hashlib.sha256()
    for file in files:
        stat = file.stat()
        combined.update(file.name.encode())
        combined.update(_digest(file, stat.st_size, stat.st_mtime_ns))
    return combined.hexdigest()


@lru_cache(maxsize=256)
def _digest(file: Path, size: int, written: int) -> bytes:
    """``size`` and ``written``, in nanoseconds, tell a file that has changed: one process may load a base
    several times, and reading tens of gigabytes takes as long each time."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()
