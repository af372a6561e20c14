"""The sections of a config. Each carries the name of the room that it steers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

Remedy = Literal[
    "append_stop",
    "stop_at_next_turn",
    "follow_generation_prompt",
    "keep_reasoning",
    "drop_reasoning",
    "add_generation_prompt",
    "merge_system_into_user",
    "merge_consecutive",
    "split_turns",
    "tools_as_text",
    "rename_call_ids",
    "tool_role_tool",
    "arguments_as_text",
    "content_parts",
    "add_bos",
]
"""See ``template/remedies.py``."""


class Section(BaseModel):
    """Frozen, and an unknown key is refused. Text that reads as the type wanted is taken as it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class ModelConfig(Section):
    name: str = "pebble"
    """A model folder, a run folder, a Hub id (owner/name), or pebble, the embedded base."""
    revision: str | None = None
    """Branch, tag or commit of a Hub id."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """The type of the weights while training; auto: bfloat16, with fp32 masters for what is trained."""
    quantize: Literal["none", "nf4", "int8"] = "none"
    """How a frozen base is kept in memory: four bits a weight (QLoRA) or eight; needs the extra quant."""


class DataConfig(Section):
    train: tuple[str, ...] = ()
    """Files of rows to train on."""
    held_out: tuple[str, ...] = ()
    """Files of rows to measure held-out loss on; empty: a share of the training rows is set aside."""
    held_out_share: float = Field(0.05, ge=0.0, lt=1.0)
    """The share of the rows to set aside, by prompt, when held_out names no file; 0: none."""
    bad_rows: Literal["error", "skip"] = "error"
    """A row that cannot be read stops the run, or is left out and counted in the ledger."""
    cache: bool = True
    """Prepared rows are kept on disk, and taken from there by later runs that would make the same of them."""


class TemplateConfig(Section):
    kind: Literal["auto", "chatml"] = "auto"
    """auto: the tokenizer's own chat template, or ChatML-lite where it has none; chatml: ChatML-lite."""
    options: dict[str, Any] = {}
    """Variables handed to the template, such as enable_thinking. They are saved with the result."""
    remedies: tuple[Remedy, ...] = ()
    """What is done where the template breaks a mask law; burnish check names those that would work."""
    typed_tokens: Literal["text", "special"] = "text"
    """A special token that a person typed is read as plain text, or as the token."""


class TokensConfig(Section):
    max_length: PositiveInt = 2048
    """The most tokens in one example; never more than the model's positions, less the virtual tokens."""
    too_long: Literal["truncate_left", "split", "truncate_right", "drop", "error"] = "truncate_left"
    """Of a longer row the earliest whole exchanges are left out; or it is split between exchanges; or cut off
    at the limit, in the middle of an answer if it comes so; or left out; or stops the run. All is counted."""
    train_on: Literal["all", "last", "none-but-marked"] = "all"
    """Which assistant turns are learnt, where messages do not say it themselves (train, weight, spans)."""


class AdapterConfig(Section):
    kind: Literal["lora", "dora", "ia3", "prompt", "prefix", "bottleneck", "none"] = "lora"
    """What is trained beside a frozen base: low-rank products, the same with a magnitude a column, scales of
    activations, virtual tokens before the text or before each layer's keys, or small networks behind each
    half of a layer; none: every weight of the base."""
    rank: PositiveInt = 16
    """Of lora and dora."""
    alpha: float | None = Field(None, gt=0)
    """lora and dora are scaled by alpha / rank; unset: 2 * rank."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead, so that large ranks learn as fast as small ones."""
    rank_pattern: dict[str, PositiveInt] = {}
    """Other ranks for the layers whose names end so, or match as a regular expression: {down_proj: 32}."""
    alpha_pattern: dict[str, PositiveFloat] = {}
    """Other alphas, likewise."""
    init: Literal["default", "gaussian", "olora", "pissa"] = "default"
    """How lora begins: as its base exactly (default, gaussian), or on the weight's own main directions."""
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Of what goes into lora, dora and bottleneck."""
    targets: Literal["auto", "all-linear", "attention"] | tuple[str, ...] = "auto"
    """Names of the linear layers that get an adapter; all-linear: all but the head and routers; attention:
    those of attention; auto: all-linear, and for ia3 keys, values and what goes into the MLP's last layer."""
    layers: str | None = Field(None, pattern=r"^\d+(-\d+)?( *, *\d+(-\d+)?)*$", coerce_numbers_to_str=True)
    """Numbers of the layers that get an adapter, from 0: 8-15, or 0-3,12; unset: all."""
    width: PositiveInt = 64
    """Of bottleneck: how many numbers pass between its two halves."""
    virtual_tokens: PositiveInt = 20
    """Of prompt and prefix."""
    trainable_tokens: Literal["auto"] | tuple[str, ...] = "auto"
    """Tokens whose embeddings are trained beside the adapter; auto: those of the template that the
    base never learned."""
    modules_to_save: tuple[str, ...] = ()
    """Modules that are trained and saved whole beside the adapter, such as lm_head."""

    @property
    def before_text(self) -> int:
        """Virtual tokens that stand before each text and take positions of the model."""
        return self.virtual_tokens if self.kind in ("prompt", "prefix") else 0


class TrainConfig(Section):
    learning_rate: float | None = Field(None, gt=0)
    """The peak; unset: a usual one for the kind of adapter, 2e-4 with LoRA, 2e-5 for all weights."""
    epochs: float = Field(3.0, gt=0)
    max_steps: PositiveInt | None = None
    batch_size: PositiveInt = 32
    """Examples in an optimizer step."""
    micro_batch_tokens: PositiveInt | None = None
    """Tokens in one forward pass: memory and speed, never the result; unset: 4,096 (16,384 on a GPU), or
    fewer where memory has no room for them."""
    warmup: float = Field(0.03, ge=0.0, le=1.0)
    """The share of the steps over which the rate rises."""
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    decay_to: float = Field(0.1, ge=0.0, le=1.0)
    """The rate of the last step, as a share of the peak."""
    weight_decay: float = Field(0.0, ge=0.0)
    betas: tuple[float, float] = (0.9, 0.999)
    optimizer: Literal["auto", "adamw", "adamw-8bit"] = "auto"
    """adamw-8bit: moments of eight bits, moved out of a GPU's memory where it is short (needs the extra
    quant); auto: with a quantized base on a GPU."""
    max_grad_norm: float = Field(1.0, gt=0)
    seed: int = Field(0, ge=0)
    checkpoint_every: PositiveInt | None = None
    """Steps between checkpoints; unset: once an epoch."""
    keep_checkpoints: int = Field(2, ge=2)
    """The newest ones; the best one is kept besides, where it is wanted."""
    max_skipped: PositiveInt = 3
    """Steps in a row that may be skipped since their loss or gradient is not finite; then the run stops."""
    recompute: Literal["auto"] | bool = "auto"
    """Compute activations again in the backward pass instead of keeping them; auto: where memory has no room
    for those of the longest row."""
    compile: Literal["auto"] | bool = "auto"
    """Compile the model's layers; auto: where there is a compiler and the run is long enough."""
    early_stopping: PositiveInt | None = None
    """Stop after this many evaluations without a better held-out loss; unset: never."""
    final: Literal["auto", "last", "best"] = "auto"
    """Which weights final/ gets: the last, or those with the best held-out loss; auto: the best with
    early_stopping, else the last."""


class EvaluateConfig(Section):
    every: PositiveInt | None = None
    """Steps between evaluations; unset: once an epoch. There is always one before and one after."""
    samples: int = Field(4, ge=0)
    """Held-out prompts answered at each evaluation."""
    max_new_tokens: PositiveInt = 128
    """The length at which an answer that does not stop is cut."""
    forgetting: str = Field("auto", min_length=1)
    """The text whose loss before and after tells what is forgotten: a text file; samples: what the base
    writes; auto: the embedded tales for pebble, else samples; none: it is not measured."""


class RunConfig(Section):
    """All that decides a fine-tuning run."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    template: TemplateConfig = TemplateConfig()
    tokens: TokensConfig = TokensConfig()
    adapter: AdapterConfig = AdapterConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    track: tuple[Literal["trackio", "wandb", "tensorboard"], ...] = ()
    """Experiment trackers that are shown the metrics; metrics.jsonl is always written."""
    out: str | None = None
    """The run folder to write; it must not hold another run."""

    @model_validator(mode="after")
    def _require_what_goes_together(self) -> RunConfig:
        adapter, low_rank = self.adapter, ("lora", "dora")
        if self.model.quantize != "none" and adapter.kind == "none":
            raise ValueError(
                "model.quantize needs an adapter: weights of few bits cannot be trained themselves"
            )
        if self.model.quantize != "none" and adapter.init in ("olora", "pissa"):
            raise ValueError(
                f"adapter.init {adapter.init} begins from whole weights, not from quantized ones"
            )
        for key in ("rslora", "rank_pattern", "alpha_pattern"):
            if getattr(adapter, key) and adapter.kind not in low_rank:
                raise ValueError(f"adapter.{key} is for {' and '.join(low_rank)}, not for {adapter.kind}")
        if adapter.init != "default" and adapter.kind != "lora":
            raise ValueError(f"adapter.init is for lora, not for {adapter.kind}")
        if adapter.kind in ("prompt", "prefix"):
            for key, neutral in (("targets", "auto"), ("layers", None), ("modules_to_save", ())):
                if getattr(adapter, key) != neutral:
                    raise ValueError(f"adapter.{key} has no meaning for {adapter.kind}: it changes no layer")
        return self


class PretrainConfig(Section):
    """All that decides pebble: its shape, its reading matter and its training."""

    corpus: str
    """A jsonl file of prose with a text a row."""
    held_out: str | None = None
    """Another, to measure bits per byte on."""
    out: str
    seed: int = Field(0, ge=0)
    tokens: PositiveInt = 14_000_000
    """Tokens to read, about."""
    fact_share: float = Field(0.62, ge=0.0, le=1.0)
    """The share of them that states facts; the rest is prose."""
    vocabulary: PositiveInt = 4096
    layers: PositiveInt = 6
    width: PositiveInt = 256
    heads: PositiveInt = 4
    mlp_width: PositiveInt = 704
    max_length: PositiveInt = 1024
    train: TrainConfig = TrainConfig(
        learning_rate=1.5e-3,
        epochs=1,
        batch_size=12,
        micro_batch_tokens=6144,
        warmup=0.02,
        weight_decay=0.1,
        betas=(0.9, 0.95),
        decay_to=0.05,
        checkpoint_every=200,
    )
