"""Rules on the sample answers."""

from __future__ import annotations

import re
from collections import Counter

from burnish.diagnose.finding import Finding, Severity, percent
from burnish.diagnose.measured import Measured, Row

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")
"""A word, or a character of a script that is written without spaces."""

ROLE_MARK = re.compile(
    r"<\|[\w-]{1,40}\|>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]"  # special tokens of known templates
    r"|(?:^|[.!?\n])\s*(?:user|human|assistant|system)\s*:"  # User:
    r"|\n\s*(?:user|assistant|system)\s*(?:\n|$)"  # ChatML whose special tokens were skipped
    r"|###\s*(?:instruction|response|user|human|assistant)\b",
    re.IGNORECASE,
)
SPECIAL = re.compile(r"\s*(?:<[^<>\s]+>|\[/\w+\])\s*")
"""What an end-of-turn token looks like."""

HOW_MANY: dict[Severity, str] = {"problem": "Many", "warning": "Some"}


def never_stops(measured: Measured) -> Finding | None:
    """Answers that run into the length limit: a warning from 10 % of them, a problem from 50 %."""
    answers = _tuned(measured)
    running = [row for row in answers if not row["stopped"]]
    if not answers or len(running) < 0.1 * len(answers):
        return None
    base = sum(not before["stopped"] for before, _ in measured.pairs)
    severity: Severity = "problem" if 2 * len(running) >= len(answers) else "warning"
    cause = "Too little training, or evaluate.max_new_tokens is too short for such answers."
    fix = "Train longer, or raise evaluate.max_new_tokens and look again."
    if _end_is_trained(measured) is False:
        cause = "The end of the turn seems not to be trained: no shown example's last trained token is one."
        fix = "Use a template that ends each assistant turn with a token, and train that token."
    return Finding(
        f"{HOW_MANY[severity]} answers do not stop",
        severity,
        f"{len(running)} of {len(answers)} sample answers ran into the length limit (base: {base}).",
        cause,
        fix,
    )


def _end_is_trained(measured: Measured) -> bool | None:
    """Whether some example's last trained token looks like an end of turn; None without examples."""
    trained = [[t["text"] for t in row["tokens"] if t["trained"]] for row in measured.examples]
    ends = [texts[-1] for texts in trained if texts]
    return any(SPECIAL.fullmatch(end) for end in ends) if ends else None


def stopping_learned(measured: Measured) -> Finding | None:
    """Good where at least 90 % of the answers stop and the base's share was lower by half or more."""
    pairs = measured.pairs
    before, after = sum(b["stopped"] for b, _ in pairs), sum(t["stopped"] for _, t in pairs)
    if not pairs or after < 0.9 * len(pairs) or 2 * before > after:
        return None
    return Finding(
        "The model has learned to end its turn",
        "good",
        f"{after} of {len(pairs)} sample answers stop by themselves (base: {before}).",
        "The end-of-turn token was trained as part of each answer.",
    )


def repeats(measured: Measured) -> Finding | None:
    """Answers that loop: a warning from 10 % of them, a problem from 30 %.

    An answer loops where some four words in a row come three times or more, and less than two thirds
    of its runs of four are different. A list with a repeated phrase stays above that.
    """
    return _share_of_answers(
        [row for row in _tuned(measured) if loops(row["answer"])],
        measured,
        symptom="answers repeat themselves",
        warning=0.1,
        problem=0.3,
        what="run in a loop",
        cause="Greedy answers of a small or over-trained model fall into loops; "
        "so do those that never learned to stop.",
        fix="Train fewer epochs, add longer and more varied answers, or sample with a temperature.",
    )


def loops(answer: str) -> bool:
    words = [word.lower() for word in WORD.findall(answer)]
    runs = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    return bool(runs) and max(runs.values()) >= 3 and 3 * len(runs) < 2 * runs.total()


def role_leakage(measured: Measured) -> Finding | None:
    """Role markers in an answer: a warning from the first, a problem from 20 % of the answers."""
    return _share_of_answers(
        [row for row in _tuned(measured) if ROLE_MARK.search(row["answer"])],
        measured,
        symptom="answers hold role markers",
        warning=0.0,
        problem=0.2,
        what="hold a marker such as <|user|> or User:",
        cause="The model goes on with the other side's turn: the end of turn is not learned, "
        "or the rows hold markers as plain text.",
        fix="Look for markers in the rows' contents; check that the end of turn is trained.",
    )


def empty(measured: Measured) -> Finding | None:
    """Blank answers: a warning from the first, a problem from 20 %."""
    return _share_of_answers(
        [row for row in _tuned(measured) if not row["answer"].strip()],
        measured,
        symptom="answers are empty",
        warning=0.0,
        problem=0.2,
        what="hold nothing",
        cause="The model ends its turn at once: rows with empty answers, or a template whose prompt "
        "differs between training and use.",
        fix="Look for short and empty assistant turns in the data; compare prompts with the examples.",
    )


def unchanged(measured: Measured) -> Finding | None:
    """Answers equal to the base's: a warning from 50 %, a problem from 90 %, of at least four.

    Answers that were right already do not count; there, staying the same is what one wants.
    """
    pairs = [(b, t) for b, t in measured.pairs if not b["correct"]]
    same = [tuned for base, tuned in pairs if _plain(base) == _plain(tuned)]
    if len(pairs) < 4 or 2 * len(same) < len(pairs):
        return None
    severity: Severity = "problem" if len(same) >= 0.9 * len(pairs) else "warning"
    return Finding(
        f"{HOW_MANY[severity]} answers are the same as the base's",
        severity,
        f"{len(same)} of {len(pairs)} sample answers did not change.",
        "The adapter has hardly any effect: too low a learning rate, too few steps, too small a rank.",
        "Raise train.learning_rate or train.epochs; check that the adapter is loaded.",
    )


def _share_of_answers(
    found: list[Row],
    measured: Measured,
    *,
    symptom: str,
    warning: float,
    problem: float,
    what: str,
    cause: str,
    fix: str,
) -> Finding | None:
    answers = _tuned(measured)
    share = len(found) / len(answers) if answers else 0.0
    if not found or share < warning:
        return None
    severity: Severity = "problem" if share >= problem else "warning"
    prompt = found[0]["prompt"][-1]["content"] if found[0]["prompt"] else ""
    shown = prompt if len(prompt) <= 80 else prompt[:77] + "..."
    evidence = f"{len(found)} of {len(answers)} sample answers {what} ({percent(share)})"
    return Finding(
        f"{HOW_MANY[severity]} {symptom}", severity, f'{evidence}, the first to "{shown}".', cause, fix
    )


def _tuned(measured: Measured) -> list[Row]:
    return [tuned for _, tuned in measured.pairs]


def _plain(row: Row) -> str:
    return " ".join(str(row["answer"]).split())
