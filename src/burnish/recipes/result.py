"""What a run returns to the program that started it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from burnish.files import read_json, read_lines
from burnish.generate import ChatSession, Sampling, open_model
from burnish.model.load import Dtype
from burnish.run.folder import RunFolder
from burnish.template import ChatTemplate


@dataclass(frozen=True)
class SFTResult:
    """A finished run. Everything is read from its ``folder`` when it is asked for; the model is loaded once.

    ``dtype``: the type of the weights, as in training. ``base_model``: the base, where it was handed over in
    memory; an adapter is put on a copy of its modules.
    """

    folder: RunFolder
    dtype: Dtype = "auto"
    base_model: PreTrainedModel | None = field(default=None, repr=False)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows of ``metrics.jsonl``: a dict a training step (``kind`` "train") and one a held-out loss
        ("held_out")."""
        return list(read_lines(self.folder.metrics))

    @property
    def evaluation(self) -> dict[str, dict[str, Any]]:
        """``{"base": {...}, "tuned": {...}}``, the figures of each."""
        figures: dict[str, dict[str, Any]] = read_json(self.folder.evaluation)
        return figures

    @property
    def model(self) -> PreTrainedModel:
        """The tuned model, with its adapter in place, ready to answer."""
        return self._opened[0]

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer, which carries the chat template that it was trained with."""
        return self.template.tokenizer

    @property
    def template(self) -> ChatTemplate:
        return self._opened[1]

    @overload
    def chat(self, text: str, *, system: str | None = ..., sampling: Sampling = ...) -> str: ...

    @overload
    def chat(
        self, text: None = None, *, system: str | None = ..., sampling: Sampling = ...
    ) -> ChatSession: ...

    def chat(
        self, text: str | None = None, *, system: str | None = None, sampling: Sampling = Sampling()
    ) -> str | ChatSession:
        """The tuned model's answer to one user turn, as text; without a turn, a session that remembers what
        was said: ``session.say(text)``."""
        session = ChatSession(self.model, self.template, sampling, system)
        return session if text is None else session.say(text).text

    @cached_property
    def _opened(self) -> tuple[PreTrainedModel, ChatTemplate]:
        return open_model(str(self.folder.path), dtype=self.dtype, base_model=self.base_model)
