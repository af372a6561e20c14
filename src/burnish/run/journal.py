"""What a run writes while it goes on: its metrics and its sample answers, a line each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.files import append_line, flush, read_lines, write_lines
from burnish.run.folder import RunFolder
from burnish.run.track import Tracker


def missing_steps(metrics: Iterable[dict[str, Any]], last: int) -> list[int]:
    """The training steps up to ``last`` of which there is no row."""
    written = {row["step"] for row in metrics if row["kind"] == "train"}
    return [step for step in range(1, last + 1) if step not in written]


@dataclass(frozen=True)
class Journal:
    """``metrics.jsonl`` and ``samples.jsonl`` of ``run``, and whatever else tracks its metrics. Without a run
    nothing is written: of several ranks only the first keeps a journal."""

    run: RunFolder | None
    trackers: Sequence[Tracker] = ()

    def metric(self, row: dict[str, Any]) -> None:
        if self.run:
            append_line(self.run.metrics, row)
        for tracker in self.trackers:
            tracker.log(row)

    def sample(self, row: dict[str, Any]) -> None:
        if self.run:
            append_line(self.run.samples, row)

    def cut_after(self, step: int) -> list[int]:
        """Remove what was written since the checkpoint of ``step``. Returns the steps up to it of which the
        metrics have no line: it was lost, or removed by hand."""
        for path in self._files:
            write_lines(path, [row for row in read_lines(path) if row["step"] <= step])
        return missing_steps(read_lines(self.run.metrics), step) if self.run else []

    def cut_evaluation(self, step: int) -> None:
        """Remove the evaluation after ``step``, which an end that was interrupted has written."""
        for path in self._files:
            rows = list(read_lines(path))
            write_lines(path, [row for row in rows if row["step"] != step or row.get("kind") == "train"])

    def clear(self) -> None:
        """Remove what a run left that was stopped before its first checkpoint."""
        for path in self._files:
            path.unlink(missing_ok=True)

    def flush(self) -> None:
        """Write all to the disk: a checkpoint counts it as written."""
        for path in self._files:
            if path.exists():
                flush(path)

    def close(self) -> None:
        for tracker in self.trackers:
            tracker.close()

    @property
    def _files(self) -> tuple[Path, ...]:
        return (self.run.metrics, self.run.samples) if self.run else ()
