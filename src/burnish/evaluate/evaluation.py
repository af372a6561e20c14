"""What a run measures of its model, before, during and after, and writes down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from transformers import PreTrainedModel

from burnish.config import RunConfig
from burnish.data import Conversation
from burnish.generate import Answer, Sampling, answer_all
from burnish.model.forward import Forward
from burnish.prepare.prepared import Prepared
from burnish.run.journal import Journal
from burnish.run.screen import Screen
from burnish.template import ChatTemplate
from burnish.train.fit import mean_loss
from burnish.train.ranks import Ranks


@dataclass(frozen=True)
class Subject:
    """A model as it is measured: with its template and the way its logits are had."""

    model: PreTrainedModel
    template: ChatTemplate
    forward: Forward


BUDGET = 4096
"""Tokens in a forward pass of the held-out loss."""

Measure = Callable[[Subject], dict[str, Any]]
"""Further figures of a subject, for ``evaluation.json``."""

Judge = Callable[[Conversation, str], bool | None]
"""(held-out conversation, answer to its last question) -> right, wrong, or not for a program to say."""


@dataclass(frozen=True)
class Evaluation:
    """The held-out loss and the sample answers of a run, and what else its recipe asks for."""

    config: RunConfig
    data: Prepared
    journal: Journal
    screen: Screen
    measure: Measure
    judge: Judge
    ranks: Ranks = Ranks()

    def whole(self, subject: Subject, step: int) -> dict[str, Any]:
        """All figures, before the first step (0) or after the last."""
        return self.brief(subject, step) | self.measure(subject)

    def brief(self, subject: Subject, step: int) -> dict[str, Any]:
        """Held-out loss and sample answers after ``step`` steps. An earlier evaluation at that step, of
        an end that was cut short, is replaced."""
        self.journal.forget_evaluation(step)
        return self._held_out_loss(subject, step) | self._samples(subject, step)

    def _held_out_loss(self, subject: Subject, step: int) -> dict[str, Any]:
        if not len(self.data.held_out):
            return {}
        loss = mean_loss(subject.model, self.data.held_out, subject.forward, BUDGET, self.ranks)
        self.journal.metric({"kind": "held_out", "step": step, "loss": loss})
        self.screen.say(f"{f'After step {step}' if step else 'Before training'}: held-out loss {loss:.3f}")
        return {"held_out_loss": loss}

    def _samples(self, subject: Subject, step: int) -> dict[str, Any]:
        prompts = self.data.prompts
        if not prompts:
            return {}
        sampling = Sampling(max_new_tokens=self.config.evaluate.max_new_tokens)
        answers = answer_all(subject.model, subject.template, [p.asked for p in prompts], sampling)
        for index, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            self.journal.sample(self._sample(prompt, answer, index, step))
        question = shorten(prompts[0].asked.messages[-1].content, 60)
        self.screen.say(f"  {question}  ->  {shorten(answers[0].text, 90)}")
        return {
            "stopped_share": sum(answer.stopped for answer in answers) / len(answers),
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
            "correct": self.judge(prompt, answer.text),
        }
