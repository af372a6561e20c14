"""Kill training runs, go on with them, and compare each with one that was left alone.

``make torture``: one long run is killed a hundred times, at random moments and before random changes of the
disk; then a short run is killed once before each change of the disk that it makes, from its first file to its
report. Every life is a process of its own that executes ``burnish train``, ended by the system. In the end
weights, optimizer state, losses, evaluations and samples must be the same to the last bit.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from burnish.files import read_json, read_lines
from burnish.pebble import CONVERSATIONS, rows
from burnish.run.folder import LOCK, RunFolder
from conftest import small_tokenizer, tiny_model

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}
"""Audit events that change the disk (PEP 578), beside files opened to be written to, and fsync."""
LOADED = ["burnish.cli.main", "burnish.recipes.sft", "transformers.models.llama.modeling_llama"]
"""What each life finds imported: the five seconds that it takes are then paid once."""


@dataclass(frozen=True)
class Bench:
    """A folder to work in, with data and a small model; ``lives`` starts processes."""

    folder: Path
    lives: ForkServerContext

    def begin(self, run: RunFolder, steps: int) -> list[str]:
        """What to type to train. A checkpoint after each step, so that saving is hit as often as training."""
        changes: dict[str, Any] = {
            "train.max_steps": steps,
            "train.epochs": steps,
            "train.batch_size": 4,
            "train.checkpoint_every": 1,
            "train.final": "best",
            "train.learning_rate": 0.01,
            "evaluate.every": 2,
            "evaluate.samples": 1,
            "evaluate.forgetting": "none",
            "evaluate.max_new_tokens": 4,
            "adapter.dropout": 0.1,
            "data.held_out_share": 0.2,
        }
        given = ["--data", "rows.jsonl", "--model", "model", "--out", str(run.path)]
        return ["train", *given, *(f"--set={key}={value}" for key, value in changes.items())]

    def live(self, arguments: list[str], fatal: int = 0, delay: float = 0.0) -> tuple[bool, int]:
        """Run burnish, killed before its change of the disk of the number ``fatal`` (from 1; 0: never), or
        ``delay`` seconds later. Gives whether it came to its end, and how many changes it made."""
        count, log = self.lives.Value("i", 0), self.folder / "log"
        life = self.lives.Process(target=_life, args=(arguments, self.folder, log, fatal, delay, count))
        life.start()
        life.join()
        if life.exitcode not in (0, -signal.SIGKILL, -signal.SIGALRM):
            raise AssertionError(f"the run ended by itself:\n{log.read_text('utf-8')}")
        return life.exitcode == 0, count.value

    def survive(self, run: RunFolder, steps: int, **end: Any) -> tuple[bool, int]:
        """One life of a run: it begins, or goes on where it has begun."""
        go_on = ["train", "--resume", str(run.path)]
        return self.live(go_on if run.config.exists() else self.begin(run, steps), **end)


def bench(folder: Path) -> Bench:
    """``folder`` with 24 rows and a random model of two layers, 32 wide."""
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows(CONVERSATIONS)[:24]), encoding="utf-8"
    )
    tiny_model(vocabulary=len(small_tokenizer())).save_pretrained(folder / "model")
    small_tokenizer().save_pretrained(folder / "model")
    lives = multiprocessing.get_context("forkserver")
    lives.set_forkserver_preload(LOADED)
    return Bench(folder, lives)


def _life(arguments: list[str], folder: Path, log: Path, fatal: int, delay: float, count: Any) -> None:
    os.chdir(folder)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)

    def changing() -> None:
        count.value += 1
        if count.value == fatal and delay:
            signal.setitimer(signal.ITIMER_REAL, delay)  # the system's own, which ends the process in mid-air
        elif count.value == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def listening(event: str, given: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and given[2] & (os.O_WRONLY | os.O_RDWR)):
            changing()

    fsync = os.fsync

    def listening_fsync(handle: int) -> None:
        changing()
        fsync(handle)

    os.fsync = listening_fsync
    sys.addaudithook(listening)
    from burnish.cli.main import main

    sys.argv = ["burnish", *arguments]
    main()


def random_kills(bench: Bench, wanted: int, seed: int, tell: Callable[[str], object] = str) -> None:
    """Kill one run ``wanted`` times, half of them at random moments and half before random changes, and go on
    to its end."""
    steps, draw, kills = 2 * wanted, random.Random(seed), 0  # most lives take a step or less, some take two
    alone, run = RunFolder(bench.folder / "alone"), RunFolder(bench.folder / "killed")
    bench.survive(alone, steps)
    done = False
    while not done:
        end: dict[str, Any] = {}
        if kills < wanted:
            end = {"fatal": draw.randint(1, 60), "delay": draw.choice([0.0, draw.uniform(0.001, 0.1)])}
        done, _ = bench.survive(run, steps, **end)
        kills += not done
        step = max((row["step"] for row in read_lines(run.metrics)), default=0)
        tell(f"killed {kills} of {wanted}, step {step} of {steps}")
    assert kills == wanted, f"it came to its end after {kills} kills already"
    compare(alone, run)


def each_change(bench: Bench, every: int, tell: Callable[[str], object] = str) -> int:
    """Kill a run of three steps before each ``every``-th change of the disk, and go on; gives how often."""
    steps, kills = 3, 0
    alone = RunFolder(bench.folder / "alone-short")
    bench.survive(alone, steps)  # the first run of some rows also writes them to the cache
    _, changes = bench.survive(RunFolder(bench.folder / "alone-too"), steps)
    compare(alone, RunFolder(bench.folder / "alone-too"))
    for fatal in range(1, changes + 1, every):
        run = RunFolder(bench.folder / f"killed-before-{fatal}")
        done, _ = bench.survive(run, steps, fatal=fatal)
        assert not done
        if not run.report.exists():
            done, _ = bench.survive(run, steps)
            assert done
        compare(alone, run)
        kills += 1
        tell(f"killed before change {fatal} of {changes}")
    return kills


def compare(alone: RunFolder, killed: RunFolder) -> None:
    """``AssertionError`` where anything that the two runs learnt or measured differs."""
    names = [
        {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.name != LOCK}
        for run in (alone, killed)
    ]
    assert names[0] == names[1]
    for name in names[0]:
        if name.startswith("checkpoints/step") or name.endswith(".safetensors"):
            one, other = alone.path / name, killed.path / name
            assert one.is_dir() or one.read_bytes() == other.read_bytes(), f"{other} differs from {one}"
    assert read_json(alone.evaluation) == read_json(killed.evaluation)
    assert list(read_lines(alone.samples)) == list(read_lines(killed.samples))
    logs = [[row | {"seconds": 0} for row in read_lines(run.metrics)] for run in (alone, killed)]
    assert logs[0] == logs[1]
    trained = [row["step"] for row in logs[1] if row["kind"] == "train"]
    assert trained == list(range(1, len(trained) + 1)), "a step is missing in the log, or stands there twice"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("--kills", type=int, default=100, help="at random, of the long run")
    arguments.add_argument("--every", type=int, default=1, help="kill the short one at each so many changes")
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    print(f"Working in {folder}; it stays where it is.")
    os.environ["BURNISH_CACHE"] = str(folder / "cache")
    ready = bench(folder)
    random_kills(ready, options.kills, options.seed, tell)
    print(f"\n{options.kills} kills of one run: the same bits.", flush=True)
    kills = each_change(ready, options.every, tell)
    print(f"\n{kills} runs killed once each: the same bits.", flush=True)


def tell(text: str) -> None:
    print(f"\r{text}   ", end="", flush=True)


if __name__ == "__main__":
    main()
