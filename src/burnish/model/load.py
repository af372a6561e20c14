"""Names of whole models to models and tokenizers: the embedded base, folders, Hub ids. Safetensors only.

This is the one door to what the libraries load. Nothing behind it runs code that a folder brings along,
whatever they raise over a file comes out as a ``ModelError`` that names it, and weights are those of the
files or an error.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import constants, try_to_load_from_cache
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from burnish.errors import BurnishError, ModelError
from burnish.model.quantize import Kind, quantization, require_whole_weights, use_dequantized_products

PEBBLE = "pebble"
PEBBLE_FOLDER = Path(__file__).parents[1] / "pebble" / "model"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
POINTER = b"version https://git-lfs"
"""How a file begins that Git LFS has left in the place of a large one."""

DTYPES = {"auto": torch.bfloat16, "bfloat16": torch.bfloat16, "float32": torch.float32}
Dtype = Literal["auto", "bfloat16", "float32"]

SPOKEN = logging.getLogger("burnish")
"""What a program may silence, and a terminal shows."""

ALIKE = 0.75
"""From which ``difflib`` ratio on a name is taken for a slip of another."""

LARGEST_ID = 2**31
"""Beyond the ids of all tokens."""

PACKED = 8
"""Weights that one stored number stands for at most: eight of four bits in an int32."""


@contextmanager
def opening(what: str, fix: str = "") -> Iterator[None]:
    """Whatever a library raises within the block, over a file that it cannot read, as a ``ModelError``: torn
    and forged files bring out all kinds of exceptions, panics of its Rust parts among them."""
    try:
        yield
    except BurnishError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ModelError(f"{what}: {first_line(error)}", fix=fix) from error


def locate_folder(name: str) -> str:
    """The folder that a name means, checked to be safe and complete; or the Hub id, as it is. Raises
    ``ModelError`` for what is neither."""
    if name == PEBBLE:
        return str(PEBBLE_FOLDER)
    path = Path(name)
    with opening(f"{name[:200]}: no such model folder"):  # a name may be too long to be one
        is_folder = path.is_dir()
    if is_folder:
        _require_safe(path)
        return str(path.resolve())
    if path.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or _means_a_folder(name):
        near = _nearest(path)
        raise ModelError(
            f"{name}: no such model folder",
            fix=f"Did you mean {near}?"
            if near
            else "Give a folder with config.json and *.safetensors, a Hub id (owner/name), or pebble.",
        )
    return name


def _means_a_folder(name: str) -> bool:
    """Whether ``a/b``, which is none, was to be one rather than a Hub id: whoever owns such a name there
    could serve a model for it."""
    folders = [folder.name for folder in Path().iterdir() if folder.is_dir()]
    return name.startswith(".") or bool(get_close_matches(name.split("/")[0], folders, 1, ALIKE))


def _nearest(path: Path) -> str:
    """The path as it may have been meant: each part that is not there replaced by the nearest that is."""
    found = Path()
    for part in path.parts:
        here = found / part
        if not here.exists():
            try:
                names = [other.name for other in found.iterdir()]
            except OSError:
                return ""
            near = get_close_matches(part, names, 1, ALIKE)
            if not near:
                return ""
            here = found / near[0]
        found = here
    return str(found) if found.is_dir() else ""


def read_config(location: str, revision: str | None) -> PretrainedConfig:
    """The config of a model. How its attention and its experts are computed is left to us: a config may name
    kernels that the library would fetch and run. Raises ``ModelError`` where there is none that loads."""
    with opening(
        f"{location} has no config that loads",
        "It must be the config.json of a model that transformers itself knows: no code that comes with a "
        "model is run.",
    ):
        config = AutoConfig.from_pretrained(location, trust_remote_code=False, **_at(location, revision))
    config._attn_implementation = config._experts_implementation = None
    return config


def load_plain(
    location: str, revision: str | None, dtype: Dtype, quantize: Kind, device: str
) -> PreTrainedModel:
    """The causal language model in a folder or at a Hub id, each of its weights read from its files. Raises
    ``ModelError`` where there is none."""
    config = read_config(location, revision)
    require_whole_weights(location, config)
    _require_plausible(config, location)
    few_bits = {} if quantize == "none" else {"quantization_config": quantization(quantize, DTYPES[dtype])}
    with opening(
        f"{location} cannot be loaded",
        "It must be a causal language model that transformers knows, with safetensors weights.",
    ):
        model, found = AutoModelForCausalLM.from_pretrained(
            location,
            config=config,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **_at(location, revision),
            **few_bits,
            **({"device_map": {"": device}} if few_bits else {}),  # packed where they stay
        )
    _require_whole(location, model, found)
    if few_bits:
        use_dequantized_products(model)
        return model
    return model.to(device)


def load_plain_tokenizer(location: str, revision: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer beside it. Raises ``ModelError`` where there is none."""
    with opening(f"{location} has no tokenizer that loads"):
        return AutoTokenizer.from_pretrained(location, trust_remote_code=False, **_at(location, revision))


def read_generation_config(location: str, revision: str | None) -> GenerationConfig | None:
    """What stands in ``generation_config.json``; None where there is none. Raises ``ModelError`` where it
    cannot be read."""
    local = Path(location).is_dir()
    if local and not (Path(location) / "generation_config.json").exists():
        return None
    with opening(f"{location}/generation_config.json cannot be read", "Mend it, or remove it."):
        try:
            found = GenerationConfig.from_pretrained(location, **_at(location, revision))
        except OSError:
            if local:
                raise
            return None  # the Hub has none
        ends = found.eos_token_id if isinstance(found.eos_token_id, list) else [found.eos_token_id or 0]
        if not all(isinstance(end, int) and 0 <= end < LARGEST_ID for end in ends):
            raise ValueError(f"its eos_token_id is {str(found.eos_token_id)[:80]}")
        return found


def commit_of(location: str, revision: str | None) -> str | None:
    """Of a Hub id that was just loaded: the folder of its files in the Hub's cache is named after it."""
    if Path(location).is_dir():
        return None
    config = try_to_load_from_cache(location, "config.json", revision=revision or "main")
    return Path(config).parent.name if isinstance(config, str) else None


def _at(location: str, revision: str | None) -> dict[str, Any]:
    """Where the libraries are to look, once a person knows that it is not on this machine."""
    local = Path(location).is_dir()
    if not (local or constants.HF_HUB_OFFLINE):
        _announce(location)
    return {"revision": revision, "local_files_only": local}


@cache
def _announce(name: str) -> None:
    SPOKEN.warning("%s is no folder here: asking the Hugging Face Hub for it.", name)


def _require_safe(folder: Path) -> None:
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.stat().st_size < 1024 and file.read_bytes().startswith(POINTER):
            raise ModelError(
                f"{file} is a pointer of Git LFS, not the file itself",
                fix=f"Fetch it: git -C {folder} lfs pull",
            )
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


def _require_plausible(config: PretrainedConfig, location: str) -> None:
    """Raises ``ModelError`` where a config asks for far more weights than the files hold, before memory is
    taken for them."""
    if not Path(location).is_dir():
        return
    tensors = held = 0
    for file in sorted(Path(location).glob("*.safetensors")):
        torn = "It is cut off or no safetensors file: fetch it again."
        with opening(f"{file} cannot be read", torn), safe_open(file, "pt") as content:
            names = list(content.keys())
            tensors += len(names)
            held += sum(prod(content.get_slice(name).get_shape()) for name in names)
    text = config.get_text_config()
    width = _whole(text, "hidden_size")
    for key, weights, limit in (
        ("num_hidden_layers", _whole(text, "num_hidden_layers"), tensors),
        ("vocab_size", _whole(text, "vocab_size") * width, held * PACKED),
        ("intermediate_size", _whole(text, "intermediate_size") * width, held * PACKED),
        ("hidden_size", width * width, held * PACKED),
    ):
        if weights > limit:
            raise ModelError(
                f"{location}/config.json says {key} {getattr(text, key):,}, and the files hold {held:,} "
                f"weights in {tensors:,} tensors",
                why="They are not those of such a model.",
                fix="Put back the config.json that belongs to them.",
            )


def _whole(config: PretrainedConfig, key: str) -> int:
    value = getattr(config, key, 0)
    return value if isinstance(value, int) else 0


def _require_whole(location: str, model: PreTrainedModel, found: dict[str, Any]) -> None:
    """Raises ``ModelError`` for weights that the files lack, which the library makes up at random, and for
    those that the model has no place for. Buffers are computed, and a tied head is the embeddings."""
    buffers = {name for name, _ in model.named_buffers()}
    for what, names in (
        ("lacks", found["missing_keys"]),
        ("also holds", found["unexpected_keys"]),
        ("holds in another shape", {name for name, *_ in found["mismatched_keys"]}),
    ):
        names = sorted(set(names) - buffers)
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
            raise ModelError(
                f"{location} {what} weights of a {type(model).__name__} as its config.json has it: {shown}",
                why="What is missing would be random, and what is left over unused: another model than this "
                "folder's.",
                fix="Put the weights and the config.json together that belong together.",
            )


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def quiet_libraries() -> None:
    """The libraries' own bars and notices; what matters in them, burnish says itself."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
