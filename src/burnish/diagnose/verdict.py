"""The whole run in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.diagnose.finding import Finding, percent


def verdict(findings: Sequence[Finding], evaluation: dict[str, Any]) -> str:
    """What happened, in one plain sentence: the gain (or its lack) first, then the worst that was found."""
    base, tuned = evaluation.get("base") or {}, evaluation.get("tuned") or {}
    if not tuned:
        return _unfinished(findings)
    lead = _accuracy(base, tuned) or _loss(base, tuned) or "The run has finished"
    return f"{lead}{_caveat(findings, lead)}."


def _unfinished(findings: Sequence[Finding]) -> str:
    problems = [finding for finding in findings if finding.severity == "problem"]
    but = f", and so far {_as_clause(problems[0])}" if problems else ""
    return f"The tuned model has not been measured: the run has not finished{but}."


def _accuracy(base: dict[str, Any], tuned: dict[str, Any]) -> str:
    before, after = base.get("held_out_accuracy"), tuned.get("held_out_accuracy")
    if before is None or after is None:
        return ""
    was, now = base.get("held_out_accuracy_interval"), tuned.get("held_out_accuracy_interval")
    if was and now and was[0] <= now[1] and now[0] <= was[1]:
        return (
            "Fine-tuning made no sure difference to unseen questions "
            f"({percent(before)} right before, {percent(after)} after)"
        )
    where = "up" if after > before else "down"
    return (
        f"The tuned model answers {percent(after)} of unseen questions right, {where} from {percent(before)}"
    )


def _loss(base: dict[str, Any], tuned: dict[str, Any]) -> str:
    before, after = base.get("held_out_loss"), tuned.get("held_out_loss")
    if before is None or after is None:
        return ""
    went = "fell" if after < before else "rose"
    return f"Loss on answers that were not trained {went} from {before:.2f} to {after:.2f} nats a token"


def _caveat(findings: Sequence[Finding], lead: str) -> str:
    """The worst finding, quoted. One that says what the lead says already is passed over."""
    told = ("no sure difference",) if "no sure difference" in lead else ()
    ranked = [f for f in findings if not any(words in f.symptom for words in told)]
    problems = [finding for finding in ranked if finding.severity == "problem"]
    warnings = [finding for finding in ranked if finding.severity == "warning"]
    if problems:
        more = len(problems) - 1
        rest = f" (and {more} more {'problems' if more > 1 else 'problem'})" if more else ""
        return f", but {_as_clause(problems[0])}{rest}"
    if warnings:
        more = len(warnings) - 1
        rest = f" (and {more} more {'warnings' if more > 1 else 'warning'})" if more else ""
        return f"; to keep in mind: {_as_clause(warnings[0])}{rest}"
    return "; no check found anything wrong" if not told else ""


def _as_clause(finding: Finding) -> str:
    return finding.symptom[0].lower() + finding.symptom[1:]
