"""Several adapters on one base, whose weights are in memory once.

Each adapter gets a copy of the base's modules that shares all of its weights. Choosing another one is
choosing another copy; the base itself is never touched. A stack is a further copy, in which each layer adds
up what the adapters change: ``W x + w_1 D_1 x + w_2 D_2 x``, where for LoRA ``D_i = s_i B_i A_i``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft.tuners.lora import LoraLayer
from peft.utils.other import AuxiliaryTrainingWrapper, TrainableTokensWrapper
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from burnish.adapters.bottleneck import NAME, Bottleneck
from burnish.adapters.folder import BaseIdentity, base_of, is_adapter, kind_of, metadata_of, weights_sha256
from burnish.adapters.load import LoadedModel, load_model, locate, stop_ids_of
from burnish.adapters.lora import is_dora
from burnish.adapters.merge import adapted_layers
from burnish.adapters.saved import CONFIG, attach
from burnish.errors import ConfigError, ModelError
from burnish.files import read_json
from burnish.model.load import Dtype, load_plain_tokenizer

LOW_RANK = ("lora", "dora")
CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Starts of LoRA for which other tools take something out of the base's weights when they load."""


@dataclass(frozen=True)
class Adapters:
    """A base, and by name the ``models`` that each adapter makes of it, with the tokenizer of its training.
    All of them share the base's weights. ``kinds``: the adapters' methods."""

    base: LoadedModel
    models: Mapping[str, LoadedModel]
    kinds: Mapping[str, str]


def open_adapters(
    locations: Mapping[str, str],
    base: str | None = None,
    *,
    dtype: Dtype = "auto",
    device: str | None = None,
) -> Adapters:
    """Load a base once and put each of the adapters (runs or adapters' folders, by name) on it.

    ``base``: a model to use; unset: the one that the first adapter was trained on. Raises ``ModelError``
    where an adapter was trained on another one.
    """
    assert locations
    folders = {name: _adapter_folder(location) for name, location in locations.items()}
    bases = {name: base_of(folder) for name, folder in folders.items()}
    first = next(iter(bases.values()))
    name = base or first.name
    revision = first.revision if name == first.name else None
    wanted = BaseIdentity(name, revision, first.quantize, weights_sha256(locate(name)))
    for name, found in bases.items():
        if not found.matches(wanted):
            raise ModelError(
                f"the adapter {name} was trained on {found}, not on {wanted}",
                why="What an adapter learnt is a difference to one set of weights.",
                fix="Give adapters of one base, or chat with each alone.",
            )
    loaded = load_model(
        wanted.name, revision=wanted.revision, dtype=dtype, quantize=wanted.quantize, device=device
    )
    loaded.model.requires_grad_(False).eval()
    models = {name: _on(loaded.model, name, folder) for name, folder in folders.items()}
    return Adapters(loaded, models, {name: kind_of(folder) for name, folder in folders.items()})


def _on(base: PreTrainedModel, name: str, folder: Path) -> LoadedModel:
    """The adapter in ``folder`` on a copy of the base."""
    start = str(read_json(folder / CONFIG).get("init_lora_weights", ""))
    if start.startswith(CHANGES_THE_BASE):
        raise ModelError(
            f"the adapter {name} was saved for a base that {start} has changed",
            why="Loading it changes the base's weights, which the other adapters share.",
            fix="Use it alone, or save it as a plain LoRA.",
        )
    tokenizer = load_plain_tokenizer(str(folder), None)
    model = attach(sharing(base, len(tokenizer)), folder)
    typed = metadata_of(folder).get("typed_tokens", "text")
    return LoadedModel(model, tokenizer, str(folder), typed, stop_ids_of(str(folder), None))


def _adapter_folder(location: str) -> Path:
    folder = Path(locate(location))
    if not is_adapter(str(folder)):
        raise ModelError(
            f"{location} is not an adapter: it is a whole model",
            why="Only adapters can stand beside each other on one base.",
            fix="Give runs of an adapter, or chat with this model alone.",
        )
    return folder


def sharing(model: PreTrainedModel, vocabulary: int = 0) -> PreTrainedModel:
    """A copy of a model's modules on the same weights. ``vocabulary``: tokens that its tables must have rows
    for; those that get more rows are the copy's own."""
    copied: PreTrainedModel = _shared_copy(model)
    table, head = copied.get_input_embeddings(), copied.get_output_embeddings()
    if vocabulary > table.weight.shape[0]:
        # Rows are added to the tensor within the parameter, which would be the base's.
        tied = head.weight is table.weight
        table.weight = nn.Parameter(table.weight.clone())
        head.weight = table.weight if tied else nn.Parameter(head.weight.clone())
        copied.resize_token_embeddings(vocabulary, mean_resizing=False)
        copied.requires_grad_(False)
    return copied


def stacked(adapters: Adapters, weights: Mapping[str, float]) -> PreTrainedModel:
    """The base with what each named adapter changes, times its weight; with none, the base.

    The same model as the adapter alone where that has all the weight. LoRA and DoRA: ``W + sum w_i D_i``,
    exactly. Bottlenecks: the sum of their outputs. IA3: the product of their scales, without weights. Trained
    tokens and modules trained whole: the base's value and the weighted sum of the changes to it. Raises
    ``ConfigError`` for a name that is none and ``ModelError`` for what cannot be stacked.
    """
    unknown = [name for name in weights if name not in adapters.models]
    if unknown:
        raise ConfigError(
            f"there is no adapter {unknown[0]}", fix=f"There are: {', '.join(adapters.models)}, and none."
        )
    chosen = {name: weight for name, weight in weights.items() if weight}
    if not chosen:
        return adapters.base.model
    if list(chosen.values()) == [1.0]:
        return adapters.models[next(iter(chosen))].model
    kind = _common_kind(adapters, chosen)
    models = {name: adapters.models[name].model for name in chosen}
    rows = {model.get_input_embeddings().weight.shape[0] for model in models.values()}
    if len(rows) > 1:
        sizes = " and ".join(str(size) for size in sorted(rows))
        raise ModelError(
            f"{' and '.join(chosen)} have different vocabularies, of {sizes} tokens",
            fix="Use them one at a time.",
        )
    result = sharing(adapters.base.model, rows.pop())
    parts = [(weight, models[name]) for name, weight in chosen.items()]
    if kind == "bottleneck":
        _add_bottlenecks(result, parts)
    layers = [(weight, adapted_layers(model)) for weight, model in parts]
    tables: dict[int, nn.Parameter] = {}
    for path in dict.fromkeys(path for _, found in layers for path in found):
        here = [(weight, found[path]) for weight, found in layers if path in found]
        replaced = [isinstance(layer, AuxiliaryTrainingWrapper) for _, layer in here]
        if any(replaced) and not all(replaced):
            raise ModelError(
                f"{path} cannot be stacked: one adapter trained its own values, another something beside it",
                fix="Use the adapters one at a time.",
            )
        if any(replaced):
            layer = _summed(adapters.base.model.get_submodule(path), here, tables)
        elif kind == "ia3":
            layer = _multiplied(path, [layer for _, layer in here])
        else:
            layer = StackedLinear(path, here)
        result.set_submodule(path, layer)
    return result.requires_grad_(False).eval()


class StackedLinear(nn.Module):
    """``W x + sum of w_i D_i x`` of one linear layer, D_i what the i-th adapter (LoRA or DoRA) adds to W."""

    def __init__(self, path: str, parts: Sequence[tuple[float, Any]]) -> None:
        super().__init__()
        for _, layer in parts:
            if not isinstance(layer, LoraLayer) or "default" not in layer.lora_A or not _is_known(layer):
                raise ModelError(
                    f"{path} cannot be stacked: it is a {type(layer).__name__} of peft's",
                    why="Sums are known of linear layers with LoRA or DoRA.",
                    fix="Use the adapters one at a time.",
                )
        self.base: nn.Module = parts[0][1].get_base_layer()
        self.weights = [weight for weight, _ in parts]
        self.layers = nn.ModuleList([layer for _, layer in parts])

    @property
    def weight(self) -> Any:
        """Of the base: some models look at its type."""
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        plain: Tensor = self.base(x)
        result = plain
        for weight, layer in zip(self.weights, self.layers, strict=True):
            result = result + weight * _change(layer, x, plain)
        return result.to(plain.dtype)


def _is_known(layer: Any) -> bool:
    return not layer.lora_variant or is_dora(layer)


def _change(layer: Any, x: Tensor, plain: Tensor) -> Tensor:
    """``D x``, given ``plain`` W x."""
    down, up, scale = layer.lora_A["default"], layer.lora_B["default"], layer.scaling["default"]
    x = x.to(down.weight.dtype)
    change: Tensor
    if not is_dora(layer):
        change = up(down(x)) * scale
    else:
        dora = layer.lora_magnitude_vector["default"]
        given = {"lora_A": down, "lora_B": up, "scaling": scale, "base_layer": layer.get_base_layer()}
        change = dora(x, **given, base_result=plain, adapter_name="default")
    return change


def _common_kind(adapters: Adapters, chosen: Mapping[str, float]) -> str:
    """The method of all the adapters chosen. Raises ``ModelError`` for methods that cannot be added up."""
    kinds = {name: adapters.kinds[name] for name in chosen}
    named = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
    fix = "Use them one at a time."
    families = {"lora" if kind in LOW_RANK else kind for kind in kinds.values()}
    if len(families) > 1:
        raise ModelError(
            f"adapters of different methods cannot be stacked: {named}",
            why="LoRA and DoRA add up with each other; any other method only with its own.",
            fix=fix,
        )
    (family,) = families
    if family not in ("lora", "ia3", "bottleneck"):
        raise ModelError(
            f"these adapters cannot be stacked or weighted: {named}",
            why="What stands in front of the text is all there or not; other methods are not known here.",
            fix=fix,
        )
    if family == "ia3" and any(weight != 1.0 for weight in chosen.values()):
        raise ModelError(
            f"IA3 takes no weights: {named}",
            why="It multiplies by scales. Several are multiplied with each other, each wholly.",
            fix="Give the names alone, such as /adapter a b.",
        )
    return family


def _summed(
    base: nn.Module, parts: Sequence[tuple[float, Any]], tables: dict[int, nn.Parameter]
) -> nn.Module:
    """The base's module with ``P + sum of w_i (P_i - P)`` for its weights. A row that was added to a table
    has no value in the base and counts as 0 there. ``tables``: those made so far by the base's, since a head
    may be the embedding table."""
    tokens = all(isinstance(layer, TrainableTokensWrapper) for _, layer in parts)
    result: nn.Module = _shared_copy(parts[0][1].original_module)
    for name, weight in list(base.named_parameters()):
        if tokens and name != "weight":  # a head's bias
            continue
        made = tables.get(id(weight)) if tokens else None
        if made is None:
            changed = [(share, _value(layer, name).float()) for share, layer in parts]
            more = changed[0][1].shape[0] - weight.shape[0]
            begun = functional.pad(weight.float(), (0, 0) * (weight.dim() - 1) + (0, more))
            total = begun + sum(share * (value - begun) for share, value in changed)
            made = nn.Parameter(total.to(weight.dtype), requires_grad=False)
        if tokens:
            tables[id(weight)] = made
        parent, _, last = name.rpartition(".")
        setattr(result.get_submodule(parent), last, made)
    return result


def _value(layer: Any, name: str) -> Tensor:
    """A weight as an adapter leaves it."""
    value: Tensor
    if isinstance(layer, TrainableTokensWrapper):
        value = layer.token_adapter.get_merged_weights(["default"])
    else:
        value = layer.modules_to_save["default"].get_parameter(name)
    return value


def _multiplied(path: str, layers: Sequence[Any]) -> nn.Module:
    """IA3 with the product of the layers' scales."""
    if len({layer.is_feedforward for layer in layers}) > 1:
        raise ModelError(
            f"{path} cannot be stacked: one adapter scales what goes in, another what comes out",
            fix="Use the adapters one at a time.",
        )
    result: Any = _shared_copy(layers[0])
    product = torch.stack([layer.ia3_l["default"] for layer in layers]).prod(0)
    result.ia3_l = nn.ParameterDict({"default": nn.Parameter(product, requires_grad=False)})
    return cast(nn.Module, result)


class StackedBottleneck(nn.Module):
    """``h + sum of w_i f_i(h)``, f_i what the i-th adapter's network gives."""

    def __init__(self, parts: Sequence[tuple[float, Bottleneck]]) -> None:
        super().__init__()
        self.weights = [weight for weight, _ in parts]
        self.networks = nn.ModuleList([network for _, network in parts])

    def forward(self, hidden: Tensor) -> Tensor:
        result = hidden
        for weight, network in zip(self.weights, self.networks, strict=True):
            result = result + weight * cast(Bottleneck, network).added(hidden)
        return result


def _add_bottlenecks(result: PreTrainedModel, parts: Sequence[tuple[float, nn.Module]]) -> None:
    """Give each half of a layer the networks of all adapters that have one there."""
    halves: dict[str, list[tuple[float, nn.Module]]] = {}
    for weight, model in parts:
        for path, module in model.named_modules():
            if isinstance(module, Bottleneck):
                half = path.removesuffix(f".{NAME}")
                halves.setdefault(half, []).append((weight, model.get_submodule(half)))
    for path, found in halves.items():
        copied = _shared_copy(found[0][1])  # with the hook that leads through the network
        networks = [(weight, cast(Bottleneck, half.get_submodule(NAME))) for weight, half in found]
        copied.set_submodule(NAME, StackedBottleneck(networks))
        result.set_submodule(path, copied)


def _shared_copy(module: Any) -> Any:
    """A deep copy but for weights, and for what packed weights keep beside them."""
    kept = [*module.parameters(), *module.buffers()]
    for part in module.modules():
        kept += [vars(part)[name] for name in ("state", "quant_state") if name in vars(part)]
    return copy.deepcopy(module, {id(thing): thing for thing in kept})
