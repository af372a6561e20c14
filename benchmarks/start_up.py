"""How long a person waits: for ``burnish --help``, and for the first step of ``burnish train``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.rounds import ROOT, Spread, say, show, write

POLL = 0.01
"""Seconds between looks at the metrics of the run."""
CONVERSATIONS = ROOT / "src" / "burnish" / "pebble" / "data" / "sft.jsonl"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--out", type=Path, help="where to write the JSON")
    options = arguments.parse_args()
    found: dict[str, list[float]] = {name: [] for name in WAITS}
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name, wait in WAITS.items():
                found[name].append(wait(Path(folder)))
                say(f"round {number + 1}: {name} {found[name][-1]:.2f} s")
    lines = [(name, Spread.of(seconds).text(".2f")) for name, seconds in found.items()]
    show("From the command to what a person waits for", ("command", "seconds"), lines)
    write(options.out, "start-up", {"seconds": found})


def help_shown(folder: Path) -> float:
    began = time.monotonic()
    subprocess.run([*BURNISH, "--help"], check=True, capture_output=True)
    return time.monotonic() - began


def first_step(folder: Path) -> float:
    """Train pebble on its own conversations, and stop once the first step is written down. The folder's cache
    is empty the first time: then all rows are read, proven and tokenized."""
    out = folder / f"run-{time.monotonic_ns()}"
    command = [*BURNISH, "train", "--model", "pebble", "--data", str(CONVERSATIONS), "--out", str(out)]
    command += ["--set", "evaluate.samples=0"]
    environment = os.environ | {"BURNISH_CACHE": str(folder / "cache")}
    began = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and not _any_step(out / "metrics.jsonl"):
            time.sleep(POLL)
        seconds = time.monotonic() - began
        if process.poll() not in (None, 0):
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    finally:
        process.kill()
        process.wait()
    return seconds


def _any_step(metrics: Path) -> bool:
    return metrics.is_file() and '"train"' in metrics.read_text("utf-8")


BURNISH = [str(Path(sys.executable).parent / "burnish")]
WAITS = {
    "burnish --help": help_shown,
    "burnish train, first step, new rows": first_step,
    "burnish train, first step, rows seen before": first_step,
}


if __name__ == "__main__":
    main()
