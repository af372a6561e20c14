"""Adapters on disk: a folder with peft's file names, and the guards when one is loaded.

LoRA, DoRA, IA3, prompt and prefix are in peft's own format. Rows of trained tokens have a place in it beside
LoRA and DoRA only; beside the others they stand in the same two files under peft's names for them, and plain
peft leaves them out.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from peft import PeftConfig, PeftModel, PeftModelForCausalLM, get_peft_model_state_dict
from peft.tuners.ia3 import IA3Layer
from peft.tuners.ia3 import Linear as IA3Linear
from peft.utils import set_peft_model_state_dict
from peft.utils.other import (
    ModulesToSaveWrapper,
    TrainableTokensWrapper,
    set_additional_trainable_modules,
)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from burnish.adapters.bottleneck import add_bottlenecks, bottlenecks_of
from burnish.config import AdapterConfig
from burnish.errors import ModelError
from burnish.files import read_json, write_json
from burnish.limits import TakesTooLong, limited
from burnish.model.load import opening
from burnish.model.quantize import is_quantized

CONFIG = "adapter_config.json"
"""peft's name for what makes a folder an adapter."""
WEIGHTS = "adapter_model.safetensors"
BOTTLENECK = "BURNISH_BOTTLENECK"
"""In the place of peft's name of a method."""

OF_BOTTLENECKS = ("width", "dropout", "targets", "layers")
"""Keys of the adapter section that make bottlenecks what they are."""

VECTORS = ("ia3_l", "lora_magnitude_vector")
"""What scales: near 1 bf16 has steps of 0.8 %, so these stay in fp32 whatever the base is."""

PREFIXES = ("lora_", "ia3_", "trainable_tokens_", "modules_to_save")
"""How names of adapters' parameters begin, somewhere behind a dot."""


def set_dtypes(wrapper: PeftModel) -> None:
    """Cast adapters to the type of the base's products, on packed weights too, and what scales to fp32."""
    dtype = wrapper.get_base_model().dtype
    for name, parameter in wrapper.named_parameters():
        if any(part in name for part in VECTORS):
            parameter.data = parameter.data.float()
        elif ".lora_" in name:
            parameter.data = parameter.data.to(dtype)
    for module in wrapper.modules():
        if isinstance(module, IA3Layer) and is_quantized(module.get_base_layer()):
            module.forward = MethodType(IA3Linear.forward, module)  # peft's for packed weights gives fp32


def use_trained_embeddings(wrapper: PeftModel) -> None:
    """Put virtual tokens before the embeddings with their trained rows."""
    if hasattr(wrapper, "word_embeddings"):
        wrapper.word_embeddings = wrapper.get_base_model().get_input_embeddings()


def adapter_tensors(wrapper: PeftModel, name: str = "default") -> dict[str, Tensor]:
    """The adapter's tensors by peft's names for them in a file."""
    # "auto" would ask the Hub whether the base's embeddings were resized; the rows that are trained are saved
    # with the adapter anyway.
    found: dict[str, Tensor] = get_peft_model_state_dict(
        wrapper, adapter_name=name, save_embedding_layers=False
    )
    return found


def save_adapter(wrapper: PeftModel, folder: Path, start: Mapping[str, Tensor] = {}) -> None:
    """Write the adapter into ``folder``. ``start``: LoRA's matrices A0, B0 as they began, where their product
    was taken out of the base: then written as one of twice the rank, B A - B0 A0, for the base as it is."""
    settings = wrapper.peft_config["default"]
    tensors = adapter_tensors(wrapper)
    written = settings.to_dict() | {"inference_mode": True}
    if start:
        tensors, written = _for_the_unchanged_base(tensors, start, written)
    if settings.trainable_token_indices:
        written["trainable_token_indices"] = settings.trainable_token_indices
    _write(folder, written, tensors)


@dataclass
class Extras:
    """What is trained beside a method of ours: whole modules, and rows of tokens by their module."""

    modules_to_save: list[str] | None
    trainable_token_indices: dict[str, list[int]] | None

    def add_to(self, model: PreTrainedModel) -> None:
        self.inference_mode = False  # peft reads this and the fields as of a config of its own
        set_additional_trainable_modules(model, self, model.config.to_dict(), "default")


def save_bottlenecks(model: PreTrainedModel, folder: Path, config: AdapterConfig, extras: Extras) -> None:
    """Write bottlenecks into ``folder``, with a config that names what ``attach`` needs to make them
    again."""
    written = {
        "peft_type": BOTTLENECK,
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model.name_or_path,
    }
    settings = config.model_dump(mode="json", include=set(OF_BOTTLENECKS))
    tensors = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    _write(folder, {**written, **settings, **asdict(extras)}, tensors)


def attach(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Put the adapter in ``folder`` on its base, ready to answer; returns what runs (see ``AdaptedModel``).

    Raises ``ModelError`` where its tensors are not those that this base needs, or where it changes nothing.
    """
    settings = read_json(folder / CONFIG)
    with opening(f"{folder / WEIGHTS} cannot be read", "It is cut off or missing: copy the folder again."):
        tensors = load_file(folder / WEIGHTS, device=str(model.device))
    with _fitting(folder, model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's, of keys: they are looked at here
        if settings["peft_type"] == BOTTLENECK:
            _attach_bottlenecks(model, settings, tensors, folder)
            runs, changes = model, _bottlenecks_change(model)
        else:
            wrapper = _attach_peft(model, settings, tensors, folder)
            virtual = wrapper.peft_config["default"].is_prompt_learning
            runs = wrapper if virtual else wrapper.get_base_model()
            changes = virtual or _tensors_change(tensors)
    if not (changes or _extras_change(model)):
        raise ModelError(
            f"{folder} changes nothing: with it the model is its base",
            why="All that it adds is zero, as before the first step of training, or where saving went wrong.",
            fix="Train it anew; burnish chat --base talks to the base itself.",
        )
    return runs


def _attach_peft(
    model: PreTrainedModel, written: dict[str, Any], tensors: dict[str, Tensor], folder: Path
) -> PeftModel:
    settings = PeftConfig.from_pretrained(str(folder))
    _require_quick_patterns(settings, model, folder)
    settings.inference_mode = True
    settings.trainable_token_indices = written.get("trainable_token_indices")
    wrapper = PeftModelForCausalLM(model, settings, autocast_adapter_dtype=False)
    set_dtypes(wrapper)
    result = set_peft_model_state_dict(wrapper, tensors)
    own = {name for name, _ in wrapper.named_parameters() if any(f".{part}" in name for part in PREFIXES)}
    unexpected = [name for name in result.unexpected_keys if name != "prompt_embeddings"]  # in its encoder
    _require_keys(folder, model, [name for name in result.missing_keys if name in own], unexpected)
    use_trained_embeddings(wrapper)
    wrapper.eval()
    return wrapper


def _require_quick_patterns(settings: PeftConfig, model: PreTrainedModel, folder: Path) -> None:
    """Raises ``ModelError`` for regular expressions of a config that take for ever on the names of modules,
    with which peft compares them."""
    patterns: list[Any] = []
    for key in ("target_modules", "exclude_modules", "layers_pattern", "rank_pattern", "alpha_pattern"):
        given = getattr(settings, key, None) or ()
        patterns += [given] if isinstance(given, str) else list(given)
    names = [name for name, _ in model.named_modules()]
    try:
        with limited():
            for pattern in patterns:
                for name in names:
                    re.search(str(pattern), name)
                    re.fullmatch(str(pattern), name)
    except TakesTooLong as error:
        raise _misfit(folder, model, f"an expression in its {CONFIG} does not end") from error
    except re.error as error:
        raise _misfit(folder, model, f"an expression in its {CONFIG} is none: {error}") from error


def _attach_bottlenecks(
    model: PreTrainedModel, written: dict[str, Any], tensors: dict[str, Tensor], folder: Path
) -> None:
    settings = {key: written[key] for key in OF_BOTTLENECKS}
    add_bottlenecks(model, AdapterConfig.model_validate({"kind": "bottleneck", **settings}))
    Extras(written["modules_to_save"], written["trainable_token_indices"]).add_to(model)
    expected = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    _require_keys(folder, model, sorted(expected - set(tensors)), sorted(set(tensors) - expected))
    model.load_state_dict(tensors, strict=False)
    model.requires_grad_(False)
    model.eval()


@contextmanager
def _fitting(folder: Path, model: PreTrainedModel) -> Iterator[None]:
    """Raises what peft and torch say of an adapter that does not fit as a ``ModelError``."""
    try:
        yield
    except (ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # torch names each tensor of another shape in a line of its own, behind a general one.
        detail = next((line for line in lines if "size mismatch" in line), lines[0] if lines else "")
        raise _misfit(folder, model, detail or type(error).__name__) from error


def _require_keys(folder: Path, model: PreTrainedModel, missing: list[str], unexpected: list[str]) -> None:
    for names, what in ((missing, "it lacks"), (unexpected, "the base has no place for")):
        if names:
            raise _misfit(folder, model, f"{what} {len(names)} tensors, such as {names[0]}")


def _misfit(folder: Path, model: PreTrainedModel, detail: str) -> ModelError:
    return ModelError(
        f"{folder} does not fit its base {model.name_or_path} ({type(model).__name__}): {detail}",
        why="What does not fit would be left out in silence, and the answers be neither base nor adapter.",
        fix="Load it on the base that it was trained on, or train it anew.",
    )


def _tensors_change(tensors: Mapping[str, Tensor]) -> bool:
    """Whether an adapter of peft's does anything beside its trained tokens and whole modules. A DoRA whose
    B is zero was not trained either: B moves with the first step."""
    products = [
        tensor for name, tensor in tensors.items() if ".lora_B." in name or "lora_embedding_B" in name
    ]
    scales = [tensor for name, tensor in tensors.items() if ".ia3_l" in name]
    known = bool(products or scales)
    changed = any(bool(tensor.any()) for tensor in products)
    changed = changed or any(not torch.equal(scale, torch.ones_like(scale)) for scale in scales)
    others = any(not any(f".{part}" in name for part in ("lora_", *PREFIXES)) for name in tensors)
    return changed or (others and not known)


def _bottlenecks_change(model: nn.Module) -> bool:
    return any(
        bool(parameter.any()) for network in bottlenecks_of(model) for parameter in network.up.parameters()
    )


def _extras_change(model: nn.Module) -> bool:
    """Whether trained tokens or whole modules differ from the base's."""
    for module in model.modules():
        if isinstance(module, TrainableTokensWrapper):
            adapter = module.token_adapter
            for name, rows in adapter.trainable_tokens_delta.items():
                numbers = torch.tensor(adapter.token_indices[name], device=rows.device)
                if not torch.equal(rows.to(adapter.base_layer.weight), adapter.base_layer.weight[numbers]):
                    return True
        elif isinstance(module, ModulesToSaveWrapper):
            first = module.original_module.state_dict()
            for copy in module.modules_to_save.values():
                if any(not torch.equal(tensor, first[name]) for name, tensor in copy.state_dict().items()):
                    return True
    return False


def _for_the_unchanged_base(
    tensors: Mapping[str, Tensor], start: Mapping[str, Tensor], settings: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """s (B A - B0 A0) = s [B, -B0] [A; A0], of twice the rank, with the scale s kept."""
    wider = dict(tensors)
    for name, first in start.items():
        if ".lora_A." in name:
            wider[name] = torch.cat([tensors[name], first.to(tensors[name])])
        else:
            wider[name] = torch.cat([tensors[name], -first.to(tensors[name])], dim=1)
    grows = 2**0.5 if settings["use_rslora"] else 2
    changed = {
        "r": 2 * settings["r"],
        "rank_pattern": {key: 2 * rank for key, rank in settings["rank_pattern"].items()},
        "lora_alpha": grows * settings["lora_alpha"],
        "alpha_pattern": {key: grows * alpha for key, alpha in settings["alpha_pattern"].items()},
        "init_lora_weights": True,
    }
    return wider, settings | changed


def _write(folder: Path, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()},
        folder / WEIGHTS,
        metadata={"format": "pt"},
    )
    write_json(folder / CONFIG, _as_json(settings))


def _as_json(value: Any) -> Any:
    """peft's configs hold sets and enums."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return getattr(value, "value", value)
