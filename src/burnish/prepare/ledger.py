"""The ledger: what became of each row that is not trained as it stands."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from burnish.data import Source
from burnish.numbers import plural
from burnish.tokens import Encoded, Fitted, TokenTable

READ, TRAINED, HELD_OUT = "read", "trained", "held out"
"""What is counted of all rows."""
REJECTED, ALSO_TRAINED = "rejected", "also trained"
"""The fates of rows that cannot be read, and of those that ``data.held_out`` names and that are trained too;
``Fitted`` has the other fates."""
SHOWN = 8
"""Unread keys named in a sentence; the rest are counted."""
LISTED = 1000
"""Those that are counted one by one."""
OTHERS = "other keys"


@dataclass
class Ledger:
    """A line for each row that is not trained as it stands, and the counts of all. ``lost_tokens``,
    ``lost_trained``: what the limit of length cost, and how much of it was to be learnt. ``unread``: the keys
    that nothing reads, in words, and in how many rows. ``same_prompt``: rows of ``data.held_out`` that begin
    with a prompt that is trained."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    lost_tokens: int = 0
    lost_trained: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    same_prompt: int = 0

    def note(self, fate: str, source: Source, reason: str) -> None:
        self.counts[fate] += 1
        self.lines.append({"fate": fate, "path": source.path, "row": source.row, "reason": reason})

    def note_fitted(self, fitted: Fitted, encoded: Encoded) -> None:
        for key in encoded.unread:
            self.unread[key if key in self.unread or len(self.unread) < LISTED else OTHERS] += 1
        if fitted.fate:
            self.note(fitted.fate, encoded.conversation.source, fitted.reason)
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
            "held_out_with_a_trained_prompt": self.same_prompt,
            "not_read": dict(self.unread.most_common()),
        }
        return [*self.lines, summary]

    def in_words(self, train: TokenTable) -> str:
        """All counts in a few sentences."""
        counts = self.counts
        parts = [
            f"{plural(counts[TRAINED], 'row')} to train on ({train.trained_tokens:,} of "
            f"{train.tokens:,} tokens trained)",
        ]
        parts += [
            f"{counts[fate]:,} {fate}"
            for fate in (HELD_OUT, *(name for name in counts if name not in (READ, TRAINED, HELD_OUT)))
            if counts[fate]
        ]
        said = [f"{plural(counts[READ], 'row')} read: {', '.join(parts)}."]
        if self.lost_tokens:
            said.append(
                f"Their length cost {self.lost_tokens:,} tokens, {self.lost_trained:,} of them to be learnt."
            )
        if also := counts[ALSO_TRAINED]:
            are = "are trained too, and are" if also > 1 else "is trained too, and is"
            said.append(f"{plural(also, 'row')} of data.held_out {are} not measured.")
        if same := self.same_prompt:
            begin = "begin" if same > 1 else "begins"
            said.append(f"{plural(same, 'row')} of data.held_out {begin} with a prompt that is trained.")
        return " ".join([*said, *self._unread_in_words()])

    def _unread_in_words(self) -> list[str]:
        if not self.unread:
            return []
        keys = [f"{key} ({plural(count, 'row')})" for key, count in self.unread.most_common(SHOWN)]
        more = f" and {len(self.unread) - SHOWN:,} more keys" if len(self.unread) > SHOWN else ""
        return [f"Not read: {', '.join(keys)}{more}."]
