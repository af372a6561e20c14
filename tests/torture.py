"""Kill a training run at random moments, go on with it each time, and compare it with one left alone.

``make torture``, or ``python tests/torture.py --kills 100``: real processes, SIGKILL, a checkpoint after
each step, so that saving is hit as often as training. At the end weights, optimizer state and losses must be
the same to the last bit, and every step must stand in the log once.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from burnish.pebble import CONVERSATIONS, rows
from burnish.run_folder import RunFolder, read_lines

STEPS_A_KILL = 3
"""Steps of the run for each kill that is wanted: about so many are taken between two."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("--kills", type=int, default=100)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows(CONVERSATIONS)[:24]), "utf-8")
        alone, tortured = RunFolder(folder / "alone"), RunFolder(folder / "tortured")
        steps = STEPS_A_KILL * options.kills
        begin = command(data, steps)
        subprocess.run([*begin, "--out", str(alone.path)], check=True, stdout=subprocess.DEVNULL)
        kills = torture([*begin, "--out", str(tortured.path)], tortured, options.kills, options.seed)
        compare(alone, tortured, steps)
        print(f"{kills} kills in {steps} steps: the same weights, optimizer state and losses, bit for bit")


def command(data: Path, steps: int) -> list[str]:
    changes: dict[str, Any] = {
        "train.max_steps": steps,
        "train.epochs": steps,
        "train.batch_size": 4,
        "train.checkpoint_every": 1,
        "evaluate.samples": 0,
        "adapter.dropout": 0.1,
    }
    program = [sys.executable, "-m", "burnish.cli.main", "train", "--data", str(data), "--model", "pebble"]
    return [*program, *(f"--set={key}={value}" for key, value in changes.items())]


def torture(begin: list[str], run: RunFolder, wanted: int, seed: int) -> int:
    """Start, kill, go on, until the run is done; gives how many kills it took."""
    draw = random.Random(seed)
    kills = 0
    go_on = [*begin[: begin.index("--data")], "--resume", str(run.path)]
    while True:
        before = steps_in(run)
        process = subprocess.Popen(
            go_on if run.config.exists() else begin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        while process.poll() is None and steps_in(run) <= before:
            time.sleep(0.01)
        if kills < wanted:
            time.sleep(draw.uniform(0.0, 0.5))  # from here on: training, or saving
            if process.poll() is None:
                process.kill()
                kills += 1
                print(f"\rkilled {kills} of {wanted}, step {steps_in(run)}", end="", flush=True)
        _, complaint = process.communicate()
        if process.returncode == 0:
            print()
            return kills
        if process.returncode > 0:
            raise SystemExit(f"the run stopped by itself:\n{complaint}")


def steps_in(run: RunFolder) -> int:
    return sum(row["kind"] == "train" for row in read_lines(run.metrics))


def compare(alone: RunFolder, tortured: RunFolder, steps: int) -> None:
    logs = [
        [
            (row["step"], row["loss"], row["grad_norm"])
            for row in read_lines(run.metrics)
            if row["kind"] == "train"
        ]
        for run in (alone, tortured)
    ]
    if [step for step, *_ in logs[1]] != list(range(1, steps + 1)):
        raise SystemExit("a step is missing in the log, or stands there twice")
    if logs[0] != logs[1]:
        raise SystemExit("the losses differ")
    for name in (f"checkpoints/step-{steps:06d}/state.safetensors", "final/adapter_model.safetensors"):
        if (alone.path / name).read_bytes() != (tortured.path / name).read_bytes():
            keep = Path(tempfile.mkdtemp(prefix="torture-"))
            shutil.copytree(alone.path, keep / "alone")
            shutil.copytree(tortured.path, keep / "tortured")
            raise SystemExit(f"{name} differs; both runs are kept in {keep}")


if __name__ == "__main__":
    main()
