"""Trackers are shown what metrics.jsonl holds, each by its own real package, offline."""

from __future__ import annotations

import json
import logging
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from burnish.config import load_config
from burnish.errors import ConfigError
from burnish.files import read_lines
from burnish.recipes.sft import sft
from burnish.run.folder import RunFolder
from burnish.run.track import OPENERS, figures_of
from test_runs import small_data
from test_survival_of_runs import Listening


def test_a_row_becomes_figures_with_speeds_a_second() -> None:
    row = {"kind": "train", "step": 3, "loss": None, "learning_rate": 0.5, "tokens": 10, "trained_tokens": 4}
    row |= {"seconds": 2.0, "micro_batch_tokens": 8}
    assert figures_of(row) == {
        "train/learning_rate": 0.5,
        "train/tokens_per_second": 5.0,
        "train/trained_tokens_per_second": 2.0,
    }
    assert figures_of({"kind": "held_out", "step": 3, "loss": 1.5}) == {"held_out/loss": 1.5}


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, name)  # it reads its folder once, when it is first imported
    yield
    logging.getLogger("wandb").handlers.clear()


def run_tracked(tmp_path: Path, *names: str) -> tuple[RunFolder, Listening]:
    screen = Listening()
    config = load_config(
        None,
        **{
            "data.train": [str(small_data(tmp_path / "rows.jsonl"))],
            "model.name": "pebble",
            "train.max_steps": 3,
            "evaluate.samples": 0,
            "evaluate.forgetting": "none",
            "track": list(names),
            "out": str(tmp_path / "run"),
        },
    )
    return sft(config, screen=screen).folder, screen


def losses_of(run: RunFolder, kind: str) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in read_lines(run.metrics) if row["kind"] == kind}


def test_tensorboard_shows_every_step(tmp_path: Path, offline: None) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = run_tracked(tmp_path, "tensorboard")
    shown = EventAccumulator(str(run.path / "tensorboard"))
    shown.Reload()
    for kind in ("train", "held_out"):
        found = {event.step: event.value for event in shown.Scalars(f"{kind}/loss")}
        assert found == pytest.approx(losses_of(run, kind))


def test_wandb_and_trackio_show_every_step_offline(tmp_path: Path, offline: None) -> None:
    pytest.importorskip("wandb")
    pytest.importorskip("trackio")
    run, screen = run_tracked(tmp_path, "wandb", "trackio")
    assert not [text for text in screen.said if "failed" in text]
    (written,) = run.path.glob("wandb/offline-run-*/*.wandb")
    assert b"train/learning_rate" in written.read_bytes()
    (database,) = (tmp_path / "trackio").glob("burnish.db")
    with sqlite3.connect(database) as found:
        rows = found.execute("select step, metrics from metrics").fetchall()
    shown = [(step, json.loads(metrics)) for step, metrics in rows]
    losses = {step: figures["train/loss"] for step, figures in shown if "train/loss" in figures}
    assert losses == pytest.approx(losses_of(run, "train"))


def test_a_tracker_that_fails_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any) -> Any:
        raise OSError("no network\nat all")

    monkeypatch.setitem(OPENERS, "tensorboard", broken)
    run, screen = run_tracked(tmp_path, "tensorboard")
    assert [text for text in screen.said if "failed" in text] == [
        "tensorboard failed (no network); the run goes on without it."
    ]
    assert len(losses_of(run, "train")) == 3


def test_a_tracker_that_is_not_installed_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("burnish.run.track.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="wandb not installed") as refused:
        run_tracked(tmp_path, "wandb")
    assert "burnish[track]" in refused.value.fix
    assert not (tmp_path / "run").exists()
