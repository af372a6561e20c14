"""Names to models: the embedded base, folders, run folders, adapters on their bases and Hub ids."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from burnish.adapters.folder import (
    BaseIdentity,
    base_in_memory,
    base_of,
    is_adapter,
    metadata_of,
    weights_sha256,
)
from burnish.adapters.saved import attach
from burnish.data.memory import MEMORY
from burnish.errors import ModelError
from burnish.files import FINAL, RUN_CONFIG
from burnish.model.borrow import borrow
from burnish.model.load import (
    DTYPES,
    PEBBLE,
    Dtype,
    commit_of,
    load_plain,
    load_plain_tokenizer,
    locate_folder,
    opening,
    quiet_libraries,
    read_config,
    read_generation_config,
)
from burnish.model.quantize import Kind, dequantize
from burnish.template import ChatTemplate


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer. ``location``: the folder or Hub id that it came from; ``typed_tokens``: how
    training read special tokens that a person typed; ``stop_ids``: where its own generation config stops;
    ``commit``: that of a Hub id, whose branch may move."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    location: str
    typed_tokens: Literal["text", "special"]
    stop_ids: tuple[int, ...] = ()
    commit: str | None = None

    def chat_template(self) -> ChatTemplate:
        """The template of its tokenizer, as the model was trained with it. Raises ``TemplateError`` where it
        has none."""
        return ChatTemplate(self.tokenizer, typed_tokens=self.typed_tokens, base_stop_ids=self.stop_ids)


def load_model(
    name: str,
    *,
    revision: str | None = None,
    dtype: Dtype = "auto",
    quantize: Kind = "none",
    base_only: bool = False,
    dequantized: bool = False,
    device: str | None = None,
    base_model: PreTrainedModel | str | None = None,
) -> LoadedModel:
    """Load a causal language model and its tokenizer from a folder, a run folder, a Hub id or ``pebble``.

    An adapter is put on its base, which is quantized as it was in training, ready to answer; ``base_only``:
    the base without it, with the adapter's tokenizer and template; ``dequantized``: the base's weights in
    fp32, at the values that the quantized ones stand for. ``quantize``: of a plain model. ``device``: where
    to; unset: to the GPU where there is one. ``base_model``: the base that a run or an adapter began from,
    where that is a model in memory (it stays as it is), or where its folder is now, if it has moved. The
    model's own ``generate`` stops where its training did. Raises ``ModelError`` for what is missing, unsafe
    (pickles), no model, or an adapter that does not fit.
    """
    quiet_libraries()
    location = locate(name)
    folder, metadata = Path(location), metadata_of(Path(location))
    tokenizer = load_plain_tokenizer(location, revision)
    home = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if is_adapter(location):
        model = _load_adapted(
            folder, tokenizer, dtype, home, base_model, base_only=base_only, dequantized=dequantized
        )
    elif base_only and metadata:
        model = _base_model(folder, base_of(folder), dtype, home, base_model)
    else:
        model = load_plain(location, revision, dtype, quantize, home)
    typed = metadata.get("typed_tokens", "text")
    stop_ids = stop_ids_of(location, revision)
    return LoadedModel(model, tokenizer, location, typed, stop_ids, commit_of(location, revision))


@dataclass(frozen=True)
class LoadedTokenizer:
    """A model's tokenizer without its weights. ``positions``: the most tokens that the model reads, where
    its config says; ``stop_ids``: the ids at which its own generation config stops."""

    tokenizer: PreTrainedTokenizerBase
    location: str
    positions: int | None
    typed_tokens: Literal["text", "special"]
    stop_ids: tuple[int, ...]


def load_tokenizer(name: str, *, revision: str | None = None) -> LoadedTokenizer:
    """What can be known of a model before its weights are read. Raises ``ModelError`` as ``load_model``."""
    quiet_libraries()
    location = locate(name)
    tokenizer = load_plain_tokenizer(location, revision)
    base = locate(base_of(Path(location)).name) if is_adapter(location) else location
    config = read_config(base, revision)
    return LoadedTokenizer(
        tokenizer,
        location,
        getattr(config, "max_position_embeddings", None),
        metadata_of(Path(location)).get("typed_tokens", "text"),
        stop_ids_of(location, revision),
    )


def borrowed_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    own_weights: bool,
    dtype: Dtype,
    device: str | None,
) -> LoadedModel:
    """A model and a tokenizer in memory as if they had been loaded: copies, the model's on the same weights
    unless it needs ``own_weights``."""
    kind = None if dtype == "auto" else DTYPES[dtype]
    copied = borrow(model, own_weights=own_weights, dtype=kind, device=device)
    stop_ids = stop_ids_in(model.generation_config)
    return LoadedModel(copied, copy.deepcopy(tokenizer), MEMORY, "text", stop_ids)


def stop_ids_of(location: str, revision: str | None) -> tuple[int, ...]:
    """Where generation stops by a model's own ``generation_config.json``; nowhere, where it has none."""
    return stop_ids_in(read_generation_config(location, revision))


def stop_ids_in(generation: GenerationConfig | None) -> tuple[int, ...]:
    ends = None if generation is None else generation.eos_token_id
    return tuple(ends) if isinstance(ends, list) else () if ends is None else (ends,)


def locate(name: str) -> str:
    """The folder that a name means, checked to be safe and complete: of a run its ``final/``; or the
    Hub id, as it is. Raises ``ModelError`` for what is neither."""
    if name == MEMORY:
        raise ModelError(
            "the model was in the memory of a program, and no folder holds it",
            fix='From Python: load_model("runs/mine", base_model=model). To need no model in memory, save it '
            "(model.save_pretrained) and train from the folder.",
        )
    run = Path(name)
    with opening(f"{name[:200]}: no such model"):
        finished = (run / FINAL).is_dir()
    if name != PEBBLE and finished:
        return locate_folder(str(run / FINAL))
    if name != PEBBLE and (run / RUN_CONFIG).is_file():
        raise ModelError(
            f"{run} is a run that has not finished: it has no {FINAL}/",
            fix=f"Go on with it: burnish train --resume {run}",
        )
    return locate_folder(name)


def shape_of(name: str, revision: str | None = None) -> PretrainedConfig:
    """The config of a model: of a name as ``load_model`` takes it, or of a folder with config.json alone."""
    folder = Path(name)
    is_plain = (folder / "config.json").is_file() and not (folder / RUN_CONFIG).exists()
    location = str(folder) if is_plain else locate(name)
    if is_adapter(location):
        raise ModelError(f"{name} is an adapter, not a whole model", fix="Name its base.")
    return read_config(location, revision)


def _load_adapted(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    dtype: Dtype,
    device: str,
    base_model: PreTrainedModel | str | None,
    *,
    base_only: bool,
    dequantized: bool,
) -> PreTrainedModel:
    """The adapter's base with the adapter in it, or (``base_only``) without it."""
    model = _base_model(folder, base_of(folder), dtype, device, base_model)
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    if dequantized:
        model = dequantize(model)
    if base_only:
        return model
    adapted = attach(model, folder)
    if generation := read_generation_config(str(folder), None):
        # A wrapper of peft's hands its own on to the model in it.
        for part in (adapted, model):
            part.generation_config = copy.deepcopy(generation)
    return adapted


def _base_model(
    folder: Path, base: BaseIdentity, dtype: Dtype, device: str, given: PreTrainedModel | str | None
) -> PreTrainedModel:
    """The base that the model in ``folder`` was trained on: loaded from where it was then or is now, or the
    one in memory. Raises ``ModelError`` where its weights are others by now."""
    if isinstance(given, PreTrainedModel):
        _require_same_base(folder, base, base_in_memory(given))
        kind = None if dtype == "auto" else DTYPES[dtype]
        return borrow(given, own_weights=False, dtype=kind, device=device)
    name = given or base.name
    location = locate_base(folder, name)
    with ThreadPoolExecutor(1) as beside:  # hashing frees the interpreter, and loading reads the same files
        found = beside.submit(weights_sha256, location)
        model = load_plain(location, base.revision, dtype, base.quantize, device)
        # A Hub id without local files has no hash; its revision stands for it.
        name = name if base.sha256 else base.name  # there is nothing but its name to know it by
        _require_same_base(folder, base, replace(base, name=name, sha256=found.result()))
    return model


def locate_base(folder: Path, name: str) -> str:
    """Where the base of the adapter in ``folder`` is. Raises ``ModelError`` naming both."""
    try:
        location = locate(name)
    except ModelError as error:
        raise ModelError(
            f"{folder} needs its base, and {error.what}",
            why=error.why or "What is saved there was learnt on the weights of that base.",
            fix=f"Say where it is now: --base-model FOLDER, in Python load_model({str(folder)!r}, "
            "base_model=...)."
            if name != MEMORY
            else error.fix,
        ) from error
    if is_adapter(location):
        raise ModelError(
            f"{folder} says that its base is {name}, which is an adapter itself",
            why="An adapter holds what a whole model lacks, and nothing of that model.",
            fix="Mend base_model_name_or_path in its adapter_config.json, or name the base: --base-model.",
        )
    return location


def _require_same_base(folder: Path, base: BaseIdentity, found: BaseIdentity) -> None:
    if not base.matches(found):
        raise ModelError(
            f"{folder} was trained on other weights than those that {found.name} holds now",
            why=f"It was trained on {base}, and this is {found}; what it learnt holds for the first.",
            fix="Put the base back as it was, or train anew on this one.",
        )
