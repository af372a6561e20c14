"""One thing that the measurements of a run show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["problem", "warning", "good"]


@dataclass(frozen=True)
class Finding:
    """A symptom with what was measured, what most likely caused it, and what to change.

    ``symptom`` is a clause without a full stop, so that the verdict can quote it; the rest are whole
    sentences. ``fix`` is empty where nothing needs mending.
    """

    symptom: str
    severity: Severity
    evidence: str
    cause: str
    fix: str = ""


def percent(share: float) -> str:
    """``0.0173`` -> ``1.7 %``, with a space that no line is broken at."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"
