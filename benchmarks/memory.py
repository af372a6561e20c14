"""What ``burnish plan`` says of memory, beside what ``burnish train`` takes, each in a process of its own.

Models have random weights; rows are made on the spot, some hundred or some thousand tokens each. What plan
cannot count was fitted to the first of these runs; the others were planned before they were ever measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from benchmarks.material import SHAPES, _tokenizer
from benchmarks.rounds import say, show, write
from burnish.files import read_json
from burnish.run.folder import RunFolder

STEPS, ROWS_A_STEP, ROWS = 2, 16, 48


@dataclass(frozen=True)
class Run:
    """``words``: in each row, of two or three tokens; ``settings``: as after --set."""

    shape: str
    adapter: str
    words: int
    settings: tuple[str, ...]

    @property
    def name(self) -> str:
        return " ".join((self.shape, self.adapter, f"{self.words} words", *self.settings))


def _tokens(count: int) -> str:
    return f"train.micro_batch_tokens={count}"


PLAIN, AGAIN, FP32 = "train.compile=false", "train.recompute=true", "model.dtype=float32"
FITTED = (
    Run("pebble", "lora", 150, (_tokens(4096), PLAIN)),
    Run("pebble", "none", 150, (_tokens(2048), PLAIN)),
    Run("39m", "lora", 150, (_tokens(1024), PLAIN)),
    Run("39m", "lora", 150, (_tokens(4096), PLAIN)),
    Run("39m", "lora", 150, (_tokens(8192), PLAIN)),
    Run("39m", "lora", 150, (_tokens(4096), AGAIN)),
    Run("39m", "lora", 150, (_tokens(4096), "train.compile=true")),
    Run("39m", "lora", 500, (_tokens(4096), PLAIN)),
    Run("39m", "dora", 150, (_tokens(2048), PLAIN)),
    Run("39m", "ia3", 150, (_tokens(4096), PLAIN)),
    Run("39m", "bottleneck", 150, (_tokens(4096), PLAIN)),
    Run("39m", "prompt", 150, (_tokens(2048), PLAIN)),
    Run("39m", "lora", 150, (_tokens(2048), PLAIN, "model.quantize=nf4")),
    Run("39m", "none", 150, (_tokens(4096), PLAIN)),
    Run("39m", "none", 150, (_tokens(2048), PLAIN, FP32)),
    Run("135m", "lora", 150, (_tokens(2048), PLAIN)),
)
NOT_FITTED = (
    Run("pebble", "bottleneck", 150, (_tokens(2048), PLAIN)),
    Run("39m", "prefix", 150, (_tokens(2048), PLAIN)),
    Run("39m", "dora", 150, (_tokens(4096), AGAIN)),
    Run("39m", "lora", 150, (_tokens(4096), PLAIN, "adapter.rank=64", "adapter.targets=attention")),
    Run("39m", "lora", 500, (_tokens(2048), PLAIN, "adapter.init=pissa")),
    Run("39m", "dora", 150, (_tokens(4096), "train.compile=true")),
    Run("39m", "lora", 150, (_tokens(4096), PLAIN, "model.quantize=int8")),
    Run("39m", "dora", 150, (_tokens(4096), PLAIN, "model.quantize=nf4")),
    Run("135m", "ia3", 500, (_tokens(2048), PLAIN)),
    Run("135m", "none", 150, (_tokens(1024), AGAIN)),
)
RUNS = FITTED + NOT_FITTED


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", type=int, nargs="*", help="numbers of the runs, from 0")
    arguments.add_argument("--out", type=Path, help="where to write the JSON")
    options = arguments.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for run in [RUNS[n] for n in options.only] if options.only else RUNS:
            planned, measured = compare(run, Path(folder))
            found.append({"run": run.name, "fitted": run in FITTED, "planned": planned, "measured": measured})
            say(
                f"{run.name}: {planned / 1e9:.2f} planned, {measured / 1e9:.2f} GB ({planned / measured:.2f})"
            )
    lines = [
        (
            str(f["run"]),
            "yes" if f["fitted"] else "no",
            f"{f['planned'] / 1e9:.2f}",
            f"{f['measured'] / 1e9:.2f}",
            f"{f['planned'] / f['measured']:.2f}",
        )
        for f in found
    ]
    show("Peak of memory, GB", ("run", "fitted to", "planned", "measured", "ratio"), lines)
    write(options.out, "memory", {"runs": found})


def compare(run: Run, folder: Path) -> tuple[int, int]:
    """The peak that is planned, and the one that the run writes down, in bytes."""
    given = ["--model", _base(run, folder), "--data", str(_rows(run.words, folder)), "--adapter", run.adapter]
    fixed = (f"train.max_steps={STEPS}", f"train.batch_size={ROWS_A_STEP}", "evaluate.samples=0")
    given += [text for setting in (*fixed, *run.settings) for text in ("--set", setting)]
    planned = json.loads(_burnish(["plan", *given, "--json", "--no-probe"], folder).splitlines()[-1])
    out = Path(tempfile.mkdtemp(dir=folder)) / "run"
    _burnish(["train", *given, "--out", str(out)], folder)
    return planned["peak_bytes"], read_json(RunFolder(out).provenance)["peak_bytes"]


def _burnish(arguments: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "burnish", *arguments],
        env=os.environ | {"BURNISH_CACHE": str(folder / "cache")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"burnish {' '.join(arguments)}\n{done.stderr}")
    return done.stdout


def _base(run: Run, folder: Path) -> str:
    if run.shape == "pebble":
        return "pebble"
    place = folder / run.shape
    if not place.is_dir():
        shape = SHAPES[run.shape]
        torch.manual_seed(0)
        LlamaForCausalLM(shape.config()).to(torch.bfloat16).save_pretrained(place)
        _tokenizer(shape.tokenizer).save_pretrained(place)
    return str(place)


def _rows(words: int, folder: Path) -> Path:
    place = folder / f"{words}.jsonl"
    texts = (" ".join(f"word{(row * 7 + n * 13) % 997}" for n in range(words)) for row in range(ROWS))
    rows = (
        [{"role": "user", "content": f"Row {n}"}, {"role": "assistant", "content": text}]
        for n, text in enumerate(texts)
    )
    place.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows), "utf-8")
    return place


if __name__ == "__main__":
    main()
