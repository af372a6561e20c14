"""What each kind of adapter costs beside plain LoRA: speed and memory, side by side.

    python -m benchmarks.adapters --rows 96 --rounds 2

The same weights, rows and steps for each; every run is a process of its own, and the runs of a round follow
each other. The first step of each is not timed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.floor import RANK
from benchmarks.material import SHAPES, base_of
from benchmarks.peers import ALPHA, RATES, same_start, train_model
from benchmarks.rounds import Spread, in_process, say, show, write
from burnish.adapters.adapter import add_adapter, count_parameters
from burnish.adapters.load import load_model
from burnish.config import AdapterConfig
from burnish.config.load import LEARNING_RATES

WAYS = {
    "lora": ("lora", "none"),
    "dora": ("dora", "none"),
    "ia3": ("ia3", "none"),
    "prompt": ("prompt", "none"),
    "prefix": ("prefix", "none"),
    "bottleneck": ("bottleneck", "none"),
    "all weights": ("none", "none"),
    "lora on nf4": ("lora", "nf4"),
    "dora on nf4": ("dora", "nf4"),
    "lora on int8": ("lora", "int8"),
}
"""Kinds of adapter, and how the base is quantized under them."""


def run(way: str, folder: str, compile: bool, launched: float) -> dict[str, Any]:
    kind, quantize = WAYS[way]
    model = load_model(str(base_of(Path(folder))), quantize=quantize).model
    if kind == "none":
        model.requires_grad_(True)
        rate = RATES["full"]
    else:
        torch.manual_seed(0)
        config = AdapterConfig(kind=kind, rank=RANK, alpha=ALPHA)
        model = add_adapter(model, config, []).model
        same_start(model)
        rate = RATES["lora"] if kind in ("lora", "dora") else LEARNING_RATES[kind]
    count = count_parameters(model).trainable
    trained = train_model(model, Path(folder), rate, launched, compile=compile)
    return asdict(trained) | {"trainable": count}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--shape", default="39m", choices=list(SHAPES))
    arguments.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    arguments.add_argument("--rows", type=int, default=96, help="32 of them make a step")
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--compile", action="store_true", help="compile the layers, as long runs do")
    arguments.add_argument("--out", type=Path, help="where to write the JSON")
    options = arguments.parse_args()
    rounds: list[dict[str, dict[str, Any]]] = []
    with tempfile.TemporaryDirectory() as folder:
        in_process(
            "benchmarks.material:make_material",
            folder=folder,
            shape=options.shape,
            rows=options.rows,
            data="alpaca",
        )
        for number in range(options.rounds):
            rounds.append({})
            for way in options.ways:
                say(f"round {number + 1} of {options.rounds}: {way}")
                rounds[-1][way] = in_process(
                    "benchmarks.adapters:run",
                    way=way,
                    folder=folder,
                    compile=options.compile,
                    launched=time.time(),
                )
    rows = [_row(way, rounds) for way in options.ways]
    how = "compiled" if options.compile else "eager"
    title = f"{options.shape}, {options.rows} rows, {options.rounds} rounds, {how}"
    show(title, ("", "tokens/s", "of LoRA's speed", "memory, GB", "trained", "loss, first and last"), rows)
    write(
        options.out,
        f"adapters-{options.shape}",
        {"options": {**vars(options), "out": None}, "rounds": rounds},
    )


def _row(way: str, rounds: list[dict[str, dict[str, Any]]]) -> tuple[str, ...]:
    found = [one[way] for one in rounds]
    speeds = [_speed(one) for one in found]
    ratios = [_speed(one[way]) / _speed(one["lora"]) for one in rounds if "lora" in one]
    return (
        way,
        Spread.of(speeds).text(",.0f"),
        Spread.of(ratios).text(".2f") if ratios else "",
        Spread.of([one["peak_bytes"] / 1e9 for one in found]).text(".2f"),
        f"{found[0]['trainable']:,}",
        f"{found[0]['losses'][0]:.3f} {found[0]['losses'][-1]:.3f}",
    )


def _speed(figures: dict[str, Any]) -> float:
    return float(sum(figures["tokens"][1:]) / sum(figures["seconds"][1:]))


if __name__ == "__main__":
    main()
