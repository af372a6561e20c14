"""The ledger: what became of each row that is not trained as it stands."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from burnish.data import Source
from burnish.numbers import plural
from burnish.tokens import Fitted, TokenTable

READ, TRAINED, HELD_OUT, REJECTED = "read", "trained", "held out", "rejected"
"""What is counted of all rows, and the fate of those that cannot be read; ``Fitted`` has the other fates."""


@dataclass
class Ledger:
    """A line for each row that is not trained as it stands, and the counts of all. ``lost_tokens``,
    ``lost_trained``: what the limit of length cost, and how much of it was to be learnt."""

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

    def as_rows(self, train: TokenTable) -> list[dict[str, Any]]:
        """The lines and a last one with all counts, for ``ledger.jsonl``; ``train``: what is trained."""
        summary = {
            "fate": "summary",
            "counts": dict(self.counts),
            "tokens": train.tokens,
            "trained_tokens": train.trained_tokens,
            "lost_tokens": self.lost_tokens,
            "lost_trained_tokens": self.lost_trained,
        }
        return [*self.lines, summary]

    def in_words(self, train: TokenTable) -> str:
        """All counts in a sentence or two."""
        counts = self.counts
        parts = [
            f"{plural(counts[TRAINED], 'row')} to train on ({train.trained_tokens:,} of "
            f"{train.tokens:,} tokens trained)",
            f"{counts[HELD_OUT]:,} held out",
        ]
        parts += [
            f"{count:,} {fate}"
            for fate, count in counts.items()
            if count and fate not in (READ, TRAINED, HELD_OUT)
        ]
        lost = ""
        if self.lost_tokens:
            lost = (
                f" Their length cost {self.lost_tokens:,} tokens, {self.lost_trained:,} of them to be learnt."
            )
        return f"{plural(counts[READ], 'row')} read: {', '.join(parts)}.{lost}"
