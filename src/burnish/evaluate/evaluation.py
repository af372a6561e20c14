"""What a run measures of its model, before, during and after, and writes down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from transformers import PreTrainedModel

from burnish.data import Conversation
from burnish.evaluate.forgetting import Forgetting
from burnish.evaluate.interval import wilson
from burnish.generate import Answer, Sampling, answer_all
from burnish.model.forward import Forward
from burnish.prepare.prepared import Prepared
from burnish.run.open import OpenRun
from burnish.template import ChatTemplate
from burnish.train.fit import mean_loss


@dataclass(frozen=True)
class MeasuredModel:
    """A model with its template and the pass that gives its logits."""

    model: PreTrainedModel
    template: ChatTemplate
    forward: Forward


BUDGET = 4096
"""Tokens in a forward pass of the held-out loss."""

Measure = Callable[[MeasuredModel], dict[str, Any]]
"""Further figures of a model, for ``evaluation.json``."""

Scorer = Callable[[Conversation, str], bool | None]
"""(held-out conversation, answer to its last question) -> right, wrong, or not for a program to say."""


@dataclass(frozen=True)
class Evaluation:
    """The held-out loss and the sample answers of a run, each of at most ``max_new_tokens``, what the model
    forgets, and what else its recipe measures."""

    run: OpenRun
    data: Prepared
    max_new_tokens: int
    measure: Measure
    score: Scorer
    forgetting: Forgetting | None = None

    def all_figures(self, measured: MeasuredModel, step: int) -> dict[str, Any]:
        """Before the first step (0) or after the last: those of ``figures``, what the model forgets, and
        those of the recipe."""
        return self._forgetting(measured, step) | self.figures(measured, step) | self.measure(measured)

    def figures(self, measured: MeasuredModel, step: int) -> dict[str, Any]:
        """Held-out loss and sample answers after ``step`` steps. An earlier evaluation at that step, of
        an end that was cut short, is replaced."""
        self.run.journal.cut_evaluation(step)
        return self._held_out_loss(measured, step) | self._samples(measured, step)

    def _forgetting(self, measured: MeasuredModel, step: int) -> dict[str, Any]:
        if self.forgetting is None:
            return {}
        tokenizer = measured.template.tokenizer
        return self.forgetting.figures(
            measured.model, tokenizer, measured.forward, self.run, is_base=step == 0
        )

    def _held_out_loss(self, measured: MeasuredModel, step: int) -> dict[str, Any]:
        if not len(self.data.held_out):
            return {}
        loss = mean_loss(measured.model, self.data.held_out, measured.forward, BUDGET, self.run.ranks)
        self.run.journal.metric({"kind": "held_out", "step": step, "loss": loss})
        when = f"After step {step}" if step else "Before training"
        self.run.screen.say(f"{when}: held-out loss {loss:.3f}")
        return {"held_out_loss": loss}

    def _samples(self, measured: MeasuredModel, step: int) -> dict[str, Any]:
        prompts = self.data.prompts
        if not prompts:
            return {}
        sampling = Sampling(max_new_tokens=self.max_new_tokens)
        answers = answer_all(measured.model, measured.template, [p.asked for p in prompts], sampling)
        for index, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            self.run.journal.sample(self._sample(prompt, answer, index, step))
        question = shorten(prompts[0].asked.messages[-1].content, 60)
        self.run.screen.say(f"  {question}  ->  {shorten(answers[0].text, 90)}")
        stopped = sum(answer.stopped for answer in answers)
        return {
            "stopped_share": stopped / len(answers),
            "stopped_share_interval": wilson(stopped, len(answers)),
            "sample_answers": len(answers),
            "answer_tokens": sum(len(answer.ids) for answer in answers) / len(answers),
        }

    def _sample(self, prompt: Conversation, answer: Answer, index: int, step: int) -> dict[str, Any]:
        return {
            "step": step,
            "who": "tuned" if step else "base",
            "index": index,
            "prompt": prompt.asked.as_dicts(),
            "answer": answer.text,
            "stopped": answer.stopped,
            "reference": prompt.reference,
            "correct": self.score(prompt, answer.text),
        }
