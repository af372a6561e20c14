"""The quickstart: pebble becomes an assistant, and what that changed is measured.

It fine-tunes on questions about half of the entities and asks about the other half, so a right answer
shows what fine-tuning gives (it lets the model say what it knows) and the cloze and prose figures what
it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.config import RunConfig, load_config
from burnish.data import Conversation, Message
from burnish.evaluate import accepted, cloze_correct, wilson
from burnish.evaluate.evaluation import MeasuredModel
from burnish.generate import Sampling, answer_all
from burnish.pebble import CLOZE, CONVERSATIONS, HELD_OUT, rows
from burnish.recipes.result import SFTResult
from burnish.recipes.sft import sft
from burnish.run.screen import Screen, SilentScreen

BUDGET = 8192
"""Tokens in a forward pass of the measurements."""

LOW_RANK = {"train.learning_rate": 5e-4, "adapter.rank": 32}
STARTS: dict[str, dict[str, Any]] = {
    "lora": LOW_RANK,
    "dora": LOW_RANK,
    "ia3": {"train.learning_rate": 1e-2},
    "prompt": {"train.learning_rate": 1e-2},
    "prefix": {"train.learning_rate": 3e-2},
    "bottleneck": {"train.learning_rate": 5e-4},
    "none": {"train.learning_rate": 1e-4},
}
"""For each kind of adapter: of the trials in LOG.md, those that forget least at about the same accuracy."""


def quickstart_config(out: str, *, full: bool, seed: int, overrides: Sequence[str] = ()) -> RunConfig:
    given: dict[str, Any] = {
        "model.name": "pebble",
        "data.train": [str(CONVERSATIONS)],
        "data.held_out": [str(HELD_OUT)],
        "train.seed": seed,
        "evaluate.samples": 12,
        "evaluate.max_new_tokens": 32,
        "out": out,
    }
    if full:
        given["adapter.kind"] = "none"
    kind = load_config(None, overrides, **given).adapter.kind
    return load_config(None, overrides, **given, **STARTS[kind])


LONGEST_ANSWER = 32
"""Tokens: the facts' sentences are shorter."""


def quickstart(
    config: RunConfig, *, screen: Screen | None = None, resume: bool = False, command: str = ""
) -> SFTResult:
    """Fine-tune pebble and measure it before and after, into the run folder ``config.out``; ``resume`` goes
    on with the run that stands there."""
    shown = screen or SilentScreen()
    test = {_question(row["messages"]): row for row in rows(HELD_OUT)}
    limit = min(LONGEST_ANSWER, config.evaluate.max_new_tokens)

    def score(conversation: Conversation, answer: str) -> bool | None:
        row = test[conversation.messages[0].content]
        return accepted(answer, row["answer"], row["rivals"])

    def measure(measured: MeasuredModel) -> dict[str, Any]:
        return {
            **_held_out(measured, list(test.values()), limit, shown),
            **_cloze(measured, rows(CLOZE)),
        }

    return sft(
        config,
        measure=measure,
        score=score,
        screen=screen,
        resume=resume,
        command=command,
        verb="quickstart",
    )


def _question(messages: list[dict[str, str]]) -> str:
    return messages[0]["content"]


def _held_out(
    measured: MeasuredModel, test: Sequence[dict[str, Any]], limit: int, screen: Screen
) -> dict[str, Any]:
    """How many of the held-out questions are answered right, through the chat template."""
    asked = [Conversation((Message("user", _question(row["messages"])),)) for row in test]
    answers = answer_all(
        measured.model,
        measured.template,
        asked,
        Sampling(max_new_tokens=limit),
        lambda done: screen.progress("Asking held-out questions", done, len(test)),
    )
    right = [accepted(a.text, row["answer"], row["rivals"]) for a, row in zip(answers, test, strict=True)]
    return {
        "held_out_accuracy": sum(right) / len(right),
        "held_out_accuracy_interval": wilson(sum(right), len(right)),
        "held_out_questions": len(right),
    }


def _cloze(measured: MeasuredModel, facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many facts the model states when it continues plain text."""
    prompts = [(fact["prompt"], fact["answer"]) for fact in facts]
    right = cloze_correct(measured.model, measured.template.tokenizer, prompts, measured.forward, BUDGET)
    return {
        "cloze_accuracy": sum(right) / len(right),
        "cloze_accuracy_interval": wilson(sum(right), len(right)),
        "cloze_facts": len(right),
    }
