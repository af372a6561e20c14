"""Names of whole models to models and tokenizers: the embedded base, folders, Hub ids. Safetensors only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from burnish.errors import ModelError
from burnish.model.quantize import Kind, quantization, require_whole_weights, use_dequantized_products

PEBBLE = "pebble"
PEBBLE_FOLDER = Path(__file__).parents[1] / "pebble" / "model"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
DTYPES = {"auto": torch.bfloat16, "bfloat16": torch.bfloat16, "float32": torch.float32}
Dtype = Literal["auto", "bfloat16", "float32"]


def locate_folder(name: str) -> str:
    """The folder that a name means, checked to be safe and complete; or the Hub id, as it is. Raises
    ``ModelError`` for what is neither."""
    if name == PEBBLE:
        return str(PEBBLE_FOLDER)
    path = Path(name)
    if path.is_dir():
        _require_safe(path)
        return str(path.resolve())
    if path.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith("."):
        raise ModelError(
            f"{name}: no such model folder",
            fix="Give a folder with config.json and *.safetensors, a Hub id (owner/name), or pebble.",
        )
    return name


def load_plain(
    location: str, revision: str | None, dtype: Dtype, quantize: Kind, device: str
) -> PreTrainedModel:
    """The causal language model in a folder or at a Hub id. Raises ``ModelError`` where there is none."""
    require_whole_weights(location, _config_of(location, revision))
    few_bits = {} if quantize == "none" else {"quantization_config": quantization(quantize, DTYPES[dtype])}
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            location,
            revision=revision,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=Path(location).is_dir(),
            **few_bits,
            **({"device_map": {"": device}} if few_bits else {}),  # packed where they stay
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"{location} cannot be loaded: {first_line(error)}",
            fix="It must be a causal language model that transformers knows, with safetensors weights.",
        ) from error
    if few_bits:
        use_dequantized_products(model)
        return model
    return model.to(device)


def _config_of(location: str, revision: str | None) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(
            location, revision=revision, trust_remote_code=False, local_files_only=Path(location).is_dir()
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{location} cannot be loaded: {first_line(error)}",
            fix="It must be a causal language model that transformers knows, with safetensors weights.",
        ) from error


def load_plain_tokenizer(location: str, revision: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer beside it. Raises ``ModelError`` where there is none."""
    try:
        return AutoTokenizer.from_pretrained(
            location, revision=revision, trust_remote_code=False, local_files_only=Path(location).is_dir()
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{location} has no tokenizer that loads: {first_line(error)}") from error


def commit_of(location: str, revision: str | None) -> str | None:
    """Of a Hub id that was just loaded: the folder of its files in the Hub's cache is named after it."""
    if Path(location).is_dir():
        return None
    config = try_to_load_from_cache(location, "config.json", revision=revision or "main")
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


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def quiet_libraries() -> None:
    """The libraries' own bars and notices; what matters in them, burnish says itself."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
