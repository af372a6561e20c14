"""The measurements of a run, read once, for the rules to look at."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish.errors import RunError
from burnish.files import read_json, read_lines
from burnish.run.folder import RunFolder

Row = dict[str, Any]

PUT_BACK = "Put the file back as it was, or remove it: the rest of the run is then shown without it."


@dataclass(frozen=True)
class Measured:
    """What a run folder holds of measurements; a part that is missing is empty.

    The rows are those of the files (see ``RunFolder``), in order of their steps.
    """

    metrics: list[Row] = field(default_factory=list)
    samples: list[Row] = field(default_factory=list)
    examples: list[Row] = field(default_factory=list)
    ledger: list[Row] = field(default_factory=list)
    evaluation: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, run: RunFolder) -> Measured:
        """Raises ``RunError`` where a file is no JSON."""
        return cls(
            metrics=list(read_lines(run.metrics)),
            samples=list(read_lines(run.samples)),
            examples=list(read_lines(run.examples)),
            ledger=list(read_lines(run.ledger)),
            evaluation=read_object(run.evaluation),
        )

    @property
    def train(self) -> list[Row]:
        """Training steps with a finite loss."""
        return [row for row in self.metrics if row["kind"] == "train" and _finite(row)]

    @property
    def held_out(self) -> list[Row]:
        """Finite held-out losses, one a step: of two at a step, the later one, which is of the
        model as it was saved."""
        rows = [row for row in self.metrics if row["kind"] == "held_out"]
        last = {row["step"]: row for row in rows if _finite(row)}
        return [last[step] for step in sorted(last)]

    @property
    def base(self) -> dict[str, Any]:
        """Figures of the base."""
        return self.evaluation.get("base") or {}

    @property
    def tuned(self) -> dict[str, Any]:
        """Figures of the tuned model; empty while the run has not finished."""
        return self.evaluation.get("tuned") or {}

    @property
    def pairs(self) -> list[tuple[Row, Row]]:
        """(the base's answer, the tuned model's last answer) to each prompt that both answered."""
        last = max((row["step"] for row in self.samples), default=0)
        if not last:
            return []
        base = {row["index"]: row for row in self.samples if row["step"] == 0}
        tuned = {row["index"]: row for row in self.samples if row["step"] == last}
        return [(base[index], tuned[index]) for index in sorted(base.keys() & tuned.keys())]

    @property
    def counts(self) -> dict[str, int]:
        """How many rows met which fate."""
        return self.summary.get("counts") or {}

    @property
    def summary(self) -> Row:
        """The ledger's last line."""
        return next((row for row in reversed(self.ledger) if row["fate"] == "summary"), {})

    def both(self, name: str) -> tuple[Any, Any] | None:
        """A figure of base and tuned, where both have it."""
        before, after = self.base.get(name), self.tuned.get(name)
        return None if before is None or after is None else (before, after)


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file of ours; empty where it does not exist."""
    if not path.is_file():
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise RunError(f"{path} does not hold a JSON object", why="It was changed by hand.", fix=PUT_BACK)
    return value


def _finite(row: Row) -> bool:
    """JSON has no nan: a loss that was none is null."""
    return row["loss"] is not None and math.isfinite(row["loss"])
