"""Each rule speaks on data made to trigger it, and none speaks ill of a healthy run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from burnish.diagnose import Measured, curves, data, diagnose, figures, findings_of, verdict
from burnish.diagnose import answers as answer_rules
from burnish.errors import RunError
from burnish.files import write_json, write_lines
from burnish.run.folder import RunFolder

BASE = {
    "held_out_loss": 3.0,
    "stopped_share": 0.0,
    "held_out_accuracy": 0.02,
    "held_out_accuracy_interval": [0.01, 0.04],
    "held_out_questions": 600,
    "cloze_accuracy": 0.62,
    "cloze_accuracy_interval": [0.60, 0.64],
    "cloze_facts": 3000,
    "prose_loss": 3.0,
}
TUNED = BASE | {
    "held_out_loss": 0.7,
    "stopped_share": 1.0,
    "held_out_accuracy": 0.58,
    "held_out_accuracy_interval": [0.54, 0.62],
    "cloze_accuracy": 0.61,
    "cloze_accuracy_interval": [0.59, 0.63],
    "prose_loss": 3.02,
}


def steps(losses: list[float], per_epoch: int = 30) -> list[dict[str, Any]]:
    return [
        {
            "kind": "train",
            "step": step,
            "epoch": step / per_epoch,
            "loss": loss,
            "learning_rate": 2e-4,
            "grad_norm": 1.0,
            "tokens": 1000,
            "trained_tokens": 500,
            "seconds": 0.5,
        }
        for step, loss in enumerate(losses, 1)
    ]


def held_out(*points: tuple[int, float]) -> list[dict[str, Any]]:
    return [{"kind": "held_out", "step": step, "loss": loss} for step, loss in points]


def falling(count: int = 90) -> list[float]:
    """From 3 to about 0.5, each third step 15 % higher than its neighbours."""
    return [(0.5 + 2.5 * math.exp(-i / 12)) * (1.15 if i % 3 == 0 else 1.0) for i in range(count)]


def sample(index: int, answer: str, *, step: int = 90, stopped: bool = True) -> dict[str, Any]:
    return {
        "step": step,
        "who": "tuned" if step else "base",
        "index": index,
        "prompt": [{"role": "user", "content": f"What is the capital of country {index}?"}],
        "answer": answer,
        "stopped": stopped,
        "reference": None,
        "correct": None,
    }


def answering(answers: list[str], stopped: list[bool] | None = None) -> list[dict[str, Any]]:
    """The base runs on about other things; the tuned model gives ``answers``."""
    stops = stopped or [True] * len(answers)
    base = [sample(i, f"and of {i} and of the sea", step=0, stopped=False) for i in range(len(answers))]
    return base + [
        sample(i, answer, stopped=stop) for i, (answer, stop) in enumerate(zip(answers, stops, strict=True))
    ]


GOOD_ANSWERS = [f"The capital of country {i} is town {i}." for i in range(10)]
HEALTHY = Measured(
    metrics=[*steps(falling()), *held_out((0, 3.0), (30, 1.0), (60, 0.75), (90, 0.7))],
    samples=answering(GOOD_ANSWERS),
    examples=[
        {
            "source": "rows.jsonl:1",
            "tokens": [
                {"text": "<|user|>", "trained": False},
                {"text": "Hi", "trained": False},
                {"text": "Hello", "trained": True},
                {"text": "<|end|>", "trained": True},
            ],
        }
    ],
    ledger=[{"fate": "summary", "counts": {"read": 1000, "trained": 900, "held out": 80, "too long": 20}}],
    evaluation={"base": BASE, "tuned": TUNED},
)


def with_tuned(**figures_: Any) -> Measured:
    return replace(HEALTHY, evaluation={"base": BASE, "tuned": TUNED | figures_})


def with_base(**figures_: Any) -> Measured:
    return replace(HEALTHY, evaluation={"base": BASE | figures_, "tuned": TUNED})


def with_answers(answers: list[str], stopped: list[bool] | None = None) -> Measured:
    return replace(HEALTHY, samples=answering(answers, stopped))


def with_counts(**counts: int) -> Measured:
    named = {name.replace("_", " "): count for name, count in counts.items()}
    return replace(HEALTHY, ledger=[{"fate": "summary", "counts": named}])


def with_summary(**summary: Any) -> Measured:
    return replace(HEALTHY, ledger=[{"fate": "summary", **summary}])


def with_metrics(*rows: list[dict[str, Any]]) -> Measured:
    return replace(HEALTHY, metrics=[row for part in rows for row in part])


SAME = [
    *[sample(i, answer, step=0) for i, answer in enumerate(GOOD_ANSWERS)],
    *[sample(i, answer) for i, answer in enumerate(GOOD_ANSWERS)],
]
LOOP = "I would like to know the sea. " * 4
SPIKED = [loss * (4 if i == 50 else 1) for i, loss in enumerate(falling())]
DIVERGED = [loss + max(0.0, (i - 60) / 20) for i, loss in enumerate(falling())]

CASES = [
    (curves.not_finite, with_metrics(steps([2.0, math.nan])), "problem"),
    (curves.not_falling, with_metrics(steps([2.0, 2.01, 1.99] * 10)), "problem"),
    (curves.not_falling, with_metrics(steps(falling()), held_out((0, 2.0), (90, 1.99))), "problem"),
    (curves.overfit, with_metrics(steps(falling()), held_out((0, 3.0), (30, 1.0), (90, 1.05))), "warning"),
    (curves.overfit, with_metrics(steps(falling()), held_out((0, 3.0), (30, 1.0), (90, 1.4))), "problem"),
    (curves.overfit, with_metrics(steps(falling()), held_out((0, 1.0), (90, 1.4))), "problem"),
    (curves.diverging, with_metrics(steps(DIVERGED)), "problem"),
    (curves.spikes, with_metrics(steps(SPIKED)), "warning"),
    (answer_rules.never_stops, with_answers(GOOD_ANSWERS, [False] * 2 + [True] * 8), "warning"),
    (answer_rules.never_stops, with_answers(GOOD_ANSWERS, [False] * 10), "problem"),
    (answer_rules.repeats, with_answers([LOOP, *GOOD_ANSWERS[1:]]), "warning"),
    (answer_rules.repeats, with_answers([LOOP] * 5 + GOOD_ANSWERS[5:]), "problem"),
    (answer_rules.role_leakage, with_answers(["Yes.\nUser: And?", *GOOD_ANSWERS[1:]]), "warning"),
    (answer_rules.role_leakage, with_answers(["Yes<|im_start|>user"] * 3 + GOOD_ANSWERS[3:]), "problem"),
    (answer_rules.empty, with_answers([" \n", *GOOD_ANSWERS[1:]]), "warning"),
    (answer_rules.empty, with_answers([""] * 10), "problem"),
    (answer_rules.unchanged, replace(HEALTHY, samples=SAME), "problem"),
    (figures.prose_forgotten, with_tuned(prose_loss=3.05), "warning"),
    (figures.prose_forgotten, with_tuned(prose_loss=3.2), "problem"),
    (
        figures.facts_forgotten,
        with_tuned(cloze_accuracy=0.58, cloze_accuracy_interval=[0.56, 0.605]),
        "warning",
    ),
    (
        figures.facts_forgotten,
        with_tuned(cloze_accuracy=0.4, cloze_accuracy_interval=[0.38, 0.42]),
        "problem",
    ),
    (figures.accuracy_rose, HEALTHY, "good"),
    (
        figures.accuracy_fell,
        with_base(held_out_accuracy=0.8, held_out_accuracy_interval=[0.77, 0.83]),
        "problem",
    ),
    (
        figures.accuracy_flat,
        with_base(held_out_accuracy=0.56, held_out_accuracy_interval=[0.52, 0.60]),
        "warning",
    ),
    (figures.knows_more_than_it_says, with_tuned(held_out_accuracy=0.3), "warning"),
    (figures.knows_little, with_base(cloze_accuracy=0.15), "warning"),
    (figures.prose_kept, HEALTHY, "good"),
    (answer_rules.stopping_learned, HEALTHY, "good"),
    (curves.held_out_fell, HEALTHY, "good"),
    (data.rows_dropped, with_counts(read=1000, trained=900, too_long=60, rejected=10), "warning"),
    (data.rows_dropped, with_counts(read=1000, trained=600, too_long=400), "problem"),
    (data.trained_too, with_counts(read=1000, trained=900, held_out=80, also_trained=20), "warning"),
    (
        data.trained_too,
        with_summary(counts={"held out": 80}, held_out_with_a_trained_prompt=5),
        "warning",
    ),
    (data.much_cut, with_summary(trained_tokens=800, lost_trained_tokens=200), "warning"),
    (data.much_cut, with_summary(trained_tokens=500, lost_trained_tokens=500, counts={"cut": 3}), "problem"),
    (data.many_epochs, with_metrics(steps(falling(), per_epoch=5)), "warning"),
    (data.steps_missing, with_metrics(steps(falling())[60:]), "warning"),
    (data.steps_missing, with_metrics(steps(falling())[:60], held_out((0, 3.0), (90, 0.7))), "warning"),
]


@pytest.mark.parametrize(
    ("rule", "measured", "severity"), CASES, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_rule_speaks_where_its_threshold_is_crossed(rule: Any, measured: Measured, severity: str) -> None:
    finding = rule(measured)
    assert finding is not None
    assert finding.severity == severity
    assert any(letter.isdigit() for letter in finding.evidence), "evidence gives the measured numbers"
    assert finding.cause
    assert bool(finding.fix) == (severity != "good")
    assert finding in findings_of(measured)


def test_a_healthy_run_gets_good_findings_only() -> None:
    found = findings_of(HEALTHY)
    assert {finding.severity for finding in found} == {"good"}
    assert found[0].symptom == "No check found anything wrong"


def test_nothing_is_found_where_nothing_was_measured() -> None:
    assert findings_of(Measured()) == []


@pytest.mark.parametrize("part", ["metrics", "samples", "examples", "ledger", "evaluation"])
def test_a_missing_part_raises_no_alarm(part: str) -> None:
    without = replace(HEALTHY, **{part: {} if part == "evaluation" else []})
    assert {finding.severity for finding in findings_of(without)} == {"good"}


def test_findings_come_worst_first() -> None:
    sick = replace(with_tuned(prose_loss=3.05), samples=answering([""] * 10))
    ranks = [finding.severity for finding in findings_of(sick)]
    assert ranks == sorted(ranks, key=["problem", "warning", "good"].index)
    assert ranks[0] == "problem"


def test_overfitting_names_the_step_that_was_best() -> None:
    measured = with_metrics(steps(falling()), held_out((0, 3.0), (30, 1.0), (60, 0.9), (90, 1.4)))
    finding = curves.overfit(measured)
    assert finding is not None
    assert "step 60 (0.900)" in finding.evidence


def test_an_untrained_end_of_turn_is_named_as_the_cause() -> None:
    untrained = [{"source": "a:1", "tokens": [{"text": "Hello", "trained": True}]}]
    measured = with_answers(GOOD_ANSWERS, [False] * 10)
    finding = answer_rules.never_stops(replace(measured, examples=untrained))
    assert finding is not None
    assert "not to be trained" in finding.cause


def test_answers_that_stay_right_are_not_unchanged() -> None:
    right = [row | {"correct": True} for row in SAME]
    assert answer_rules.unchanged(replace(HEALTHY, samples=right)) is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The sea. " * 6, True),
        ("the cat sat on the mat and then the dog sat on the rug while it rained", False),
        ("海は青い。" * 4, True),
        ("", False),
    ],
)
def test_loops(answer: str, expected: bool) -> None:
    assert answer_rules.loops(answer) is expected


@pytest.mark.parametrize(
    "answer",
    ["A user: can be anyone", "The user asks.", "x < y and a|b", "The system: none", "<b>bold</b>"],
)
def test_ordinary_words_are_no_role_marker(answer: str) -> None:
    assert not answer_rules.ROLE_MARK.search(answer)


def test_the_verdict_of_a_healthy_run() -> None:
    said = verdict(findings_of(HEALTHY), HEALTHY.evaluation)
    assert said.replace("\N{NO-BREAK SPACE}", " ") == (
        "The tuned model answers 58.0 % of unseen questions right, up from 2.0 %; "
        "no check found anything wrong."
    )


def test_the_verdict_names_the_worst_problem() -> None:
    measured = with_tuned(prose_loss=3.5)
    said = verdict(findings_of(measured), measured.evaluation)
    assert said.endswith(", but the model has forgotten some of its general language.")


def test_the_verdict_does_not_claim_a_gain_where_intervals_overlap() -> None:
    measured = with_base(held_out_accuracy=0.56, held_out_accuracy_interval=[0.52, 0.60])
    assert "no sure difference" in verdict(findings_of(measured), measured.evaluation)


def test_the_verdict_without_questions_speaks_of_the_loss() -> None:
    evaluation = {"base": {"held_out_loss": 2.0}, "tuned": {"held_out_loss": 2.5}}
    assert "rose from 2.00 to 2.50" in verdict([], evaluation)


def test_the_verdict_of_an_unfinished_run() -> None:
    assert "has not finished" in verdict([], {"base": BASE})
    assert "has not finished" in verdict([], {})


def test_diagnose_reads_a_run_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write_lines(run.metrics, HEALTHY.metrics)
    write_lines(run.samples, HEALTHY.samples)
    write_json(run.evaluation, json.loads(json.dumps(HEALTHY.evaluation)))
    assert {finding.severity for finding in diagnose(run)} == {"good"}


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.evaluation.write_text('{"base": ')
    with pytest.raises(RunError, match=r"evaluation\.json"):
        diagnose(run)


def test_batches_that_scatter_are_no_divergence() -> None:
    """Stretches of mixed rows differ by a third by luck alone; a rise beyond that luck is still seen."""
    scattered = [1.0 + 0.6 * math.sin(7 * step) + 0.15 * math.sin(step / 6) for step in range(120)]
    assert curves.diverging(with_metrics(steps(scattered))) is None
    risen = [loss + (2.0 if step > 100 else 0.0) for step, loss in enumerate(scattered)]
    assert curves.diverging(with_metrics(steps(risen))) is not None
