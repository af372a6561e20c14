"""The results of a finished run in the terminal."""

from __future__ import annotations

import shlex
from typing import Any

from burnish.cli.terminal import Terminal
from burnish.diagnose import Measured
from burnish.files import read_json, read_lines
from burnish.run.folder import RunFolder

FIGURES = (
    ("held_out_accuracy", "questions answered", "share"),
    ("cloze_accuracy", "facts known (cloze)", "share"),
    ("prose_loss", "prose loss, nats", "nats"),
    ("held_out_loss", "answer loss, nats", "nats"),
    ("stopped_share", "answers that stop", "share"),
)
SHOWN = 8
"""Answers shown side by side."""


def show_outcome(run: RunFolder, terminal: Terminal) -> None:
    """Base and tuned side by side: their answers, then their figures; then where to go on."""
    figures = read_json(run.evaluation)
    terminal.line()
    if answers := _answers(run):
        of = "held-out prompts" if Measured.of(run).counts.get("held out") else "prompts of trained rows"
        terminal.texts(f"The same {of}, before and after", ("asked", "base", "tuned"), answers)
    rows = _figures(figures["base"], figures["tuned"])
    terminal.figures("What changed", ("measured", "base", "tuned", "change"), rows)
    origin = read_json(run.provenance)
    done = f"Done in {origin['seconds']:.0f} s, training in {origin['peak_bytes'] / 1e9:.2f} GB of memory."
    terminal.line(f"\n{done} Look:  {run.report}")
    terminal.line(f"Talk to it:  burnish chat {shlex.quote(str(run.path))}")


def _answers(run: RunFolder) -> list[tuple[str, str, str]]:
    samples = list(read_lines(run.samples))
    last = max((row["step"] for row in samples), default=0)
    base = {row["index"]: row for row in samples if row["step"] == 0}
    tuned = {row["index"]: row for row in samples if row["step"] == last}
    return [
        (_short(base[index]["prompt"][-1]["content"]), _marked(base[index]), _marked(tuned[index]))
        for index in sorted(set(base) & set(tuned))[:SHOWN]
    ]


def _marked(sample: dict[str, Any]) -> str:
    mark = {True: "✓ ", False: "✗ ", None: ""}[sample["correct"]]
    return mark + _short(sample["answer"]) + ("" if sample["stopped"] else " ... (does not stop)")


def _short(text: str, limit: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _figures(base: dict[str, Any], tuned: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    rows = []
    for key, name, unit in FIGURES:
        if key in base and key in tuned:
            change = tuned[key] - base[key]
            text = f"{100 * change:+.1f} pts" if unit == "share" else f"{change:+.3f}"
            rows.append((name, _figure(base, key, unit), _figure(tuned, key, unit), text))
    return rows


def _figure(figures: dict[str, Any], key: str, unit: str) -> str:
    if unit == "nats":
        return f"{figures[key]:.3f}"
    interval = figures.get(f"{key}_interval")
    spread = f" ({100 * interval[0]:.1f}-{100 * interval[1]:.1f})" if interval else ""
    return f"{100 * figures[key]:.1f} %{spread}"
