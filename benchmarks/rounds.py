"""Runs in processes of their own, one after the other, in turn; and their figures as a table and as JSON."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Spread:
    """The median of what several rounds gave, with the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def text(self, form: str) -> str:
        if self.least == self.most:
            return format(self.median, form)
        return f"{self.median:{form}} ({self.least:{form}}-{self.most:{form}})"


def in_process(call: str, **given: Any) -> dict[str, Any]:
    """What a function of the benchmarks (``module:name``) gives for these keywords, from a fresh process; and
    as ``others`` the share of the machine that other processes took meanwhile, where the system says."""
    command = [sys.executable, "-m", "benchmarks.call", call, json.dumps(given)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    busy, began = busy_seconds(), time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{call} failed:\n{done.stderr[-4000:]}")
    others = (busy_seconds() - busy) / (time.monotonic() - began) / (os.cpu_count() or 1)
    return dict(json.loads(done.stdout.splitlines()[-1])) | {"others": max(0.0, others)}


def busy_seconds() -> float:
    """Seconds that the machine's cores were busy with other than this process and what it started, all cores
    together, since some time in the past; always 0 where the system does not say."""
    stat = Path("/proc/stat")
    if not stat.is_file():
        return 0.0
    user, nice, system, _, _, irq, softirq, steal, *_ = map(
        int, stat.read_text("utf-8").splitlines()[0].split()[1:]
    )
    mine = os.times()
    ours = mine.user + mine.system + mine.children_user + mine.children_system
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK") - ours


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def show(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()
) -> None:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # As wide as it must be: a table that goes to a file must not be cut to a terminal's width.
    console = Console(width=max(Console().width, 200))
    console.print(table)
    for note in notes:
        console.print(f"  {note}", highlight=False)


def write(path: Path | None, name: str, found: dict[str, Any]) -> None:
    """Write the figures as JSON into ``path``, or into the folder of results."""
    place = path or RESULTS / f"{name}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    say(f"written: {place}")
