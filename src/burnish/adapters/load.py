"""Names to models: the embedded base, folders, run folders, adapters on their bases and Hub ids."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from transformers import (
    AutoConfig,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from burnish.adapters.origin import (
    Origin,
    card_of,
    is_adapter,
    origin_in_memory,
    origin_of,
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
    first_line,
    load_plain,
    load_plain_tokenizer,
    locate_folder,
    quiet_libraries,
)
from burnish.model.quantize import Kind, dequantize


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer. ``place``: the folder or Hub id that it came from; ``typed_tokens``: how
    training read special tokens that a person typed; ``stop_ids``: where its own generation config stops;
    ``commit``: that of a Hub id, whose branch may move."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    place: str
    typed_tokens: Literal["text", "special"]
    stop_ids: tuple[int, ...] = ()
    commit: str | None = None


def load_model(
    name: str,
    *,
    revision: str | None = None,
    dtype: Dtype = "auto",
    quantize: Kind = "none",
    base: bool = False,
    whole: bool = False,
    device: str | None = None,
    base_model: PreTrainedModel | None = None,
) -> LoadedModel:
    """Load a causal language model and its tokenizer from a folder, a run folder, a Hub id or ``pebble``.

    An adapter is put on its base, which is quantized as it was in training, ready to answer; ``base``: the
    base alone, with the adapter's tokenizer and template; ``whole``: what was quantized stands in fp32 as the
    weights that it means. ``quantize``: of a plain model. ``device``: where to; unset: to the GPU where there
    is one. ``base_model``: the base that a run or an adapter began from, where that is a model in memory; it
    stays as it is. Raises ``ModelError`` for what is missing, unsafe (pickles), no model, or an adapter that
    does not fit.
    """
    quiet_libraries()
    place = locate(name)
    folder, card = Path(place), card_of(Path(place))
    tokenizer = load_plain_tokenizer(place, revision)
    home = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if is_adapter(place):
        model = _load_adapted(folder, tokenizer, dtype, home, base_model, base=base, whole=whole)
    elif base and card:
        origin = origin_of(folder)
        if base_model is None:
            model = load_model(origin.name, revision=origin.revision, dtype=dtype, device=home).model
        else:
            model = _borrowed_base(folder, origin, dtype, home, base_model)
    else:
        model = load_plain(place, revision, dtype, quantize, home)
    typed = card.get("typed_tokens", "text")
    stop_ids = stop_ids_of(place, revision)
    return LoadedModel(model, tokenizer, place, typed, stop_ids, commit_of(place, revision))


@dataclass(frozen=True)
class LoadedTokenizer:
    """A model's tokenizer without its weights. ``positions``: the most tokens that the model reads, where
    its config says; ``stop_ids``: the ids at which its own generation config stops."""

    tokenizer: PreTrainedTokenizerBase
    place: str
    positions: int | None
    typed_tokens: Literal["text", "special"]
    stop_ids: tuple[int, ...]


def load_tokenizer(name: str, *, revision: str | None = None) -> LoadedTokenizer:
    """What can be known of a model before its weights are read. Raises ``ModelError`` as ``load_model``."""
    quiet_libraries()
    place = locate(name)
    tokenizer = load_plain_tokenizer(place, revision)
    base = locate(origin_of(Path(place)).name) if is_adapter(place) else place
    local = Path(base).is_dir()
    try:
        config = AutoConfig.from_pretrained(base, revision=revision, local_files_only=local)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{base} has no config that loads: {first_line(error)}") from error
    return LoadedTokenizer(
        tokenizer,
        place,
        getattr(config, "max_position_embeddings", None),
        card_of(Path(place)).get("typed_tokens", "text"),
        stop_ids_of(place, revision),
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


def stop_ids_of(place: str, revision: str | None) -> tuple[int, ...]:
    """Where generation stops by a model's own ``generation_config.json``; nowhere, where it has none."""
    try:
        generation = GenerationConfig.from_pretrained(
            place, revision=revision, local_files_only=Path(place).is_dir()
        )
    except (OSError, ValueError):
        return ()
    return stop_ids_in(generation)


def stop_ids_in(generation: GenerationConfig | None) -> tuple[int, ...]:
    ends = None if generation is None else generation.eos_token_id
    return tuple(ends) if isinstance(ends, list) else () if ends is None else (ends,)


def locate(name: str) -> str:
    """The folder that a name means, checked to be safe and whole, which of a run is its ``final/``; or the
    Hub id, as it is. Raises ``ModelError`` for what is neither."""
    if name == MEMORY:
        raise ModelError(
            "the model was in the memory of a program, and no folder holds it",
            fix='From Python: load_model("runs/mine", base_model=model). To need no model in memory, save it '
            "(model.save_pretrained) and train from the folder.",
        )
    run = Path(name)
    if name != PEBBLE and (run / FINAL).is_dir():
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
    alone = (folder / "config.json").is_file() and not (folder / RUN_CONFIG).exists()
    place = str(folder) if alone else locate(name)
    if is_adapter(place):
        raise ModelError(f"{name} is an adapter, not a whole model", fix="Name its base.")
    try:
        return AutoConfig.from_pretrained(place, revision=revision, local_files_only=Path(place).is_dir())
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{name} has no config that loads: {first_line(error)}",
            fix="Give a folder with config.json, a Hub id (owner/name) or pebble, that transformers knows.",
        ) from error


def _load_adapted(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    dtype: Dtype,
    device: str,
    base_model: PreTrainedModel | None,
    *,
    base: bool,
    whole: bool,
) -> PreTrainedModel:
    """The adapter's base with the adapter in it, or (``base``) without it."""
    origin = origin_of(folder)
    if base_model is None:
        model = _checked_base(folder, origin, dtype, device)
    else:
        model = _borrowed_base(folder, origin, dtype, device, base_model)
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    if whole:
        model = dequantize(model)
    return model if base else attach(model, folder)


def _checked_base(folder: Path, origin: Origin, dtype: Dtype, device: str) -> PreTrainedModel:
    with ThreadPoolExecutor(1) as beside:  # hashing frees the interpreter, and loading reads the same files
        found = beside.submit(weights_sha256, locate(origin.name))
        model = load_model(
            origin.name, revision=origin.revision, dtype=dtype, quantize=origin.quantize, device=device
        ).model
        # A Hub id without local files has no hash; its revision stands for it.
        _require_same_base(folder, origin, replace(origin, sha256=found.result()))
    return model


def _borrowed_base(
    folder: Path, origin: Origin, dtype: Dtype, device: str, base_model: PreTrainedModel
) -> PreTrainedModel:
    _require_same_base(folder, origin, origin_in_memory(base_model))
    kind = None if dtype == "auto" else DTYPES[dtype]
    return borrow(base_model, own_weights=False, dtype=kind, device=device)


def _require_same_base(folder: Path, origin: Origin, found: Origin) -> None:
    if not origin.is_that_of(found):
        raise ModelError(
            f"{folder} was trained on other weights than those that {found.name} holds now",
            why=f"It was trained on {origin}, and this is {found}; what it learnt holds for the first.",
            fix="Put the base back as it was, or train anew on this one.",
        )
