"""All rules, run over a run and ranked."""

from __future__ import annotations

from collections.abc import Callable

from burnish.diagnose import answers, curves, data, figures
from burnish.diagnose.finding import Finding, Severity
from burnish.diagnose.measured import Measured
from burnish.run.folder import RunFolder

# Within a severity, findings keep this order: what breaks the run first, what explains the rest early.
RULES: tuple[Callable[[Measured], Finding | None], ...] = (
    curves.not_finite,
    curves.diverging,
    curves.not_falling,
    answers.unchanged,
    answers.empty,
    answers.never_stops,
    answers.role_leakage,
    answers.repeats,
    figures.accuracy_fell,
    figures.prose_forgotten,
    figures.facts_forgotten,
    curves.overfit,
    figures.accuracy_flat,
    figures.knows_more_than_it_says,
    figures.knows_little,
    curves.spikes,
    data.steps_missing,
    data.trained_too,
    data.rows_dropped,
    data.much_cut,
    data.many_epochs,
    figures.accuracy_rose,
    curves.held_out_fell,
    answers.stopping_learned,
    figures.prose_kept,
)
RANK: dict[Severity, int] = {"problem": 0, "warning": 1, "good": 2}


def diagnose(run: RunFolder) -> list[Finding]:
    """What the run's measurements show, worst first. Raises ``RunError`` where a file is no JSON."""
    return findings_of(Measured.of(run))


def findings_of(measured: Measured) -> list[Finding]:
    """As ``diagnose``, of what has been read. A run that was measured always has a finding."""
    found = [finding for rule in RULES if (finding := rule(measured))]
    found.sort(key=lambda finding: RANK[finding.severity])
    healthy = measured.tuned or measured.pairs or len(measured.train) >= curves.FEWEST_STEPS
    if healthy and all(finding.severity == "good" for finding in found):
        found.insert(0, _healthy(measured))
    return found


def _healthy(measured: Measured) -> Finding:
    looked_at = [
        f"{len(measured.train):,} training steps" if measured.train else "",
        f"{len(measured.held_out):,} held-out losses" if measured.held_out else "",
        f"{len(measured.pairs):,} pairs of sample answers" if measured.pairs else "",
        f"{len(measured.tuned):,} figures of the tuned model" if measured.tuned else "",
    ]
    return Finding(
        "No check found anything wrong",
        "good",
        f"{len(RULES)} checks looked at {', '.join(part for part in looked_at if part)}.",
        "Each check compares what was measured with a threshold. It sees nothing that was not measured.",
    )
