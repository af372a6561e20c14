"""What became of the rows that are not trained as they stand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from burnish.data import Source
from burnish.tokens import Fitted


@dataclass
class Ledger:
    """What became of each row: a line for those that are not trained as they stand, and all counts."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    lost_tokens: int = 0
    lost_trained: int = 0

    def note(self, fate: str, source: Source, reason: str) -> None:
        self.counts[fate] += 1
        self.lines.append({"fate": fate, "path": source.path, "row": source.row, "reason": reason})

    def note_fitted(self, fitted: Fitted, source: Source) -> None:
        if fitted.fate:
            self.note(fitted.fate, source, fitted.reason)
            self.lost_tokens += max(fitted.lost_tokens, 0)
            self.lost_trained += max(fitted.lost_trained, 0)
