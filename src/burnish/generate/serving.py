"""Models opened to answer, with the template of their training: one, or several adapters on one base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from burnish.adapters.folder import is_adapter
from burnish.adapters.load import load_model, locate
from burnish.adapters.stack import Adapters, open_adapters, sharing, stacked
from burnish.errors import ConfigError, ModelError
from burnish.model.load import Dtype
from burnish.template import ChatTemplate
from burnish.template.chatml import give_chatml

NONE = "none"
"""The name of the bare base among the names of adapters."""


def open_model(
    name: str,
    *,
    base_only: bool = False,
    dtype: Dtype = "auto",
    base_model: PreTrainedModel | str | None = None,
) -> tuple[PreTrainedModel, ChatTemplate]:
    """Open a run, a model folder, a Hub id or pebble, with the template (and its options) of its training.

    ``base_only``: the base that a run started from, behind the run's template; ``base_model``: that base,
    where it is in memory, or its folder where that has moved. A model without a template is given
    ChatML-lite, which it never learned: it will answer as a base answers.
    """
    loaded = load_model(name, base_only=base_only, dtype=dtype, base_model=base_model)
    if not loaded.tokenizer.chat_template:
        give_chatml(loaded.tokenizer)
        if len(loaded.tokenizer) > loaded.model.get_input_embeddings().weight.shape[0]:
            loaded.model.resize_token_embeddings(len(loaded.tokenizer), mean_resizing=False)
    return loaded.model, loaded.chat_template()


@dataclass(frozen=True)
class AdapterSet:
    """Adapters on one base, each with the template of its training. ``base_template``: the base's own, or
    where it has none that of the first adapter, as for ``open_model`` with ``base_only``."""

    adapters: Adapters
    templates: Mapping[str, ChatTemplate]
    base_template: ChatTemplate

    def model_with(self, weights: Mapping[str, float]) -> tuple[PreTrainedModel, ChatTemplate]:
        """The model with the adapters named, each times its weight, with their template; with none, the base.
        Raises ``ModelError`` for adapters whose templates differ, and what ``stacked`` raises."""
        model = stacked(self.adapters, weights)
        named = [name for name, weight in weights.items() if weight]
        if not named:
            return sharing(model, len(self.base_template.tokenizer)), self.base_template
        first = self.templates[named[0]]
        for name in named[1:]:
            if not _same_template(first, self.templates[name]):
                raise ModelError(
                    f"{named[0]} and {name} were trained with different chat templates",
                    why="What one of them reads as the end of a turn, the other would not.",
                    fix="Use them one at a time.",
                )
        return model, first


def open_adapter_set(given: Sequence[str], model: str | None = None) -> AdapterSet:
    """Open the adapters that are given, as ``name=run`` or ``run``, on the base ``model``; or on their own. A
    ``model`` that has an adapter itself is the first of them."""
    locations: dict[str, str] = {}
    if model is not None and is_adapter(locate(model)):
        given, model = [model, *given], None
    for text in given:
        name, location = _name_and_location(text)
        if name in locations or name == NONE or not name or any(c.isspace() for c in name):
            raise ConfigError(
                f"--adapter {text}: {name!r} cannot be its name",
                why=f"Each adapter needs a name of its own without spaces; {NONE} is the base.",
                fix="Give it one: --adapter name=run.",
            )
        locations[name] = location
    adapters = open_adapters(locations, model)
    templates = {name: adapter.chat_template() for name, adapter in adapters.models.items()}
    own = adapters.base.tokenizer.chat_template
    return AdapterSet(
        adapters, templates, adapters.base.chat_template() if own else next(iter(templates.values()))
    )


def parse_weights(words: Sequence[str], known: Sequence[str]) -> dict[str, float]:
    """``a=0.7 b`` -> {a: 0.7, b: 1.0}; ``none`` -> {}. A name may hold a ``=`` itself."""
    weights: dict[str, float] = {}
    for word in words:
        name, equals, number = word.rpartition("=")
        if word in known or not equals:
            name, number = word, "1"
        try:
            weights[name] = float(number)
        except ValueError as error:
            raise ConfigError(
                f"{word}: {number!r} is no weight", fix="Write /adapter a=0.7 b=0.3."
            ) from error
    if NONE in weights:
        if len(weights) > 1:
            raise ConfigError(f"{NONE} is the base without any adapter", fix=f"Write /adapter {NONE} alone.")
        return {}
    return weights


def _name_and_location(text: str) -> tuple[str, str]:
    """``a=runs/a`` -> (a, runs/a); of a path alone the folder's name, which may hold a ``=`` itself."""
    name, equals, location = text.partition("=")
    if equals and not Path(text).exists():
        return name, location
    folder = Path(text).resolve()
    return (folder.parent if folder.name == "final" else folder).name, text


def _same_template(one: ChatTemplate, other: ChatTemplate) -> bool:
    return (
        one.source == other.source
        and one.stop_ids == other.stop_ids
        and one.typed_tokens == other.typed_tokens
        and one.tokenizer.get_vocab() == other.tokenizer.get_vocab()
    )
