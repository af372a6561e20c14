"""Supervised fine-tuning: burnish, TRL and the floor of the machine, side by side.

    python -m benchmarks.sft                         # what make bench runs
    python -m benchmarks.sft --shape 135m --kind lora full --rounds 5 --peers burnish trl-best floor

Every run is a process of its own, and the runs of a round follow each other: what changes on the machine in
the course of an hour then meets all of them. The first step of each is not timed.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.material import SHAPES
from benchmarks.peers import PEERS
from benchmarks.rounds import Spread, in_process, say, show, write

DEFAULT_PEERS = ["burnish", "burnish-eager", "trl", "trl-best", "floor-shared"]

Round = dict[str, dict[str, Any]]
"""The figures of each peer in one round, by its name."""

LOSS_TOLERANCE, NORM_TOLERANCE = 0.005, 0.03
"""Relative; for the losses of the first and last step and the first gradient's norm. A tool that trained
something else is not faster at this."""

QUIET = 0.05
"""The share of the machine that others may take."""

REFERENCE = "burnish"
KINDS = {"lora": "LoRA of rank 16", "full": "All weights"}

FLOOR_OF = {"burnish": "floor-shared", "burnish-eager": "floor-shared"}
"""Which floor a peer stands on, where it is not the one of whole rows."""

NOTES = (
    "tokens/s: tokens of the rows as they are, without padding, in all steps but the first.",
    "faster: tokens/s of burnish over those of the peer. In brackets the least and the most of the rounds.",
    "burnish: layers compiled, as in any run of 2e14 operations or more; burnish-eager: as in shorter ones.",
    "trl: its defaults (fp32 weights under bf16 autocast, activations recomputed, 8 rows at a time, padded).",
    "trl-best: bf16 weights, adapters and Adam, nothing recomputed, the rows of a step sorted by length.",
    "All take the same rows a step, so TRL does not pack: that would put other rows into a step.",
    "Each tool divides the loss of a step by its trained tokens, so losses and gradients are comparable.",
    "floor: the products of the timed steps alone, bf16, in micro-batches of 4,096 tokens; of attention",
    "the causal half. floor-shared: what rows begin with alike stands once; burnish is measured by that one.",
    "of peak: the operations of the floor over what one large product would do in the time (MFU).",
    "memory: the most that the process held, resident (on CUDA: allocated).",
    "step 1 at: seconds from the start of the process, imports and loading included.",
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--shape", nargs="+", default=["39m"], choices=list(SHAPES))
    arguments.add_argument("--kind", nargs="+", default=["lora", "full"], choices=["lora", "full"])
    arguments.add_argument("--peers", nargs="+", default=DEFAULT_PEERS, choices=list(PEERS))
    arguments.add_argument("--data", default="alpaca", choices=["alpaca", "prefix"])
    arguments.add_argument("--rows", type=int, default=192, help="32 of them make a step")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--out", type=Path, help="where to write the JSON")
    options = arguments.parse_args()
    found = []
    for shape in options.shape:
        with tempfile.TemporaryDirectory() as folder:
            say(f"{shape}: making weights and rows")
            material = in_process(
                "benchmarks.material:make_material",
                folder=folder,
                shape=shape,
                rows=options.rows,
                data=options.data,
            )
            for kind in options.kind:
                rounds = [
                    one_round(folder, shape, kind, options.peers, f"{shape} {kind}, round {n + 1}")
                    for n in range(options.rounds)
                ]
                found.append({"shape": shape, "kind": kind, "material": material, "rounds": rounds})
                show(title(shape, kind, material), COLUMNS, lines(rounds), floors(rounds) + disturbed(rounds))
                write(options.out, f"sft-{options.data}", {"found": found})
    print("\n".join(NOTES))


def one_round(folder: str, shape: str, kind: str, peers: Sequence[str], label: str) -> Round:
    figures = {}
    for peer in peers:
        job = {"peer": peer, "folder": folder, "shape": shape, "kind": kind, "launched": time.time()}
        figures[peer] = in_process("benchmarks.peers:run", **job)
        speed = f"{tokens_per_second(figures[peer]):,.0f} tokens/s" if "tokens" in figures[peer] else "done"
        say(f"{label}: {peer} {speed}; others took {figures[peer]['others']:.0%} of the machine")
    return figures


def title(shape: str, kind: str, material: dict[str, Any]) -> str:
    machine = material["machine"]
    threads = f", {machine['threads']} threads" if machine["device"] == "cpu" else ""
    return (
        f"{KINDS[kind]}, {shape} ({material['parameters'] / 1e6:.3g} M parameters), {material['rows']} rows "
        f"of {material['text']} text: {material['tokens']:,} tokens, {material['trained_tokens']:,} trained; "
        f"{machine['device']}{threads}"
    )


COLUMNS = (
    "peer",
    "tokens/s",
    "faster",
    "floor/time",
    "of peak",
    "memory, GB",
    "step 1 at, s",
    "first loss",
    "last loss",
    "gradient norm",
)


def lines(rounds: Sequence[Round]) -> list[tuple[str, ...]]:
    """The table's rows, one for each tool."""
    return [_line(peer, rounds) for peer in rounds[0] if "flops" not in rounds[0][peer]]


def floors(rounds: Sequence[Round]) -> list[str]:
    """A sentence for each floor that was measured."""
    said = []
    for name, floor in rounds[0].items():
        if "flops" not in floor:
            continue
        seconds = Spread.of([figures[name]["seconds"] for figures in rounds]).text(".2f")
        speeds = [figures[name]["flops"] / figures[name]["seconds"] / 1e9 for figures in rounds]
        peak = Spread.of([figures[name]["peak"] / 1e9 for figures in rounds]).text(",.0f")
        said.append(
            f"{name}: {seconds} s for {floor['flops'] / 1e12:.2f} TFLOP, {Spread.of(speeds).text(',.0f')} "
            f"GFLOP/s; one large product reaches {peak}."
        )
    return said


def disturbed(rounds: Sequence[Round]) -> list[str]:
    """A warning where other processes took enough of the machine to spoil the figures."""
    most = max(run["others"] for figures in rounds for run in figures.values())
    if most <= QUIET:
        return []
    return [f"Not to be relied on: other processes took up to {most:.0%} of the machine meanwhile."]


def _line(peer: str, rounds: Sequence[Round]) -> tuple[str, ...]:
    runs = [figures[peer] for figures in rounds]
    run = runs[0]
    return (
        peer,
        Spread.of([tokens_per_second(run) for run in runs]).text(",.0f"),
        _ratio(peer, rounds),
        _of_floor(peer, rounds),
        _of_peak(peer, rounds),
        f"{max(run['peak_bytes'] for run in runs) / 1e9:.2f}",
        Spread.of([run["started"] for run in runs]).text(".1f"),
        f"{run['losses'][0]:.3f}",
        f"{run['losses'][-1]:.3f}",
        f"{run['norms'][0]:.3f}",
    )


def _ratio(peer: str, rounds: Sequence[Round]) -> str:
    if peer == REFERENCE or REFERENCE not in rounds[0]:
        return ""
    for figures in rounds:
        if fault := differs(figures[peer], figures[REFERENCE]):
            return f"none: {fault}"
    ratios = [tokens_per_second(f[REFERENCE]) / tokens_per_second(f[peer]) for f in rounds]
    return Spread.of(ratios).text(".2f")


def _of_floor(peer: str, rounds: Sequence[Round]) -> str:
    name = FLOOR_OF.get(peer, "floor")
    if name not in rounds[0]:
        return ""
    return Spread.of([f[name]["seconds"] / sum(f[peer]["seconds"][1:]) for f in rounds]).text(".2f")


def _of_peak(peer: str, rounds: Sequence[Round]) -> str:
    """Model FLOP utilisation: the operations that the steps need, recomputed ones not counted, of those that
    one large product would do in that time."""
    name = FLOOR_OF.get(peer, "floor")
    if name not in rounds[0]:
        return ""
    return Spread.of([f[name]["flops"] / sum(f[peer]["seconds"][1:]) / f[name]["peak"] for f in rounds]).text(
        ".0%"
    )


def tokens_per_second(run: dict[str, Any]) -> float:
    return sum(run["tokens"][1:]) / sum(run["seconds"][1:])


def differs(run: dict[str, Any], other: dict[str, Any]) -> str:
    """Why two runs did not train the same, empty where they did."""
    if run["tokens"] != other["tokens"]:
        return "other tokens a step"
    for name, number in (("first", 0), ("last", -1)):
        if not math.isclose(run["losses"][number], other["losses"][number], rel_tol=LOSS_TOLERANCE):
            return f"another loss in the {name} step"
    if not math.isclose(run["norms"][0], other["norms"][0], rel_tol=NORM_TOLERANCE):
        return "another gradient"
    return ""


if __name__ == "__main__":
    main()
