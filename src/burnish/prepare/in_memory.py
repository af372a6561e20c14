"""What a program holds in memory, in the place of files and names in a config."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from burnish.adapters.folder import BaseIdentity, base_in_memory
from burnish.adapters.load import LoadedTokenizer, load_tokenizer, stop_ids_in
from burnish.config import RunConfig
from burnish.data.memory import HELD_OUT_IN_MEMORY, MEMORY, MemoryRows, Rows, row_sources
from burnish.errors import ConfigError, ModelError
from burnish.model.borrow import DTYPE_NAMES, require_whole
from burnish.model.load import Dtype

Sources = tuple[str | MemoryRows, ...]


@dataclass(frozen=True)
class InMemory:
    """Rows, a model and its tokenizer; None where the config names a file or a model instead. None of them is
    changed: a model is trained in a copy of its modules, with the weights shared where they are frozen."""

    train: Sources | None = None
    held_out: Sources | None = None
    model: PreTrainedModel | None = field(default=None, repr=False)
    tokenizer: PreTrainedTokenizerBase | None = field(default=None, repr=False)

    @cached_property
    def base(self) -> BaseIdentity:
        """Which base the model is, where there is one."""
        assert self.model is not None
        return base_in_memory(self.model)


NOTHING = InMemory()


def taken_from_memory(
    config: RunConfig,
    *,
    data: Rows | None = None,
    held_out: Rows | None = None,
    model: PreTrainedModel | str | Path | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    needs_model: bool = True,
) -> tuple[RunConfig, InMemory]:
    """A config that says of each thing that was handed over that it is in memory, and these things.

    Files among ``data`` and ``held_out``, and a ``model`` that is a name, go into the config. Raises
    ``ConfigError`` for what the config names already, and for a tokenizer without its model where the model
    is needed; ``ModelError`` for a model that cannot be trained from memory.
    """
    named: dict[str, Any] = {}
    train = _rows("data.train", config.data.train, data, MEMORY)
    held = _rows("data.held_out", config.data.held_out, held_out, HELD_OUT_IN_MEMORY)
    if train:
        named["train"] = tuple(map(str, train))
    if held:
        named["held_out"] = tuple(map(str, held))
    if named:
        config = config.model_copy(update={"data": config.data.model_copy(update=named)})
    if isinstance(model, str | Path):
        config = _with_model(config, name=str(model))
        model = None
    if model is None and tokenizer is not None and needs_model:
        raise ConfigError(
            "a tokenizer is handed over without its model",
            why="The model that the config names has a tokenizer of its own.",
            fix="Hand over the model too, or save both in one folder and name it.",
        )
    if model is not None:
        config = _for_model(config, model, tokenizer)
    elif tokenizer is not None:
        config = _with_model(config, name=MEMORY)
    in_memory = InMemory(_if_in_memory(train), _if_in_memory(held), model, tokenizer)
    return config, in_memory


def tokenizer_of(config: RunConfig, in_memory: InMemory) -> LoadedTokenizer:
    """The tokenizer of a run without the model's weights: a copy of the one in memory, or the one that the
    config names."""
    if in_memory.tokenizer is None:
        return load_tokenizer(config.model.name, revision=config.model.revision)
    model = in_memory.model
    positions = None if model is None else getattr(model.config, "max_position_embeddings", None)
    stop_ids = () if model is None else stop_ids_in(model.generation_config)
    return LoadedTokenizer(copy.deepcopy(in_memory.tokenizer), MEMORY, positions, "text", stop_ids)


def _rows(key: str, names: tuple[str, ...], given: Rows | None, name: str) -> Sources | None:
    if given is None:
        return None
    if names and names != (name,):
        raise ConfigError(
            f"{key} names {', '.join(names)}, and rows are handed over too",
            fix="Give one of the two; several files go into one list.",
        )
    return row_sources(given, name)


def _if_in_memory(sources: Sources | None) -> Sources | None:
    return sources if sources and any(isinstance(source, MemoryRows) for source in sources) else None


def _with_model(config: RunConfig, **changes: Any) -> RunConfig:
    """The config with another model. One that was named in it is not overruled without a word."""
    named = config.model.name
    if "name" in config.model.model_fields_set and named not in (MEMORY, changes["name"]):
        raise ConfigError(
            f"model.name is {named}, and another model is handed over", fix="Give one of the two."
        )
    return config.model_copy(update={"model": config.model.model_copy(update=changes)})


def _for_model(
    config: RunConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None
) -> RunConfig:
    require_whole(model)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ConfigError(
            "a model is handed over without its tokenizer", fix="Hand over tokenizer=... beside model=...."
        )
    for key, value, neutral in (
        ("quantize", config.model.quantize, "none"),
        ("revision", config.model.revision, None),
    ):
        if value != neutral:
            raise ConfigError(
                f"model.{key} is {value}, and the model is in memory",
                why="It says how a model that is named is loaded.",
                fix="Take it out, or give the model's name.",
            )
    dtype: Dtype = config.model.dtype
    if dtype == "auto":
        if model.dtype not in DTYPE_NAMES:
            raise ModelError(
                f"the model in memory is in {model.dtype}",
                why="Its gradients would run out of range.",
                fix="Set model.dtype to bfloat16 or float32: the copy that is trained is converted.",
            )
        dtype = DTYPE_NAMES[model.dtype]
    return _with_model(config, name=MEMORY, dtype=dtype)
