"""The model of a run before its first step: loaded, with its template, its trained weights marked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from burnish.adapters.adapter import ParameterCount, add_adapter, count_parameters, untrained_tokens
from burnish.adapters.experts import adapts_weights
from burnish.adapters.folder import BaseIdentity, is_adapter, weights_sha256
from burnish.adapters.load import LoadedModel, borrowed_model, load_model, locate
from burnish.config import ModelConfig, RunConfig
from burnish.errors import ConfigError, ModelError
from burnish.model.quantize import quantized_share, require_runs_quantized
from burnish.model.shard import shard
from burnish.prepare.in_memory import NOTHING, InMemory
from burnish.run.screen import Screen
from burnish.template import ChatTemplate
from burnish.template.build import build_template


@dataclass(frozen=True)
class PreparedModel:
    """A model ready to train. ``save``: writes what is trained, the adapter or the whole model, into a
    folder; ``base``: what the model was loaded from."""

    model: PreTrainedModel
    save: Callable[[Path], None]
    template: ChatTemplate
    base: BaseIdentity
    count: ParameterCount

    @property
    def positions(self) -> int | None:
        """The most tokens that the model reads, where its config says."""
        return getattr(self.model.config, "max_position_embeddings", None)


def prepare_model(
    config: RunConfig, screen: Screen, device: str | None = None, in_memory: InMemory = NOTHING
) -> PreparedModel:
    """Load the base, or take the one ``in_memory``, and add what the config says. The same config gives the
    same weights each time."""
    torch.manual_seed(config.train.seed)  # of the adapter's first weights and of new embeddings
    loaded, base = _loaded(config, device, in_memory)
    model = loaded.model
    if config.model.quantize != "none":
        screen.say(f"{config.model.quantize}: {quantized_share(model, config.model.quantize)}.")
        require_runs_quantized(model, config.model.quantize)
    template, new = _chat_template(config, loaded, screen)
    save: Callable[[Path], None] = model.save_pretrained
    if config.adapter.kind == "none":
        model.requires_grad_(True)
    else:
        tokens = _trained_embeddings(config, model, template, new)
        adapted = add_adapter(model, config.adapter, tokens)
        model, save = adapted.model, adapted.save
        if tokens:
            _announce_tokens(config, template, tokens, screen)
    _announce_router_loss(config, model, screen)
    count = count_parameters(model)
    screen.say(f"{count}.")
    return PreparedModel(model, save, template, base, count)


def _loaded(config: RunConfig, device: str | None, in_memory: InMemory) -> tuple[LoadedModel, BaseIdentity]:
    named = config.model
    if in_memory.model is not None and in_memory.tokenizer is not None:
        loaded = borrowed_model(
            in_memory.model,
            in_memory.tokenizer,
            own_weights=config.adapter.kind == "none",
            dtype=named.dtype,
            device=device,
        )
        return loaded, in_memory.base
    require_whole_model(named.name)
    loaded = load_model(
        named.name, revision=named.revision, dtype=named.dtype, quantize=named.quantize, device=device
    )
    return loaded, _base(named, loaded)


def require_whole_model(name: str) -> None:
    """Raises ``ModelError`` for the name of an adapter."""
    if is_adapter(locate(name)):
        raise ModelError(
            f"{name} is an adapter, not a whole model",
            why="An adapter on an adapter could not be loaded again by other tools.",
            fix="Train from its base, or from a run of all weights (--adapter none).",
        )


def _base(named: ModelConfig, loaded: LoadedModel) -> BaseIdentity:
    """Of a Hub id the commit is kept, so that an adapter is later put on the base that it was trained on."""
    name = loaded.location if Path(named.name).is_dir() else named.name
    return BaseIdentity(
        name, loaded.commit or named.revision, named.quantize, weights_sha256(loaded.location)
    )


def split_model(model: PreTrainedModel, config: RunConfig, ranks: int) -> None:
    """Split the weights of a model that was prepared over so many ranks, in place. Raises ``ConfigError`` for
    what trains on one device only."""
    for key, value, fine in (
        ("model.quantize", config.model.quantize, ("none",)),
        ("train.optimizer", config.train.optimizer, ("auto", "adamw")),
        ("adapter.kind", config.adapter.kind, ("lora", "bottleneck", "none")),
        ("adapter.kind", "lora on fused experts" if adapts_weights(model) else "lora", ("lora",)),
    ):
        if value not in fine:
            raise ConfigError(
                f"{key} {value} trains on one device only",
                why="Its tensors cannot be split over several.",
                fix="Start it without torchrun, or choose another.",
            )
    shard(model, ranks)


@torch.no_grad()
def set_weights(model: PreTrainedModel, trained: Iterable[tuple[str, Tensor]]) -> None:
    """Round trained weights, by name, into the model."""
    weights = dict(model.named_parameters())
    for name, master in trained:
        weights[name].copy_(master)


def _chat_template(config: RunConfig, loaded: LoadedModel, screen: Screen) -> tuple[ChatTemplate, list[int]]:
    """The template to train with, and the ids of tokens that had to be added for it."""
    tokenizer, model = loaded.tokenizer, loaded.model
    if config.template.kind == "auto" and not tokenizer.chat_template:
        screen.say("The base carries no chat template; it gets ChatML-lite.")
    template, new = build_template(tokenizer, config.template, loaded.stop_ids)
    if template.dropped_stops:
        dropped = " ".join(template.dropped_stops)
        screen.warn(f"The base stops at {dropped}, which is ordinary text: final/ will not stop there.")
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return template, tokenizer.convert_tokens_to_ids(new)


def _announce_router_loss(config: RunConfig, model: PreTrainedModel, screen: Screen) -> None:
    """A mixture's config may ask for a loss that keeps its experts evenly used. It is taken over a whole
    batch, so that it would depend on how rows are put together; it is left out, and that is said."""
    settings = model.config.get_text_config()
    share = getattr(settings, "router_aux_loss_coef", 0.0)
    if not (getattr(settings, "output_router_logits", False) and share):
        return
    trained = config.adapter.kind == "none"
    state = "the routers are trained without it" if trained else "its routers are frozen"
    screen.warn(
        "The base's config asks for a loss that balances its experts (output_router_logits, of weight "
        f"{share}): burnish leaves it out, and {state}."
    )


def _announce_tokens(config: RunConfig, template: ChatTemplate, tokens: list[int], screen: Screen) -> None:
    names = " ".join(template.tokenizer.convert_ids_to_tokens(tokens))
    screen.say(f"The base never learned {names}; their embeddings are trained too.")
    if config.adapter.kind not in ("lora", "dora", "bottleneck"):
        screen.warn(
            f"Plain peft keeps no trained tokens beside {config.adapter.kind}: it would load final/ without "
            "them. burnish loads them."
        )


def _trained_embeddings(
    config: RunConfig, model: PreTrainedModel, template: ChatTemplate, new: list[int]
) -> list[int]:
    vocabulary = template.tokenizer.get_vocab()
    if config.adapter.trainable_tokens == "auto":
        markers = [vocabulary[token] for token in template.markers]
        return sorted({*new, *untrained_tokens(model, markers)})
    unknown = [token for token in config.adapter.trainable_tokens if token not in vocabulary]
    if unknown:
        raise ConfigError(f"adapter.trainable_tokens: the tokenizer has no {', '.join(unknown)}")
    return sorted({*new, *(vocabulary[token] for token in config.adapter.trainable_tokens)})
