"""Where a run came from: hashes of all that went in, versions, times."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from burnish.config import RunConfig
from burnish.model.origin import weights_sha256
from burnish.recipes.artifact import text_sha256
from burnish.recipes.trainee import Trainee
from burnish.run_folder import RunFolder, read_lines
from burnish.train.checkpoint import sha256

PACKAGES = ("torch", "transformers", "peft", "tokenizers", "safetensors")


def provenance_of(config: RunConfig, trainee: Trainee, command: str, started: float) -> dict[str, Any]:
    """What is known when a run starts. The config's hash leaves out ``out``: a run may be moved. Of a Hub id
    the commit is kept, so that an adapter is later put on the base that it was trained on."""
    source, count = trainee.template.source, trainee.count
    settings = yaml.safe_dump(config.model_dump(mode="json", exclude={"out"}))
    return {
        "burnish": version("burnish"),
        "command": command,
        "started": _iso(started),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "packages": {name: version(name) for name in PACKAGES},
        "seed": config.train.seed,
        "base": {
            "name": trainee.place if Path(config.model.name).is_dir() else config.model.name,
            "revision": trainee.commit or config.model.revision,
            "sha256": weights_sha256(trainee.place),
            "quantize": config.model.quantize,
        },
        "data": [_file(path) for path in (*config.data.train, *config.data.held_out)],
        "template_sha256": text_sha256(source if isinstance(source, str) else str(source)),
        "config_sha256": text_sha256(settings),
        "parameters": {"total": count.total, "trainable": count.trainable},
    }


def finished(run: RunFolder, started: float, peak: int) -> dict[str, Any]:
    """What is known when it has ended; ``peak``: the most bytes of memory that training held. A resumed run's
    ``seconds`` and ``peak_bytes`` are those of its last part."""
    ended = datetime.now(UTC).timestamp()
    steps = [row for row in read_lines(run.metrics) if row["kind"] == "train"]
    seconds = sum(row["seconds"] for row in steps)
    return {
        "finished": _iso(ended),
        "seconds": round(ended - started, 1),
        "peak_bytes": peak,
        "training_seconds": round(seconds, 1),
        "tokens_per_second": round(_rate((row["tokens"] for row in steps), seconds), 1),
        "trained_tokens_per_second": round(_rate((row["trained_tokens"] for row in steps), seconds), 1),
    }


def _rate(counts: Iterable[int], seconds: float) -> float:
    return sum(counts) / seconds if seconds else 0.0


def _file(path: str) -> dict[str, Any]:
    with Path(path).open("rb") as file:
        rows = sum(1 for line in file if line.strip())
    return {"path": path, "sha256": sha256(Path(path)), "rows": rows}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
