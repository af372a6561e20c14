"""Names to models: the embedded base, folders, run folders, adapters and Hub ids. Safetensors only."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from burnish.errors import ModelError
from burnish.model.origin import Origin, card_of, is_adapter, origin_of, weights_sha256
from burnish.model.quantize import Kind, dequantize, quantization, settle
from burnish.model.saved import attach
from burnish.run_folder import RunFolder

PEBBLE = "pebble"
PEBBLE_FOLDER = Path(__file__).parents[1] / "pebble" / "model"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
DTYPES = {"auto": torch.bfloat16, "bfloat16": torch.bfloat16, "float32": torch.float32}
Dtype = Literal["auto", "bfloat16", "float32"]


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer. ``place``: the folder or Hub id that it came from; ``typed_tokens``: how
    training read special tokens that a person typed; ``commit``: that of a Hub id, whose branch may move."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    place: str
    typed_tokens: Literal["text", "special"]
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
) -> LoadedModel:
    """Load a causal language model and its tokenizer from a folder, a run folder, a Hub id or ``pebble``.

    An adapter is put on its base, which is quantized as it was in training, ready to answer; ``base``: the
    base alone, with the adapter's tokenizer and template; ``whole``: what was quantized stands in fp32 as the
    weights that it means. ``quantize``: of a plain model. ``device``: where to; unset: to the GPU where there
    is one. Raises ``ModelError`` for what is missing, unsafe (pickles), no model, or an adapter that does not
    fit.
    """
    _quiet()
    place = locate(name)
    folder, card = Path(place), card_of(Path(place))
    tokenizer = _load_tokenizer(place, revision)
    home = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if is_adapter(place):
        model = _load_adapted(folder, tokenizer, dtype, home, base=base, whole=whole)
    elif base and card:
        origin = origin_of(folder)
        model = load_model(origin.name, revision=origin.revision, dtype=dtype, device=home).model
    else:
        model = _load_plain(place, revision, dtype, quantize, home)
    typed = card.get("typed_tokens", "text")
    return LoadedModel(model, tokenizer, place, typed, _commit(place, revision))


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
    _quiet()
    place = locate(name)
    tokenizer = _load_tokenizer(place, revision)
    base = locate(origin_of(Path(place)).name) if is_adapter(place) else place
    local = Path(base).is_dir()
    try:
        config = AutoConfig.from_pretrained(base, revision=revision, local_files_only=local)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{base} has no config that loads: {_first_line(error)}") from error
    try:
        generation = GenerationConfig.from_pretrained(place, revision=revision, local_files_only=local)
    except (OSError, ValueError):
        generation = GenerationConfig()
    ends = generation.eos_token_id
    return LoadedTokenizer(
        tokenizer,
        place,
        getattr(config, "max_position_embeddings", None),
        card_of(Path(place)).get("typed_tokens", "text"),
        tuple(ends) if isinstance(ends, list) else () if ends is None else (ends,),
    )


def locate(name: str) -> str:
    """The folder that a name means, checked to be safe and whole; or the Hub id, as it is."""
    if name == PEBBLE:
        return str(PEBBLE_FOLDER)
    path = Path(name)
    if path.is_dir():
        final = RunFolder(path).final
        if RunFolder(path).config.is_file() and not final.is_dir():
            raise ModelError(
                f"{path} is a run that has not finished: it has no {final.name}/",
                fix=f"Go on with it: burnish train --resume {path}",
            )
        folder = final if final.is_dir() else path
        _require_safe(folder)
        return str(folder.resolve())
    if path.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith("."):
        raise ModelError(
            f"{name}: no such model folder",
            fix="Give a folder with config.json and *.safetensors, a Hub id (owner/name), or pebble.",
        )
    return name


def _load_plain(
    place: str, revision: str | None, dtype: Dtype, quantize: Kind, device: str
) -> PreTrainedModel:
    few_bits = {} if quantize == "none" else {"quantization_config": quantization(quantize, DTYPES[dtype])}
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            place,
            revision=revision,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=Path(place).is_dir(),
            **few_bits,
            **({"device_map": {"": device}} if few_bits else {}),  # packed where they stay
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"{place} cannot be loaded: {_first_line(error)}",
            fix="It must be a causal language model that transformers knows, with safetensors weights.",
        ) from error
    if few_bits:
        settle(model)
        return model
    return model.to(device)


def _load_tokenizer(place: str, revision: str | None) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(
            place, revision=revision, trust_remote_code=False, local_files_only=Path(place).is_dir()
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{place} has no tokenizer that loads: {_first_line(error)}") from error


def _load_adapted(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    dtype: Dtype,
    device: str,
    *,
    base: bool,
    whole: bool,
) -> PreTrainedModel:
    """The adapter's base with the adapter in it, or (``base``) without it."""
    origin = origin_of(folder)
    with ThreadPoolExecutor(1) as beside:  # hashing frees the interpreter, and loading reads the same files
        found = beside.submit(weights_sha256, locate(origin.name))
        model = load_model(
            origin.name, revision=origin.revision, dtype=dtype, quantize=origin.quantize, device=device
        ).model
        _require_same_base(folder, origin, found.result())
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    if whole:
        model = dequantize(model)
    return model if base else attach(model, folder)


def _require_same_base(folder: Path, origin: Origin, found: str | None) -> None:
    """A Hub id without local files has no hash; its revision stands for it."""
    if origin.sha256 and found and origin.sha256 != found:
        raise ModelError(
            f"{folder} was trained on other weights than those that {origin.name} holds now",
            why=f"The hashes are {origin.sha256[:12]} and {found[:12]}; what it learnt holds for the first.",
            fix="Put the base back as it was, or train the adapter anew on this one.",
        )


def _commit(place: str, revision: str | None) -> str | None:
    """Of a Hub id that was just loaded: the folder of its files in the Hub's cache is named after it."""
    if Path(place).is_dir():
        return None
    config = try_to_load_from_cache(place, "config.json", revision=revision or "main")
    return Path(config).parent.name if isinstance(config, str) else None


def _require_safe(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    pickles = [file.name for pattern in PICKLES for file in folder.glob(pattern)]
    if pickles:
        raise ModelError(
            f"{folder} holds its weights as pickles only ({', '.join(sorted(pickles)[:3])})",
            why="Loading a pickle runs whatever code is in it, so burnish never does.",
            fix="Convert it on a machine you can lose: model.save_pretrained(folder) writes safetensors.",
        )
    raise ModelError(f"{folder} holds no model: no *.safetensors in it")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _quiet() -> None:
    """The libraries' own bars and notices; what matters in them, burnish says itself."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
