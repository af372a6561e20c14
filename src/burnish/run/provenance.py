"""Where a run came from: hashes of all that went in, versions, times."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import yaml

from burnish.adapters.adapter import ParameterCount
from burnish.adapters.folder import BaseIdentity
from burnish.config import RunConfig
from burnish.files import read_json, read_lines, text_sha256, write_json
from burnish.run.folder import RunFolder
from burnish.template import ChatTemplate

PACKAGES = ("torch", "transformers", "peft", "tokenizers", "safetensors")


def provenance_of(
    config: RunConfig,
    data: list[dict[str, Any]],
    base: BaseIdentity,
    template: ChatTemplate,
    count: ParameterCount,
    command: str,
    started: float,
) -> dict[str, Any]:
    """The provenance that is known when a run starts, at ``started`` seconds since 1970. ``data``: where its
    rows come from. The config's hash leaves out ``out``: a run may be moved."""
    source = template.source
    settings = yaml.safe_dump(config.model_dump(mode="json", exclude={"out"}))
    return {
        "burnish": version("burnish"),
        "command": command,
        "started": _iso(started),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "packages": {name: version(name) for name in PACKAGES},
        "seed": config.train.seed,
        "base": asdict(base),
        "data": data,
        "template_sha256": text_sha256(source if isinstance(source, str) else str(source)),
        "config_sha256": text_sha256(settings),
        "parameters": {"total": count.total, "trainable": count.trainable},
    }


def finish_provenance(run: RunFolder, started: float, peak: int) -> None:
    """Add to ``provenance.json`` what is known when the run has ended; ``peak``: the most bytes of memory
    that training held. A resumed run's ``seconds`` and ``peak_bytes`` are those of its last part."""
    ended = datetime.now(UTC).timestamp()
    steps = [row for row in read_lines(run.metrics) if row["kind"] == "train"]
    seconds = sum(row["seconds"] for row in steps)
    ending = {
        "finished": _iso(ended),
        "seconds": round(ended - started, 1),
        "peak_bytes": peak,
        "training_seconds": round(seconds, 1),
        "tokens_per_second": round(_rate((row["tokens"] for row in steps), seconds), 1),
        "trained_tokens_per_second": round(_rate((row["trained_tokens"] for row in steps), seconds), 1),
    }
    write_json(run.provenance, read_json(run.provenance) | ending)


def _rate(counts: Iterable[int], seconds: float) -> float:
    return sum(counts) / seconds if seconds else 0.0


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
