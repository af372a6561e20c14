"""The training steps of this checkout and of another one by turns, so that both meet the same noise.

    git worktree add /tmp/before COMMIT
    python -m benchmarks.before /tmp/before --kind lora --steps 25

Whole runs on a shared machine differ by tens of percent; of two steps that follow each other the median ratio
over some twenty pairs is good to a few. Both train the same weights on the same rows, so that their losses
must be equal. The first step is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from benchmarks.material import SHAPES, make_material
from benchmarks.peers import ROWS_A_STEP
from benchmarks.rounds import ROOT, say, show, write

Pair = tuple[dict[str, Any], dict[str, Any]]
"""A step of the other checkout, and the same one of this."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("other", type=Path, help="the other checkout")
    arguments.add_argument("--shape", default="39m", choices=list(SHAPES))
    arguments.add_argument("--kind", default="lora", choices=["lora", "full"])
    arguments.add_argument("--steps", type=int, default=25)
    arguments.add_argument("--compile", action="store_true", help="compile the layers, as long runs do")
    arguments.add_argument("--out", type=Path, help="where to write the JSON")
    options = arguments.parse_args()
    pairs = paired(options.other.resolve(), options.shape, options.kind, options.steps, options.compile)
    ratios = [before["seconds"] / now["seconds"] for before, now in pairs[1:]]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    losses = [(before["loss"], now["loss"]) for before, now in pairs]
    apart = max(abs(one - other) / abs(one) for one, other in losses)
    rows = [
        ("speed of this checkout over the other's, median", f"{middle:.3f}"),
        ("half of the pairs between", f"{low:.3f} and {high:.3f}"),
        ("pairs of steps", f"{len(ratios)}"),
        ("losses", "the same in every step" if not apart else f"up to {apart:.1e} apart"),
    ]
    show(
        f"{options.kind}, {options.shape}, {'compiled' if options.compile else 'eager'}",
        ("measured", "value"),
        rows,
    )
    write(options.out, f"before-{options.kind}", {"pairs": pairs, "compiled": options.compile})


def paired(other: Path, shape: str, kind: str, steps: int, compile: bool) -> list[Pair]:
    with tempfile.TemporaryDirectory() as folder:
        rows = steps * ROWS_A_STEP
        make_material(folder, shape, rows, "alpaca")
        runs = [_started(root, folder, kind, compile) for root in (other, ROOT)]
        try:
            for run in runs:
                if _line(run) != "ready\n":
                    raise SystemExit("a checkout's run did not start; see above")
            pairs = []
            for step in range(steps):
                # Each is the first of every other pair.
                found = {id(run): _step(run) for run in (runs if step % 2 else reversed(runs))}
                before, now = (found[id(run)] for run in runs)
                pairs.append((before, now))
                say(f"step {step}: {before['seconds']:.2f} and {now['seconds']:.2f} s")
        finally:
            for run in runs:
                run.kill()
                run.wait()
    return pairs


def _started(root: Path, folder: str, kind: str, compile: bool) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / "stepping.py"), folder, kind]
    return subprocess.Popen(
        [*command, "compiled" if compile else "eager"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": f"{root / 'src'}:{root}", "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _step(run: subprocess.Popen[str]) -> dict[str, Any]:
    stdin: IO[str] | None = run.stdin
    assert stdin
    stdin.write("\n")
    stdin.flush()
    return dict(json.loads(_line(run)))


def _line(run: subprocess.Popen[str]) -> str:
    assert run.stdout
    return run.stdout.readline()


if __name__ == "__main__":
    main()
