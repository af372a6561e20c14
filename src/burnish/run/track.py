"""Experiment trackers, each a thin adapter that gets the rows of ``metrics.jsonl`` as they are written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from burnish.config import RunConfig
from burnish.errors import ConfigError
from burnish.files import read_json
from burnish.run.folder import RunFolder
from burnish.run.screen import Screen

PROJECT = "burnish"
HIDDEN = ("kind", "step", "rows", "skipped", "micro_batch_tokens")
"""Of a row of metrics, what is no figure to draw."""


Opened = tuple[Callable[[int, dict[str, float]], None], Callable[[], None]]
"""What shows the figures of a step, by name, and what ends."""


@dataclass
class Tracker:
    """Opened at the first row, when there is a run. A tracker that fails is reported once and left out
    from then on: the run goes on without it, and ``metrics.jsonl`` has everything anyway."""

    name: str
    opener: Callable[[], Opened]
    screen: Screen
    opened: Opened | None = None
    failed: bool = False

    def log(self, row: dict[str, Any]) -> None:
        self._attempt(lambda: self._show(row["step"], figures_of(row)))

    def close(self) -> None:
        if self.opened:
            self._attempt(self.opened[1])

    def _show(self, step: int, figures: dict[str, float]) -> None:
        self.opened = self.opened or self.opener()
        self.opened[0](step, figures)

    def _attempt(self, call: Callable[[], None]) -> None:
        if self.failed:
            return
        try:
            call()
        except Exception as error:  # of a service that is not ours, whatever it may be
            self.failed = True
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            self.screen.warn(f"{self.name} failed ({reason}); the run goes on without it.")


def figures_of(row: dict[str, Any]) -> dict[str, float]:
    """A row of metrics as figures by name, ``train/loss``, ``held_out/loss`` and so on; speeds a second."""
    kind = row["kind"]
    shown = {key: value for key, value in row.items() if key not in HIDDEN and value is not None}
    figures = {f"{kind}/{key}": value for key, value in shown.items()}
    if kind == "train":
        seconds = figures.pop("train/seconds")
        for key in ("tokens", "trained_tokens"):
            figures[f"train/{key}_per_second"] = figures.pop(f"train/{key}") / seconds
    return figures


def trackers(config: RunConfig, run: RunFolder, screen: Screen) -> list[Tracker]:
    """The trackers that the config names, not yet open. Raises ``ConfigError`` where one is not installed."""
    missing = [name for name in config.track if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"track: {' and '.join(missing)} not installed", fix="Type: pip install 'burnish[track]'"
        )
    settings = config.model_dump(mode="json")
    return [Tracker(name, partial(OPENERS[name], run, settings), screen) for name in config.track]


def _run_id(run: RunFolder) -> str:
    """An id that stays the same for a run that goes on, and is another for a new run in the same folder."""
    began = read_json(run.provenance)["started"]
    return hashlib.sha256(f"{run.path.resolve()} {began}".encode()).hexdigest()[:12]


def _tensorboard(run: RunFolder, settings: dict[str, Any]) -> Opened:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(run.path / "tensorboard"))

    def show(step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return show, writer.close


def _wandb(run: RunFolder, settings: dict[str, Any]) -> Opened:
    import wandb

    opened = wandb.init(
        project=PROJECT, name=run.path.name, id=_run_id(run), resume="allow", dir=run.path, config=settings
    )
    return lambda step, figures: opened.log(figures, step=step), opened.finish


def _trackio(run: RunFolder, settings: dict[str, Any]) -> Opened:
    import trackio

    name = f"{run.path.name}-{_run_id(run)}"
    opened = trackio.init(
        project=PROJECT, name=name, resume="allow", config=settings, embed=False, auto_log_gpu=False
    )
    return lambda step, figures: opened.log(figures, step=step), opened.finish


OPENERS: dict[str, Callable[[RunFolder, dict[str, Any]], Opened]] = {
    "trackio": _trackio,
    "wandb": _wandb,
    "tensorboard": _tensorboard,
}
