"""The plan of a run: memory, disk and time, before a byte of weights is loaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import PretrainedConfig

from burnish.adapters.adapter import STARTS_IN_WEIGHT, add_adapter
from burnish.adapters.load import load_tokenizer, shape_of
from burnish.config import RunConfig
from burnish.config.load import validated
from burnish.errors import ConfigError, ModelError
from burnish.model.blank import blank_model
from burnish.model.budget import memory_of
from burnish.model.load import DTYPES
from burnish.plan.footprint import Footprint, ResolvedSettings, footprint
from burnish.plan.probe import Speed, measure_speed
from burnish.plan.workload import Workload, workload_of
from burnish.prepare.prepare import prepare
from burnish.prepare.rows import length_limit
from burnish.run.screen import Screen
from burnish.template.build import build_template
from burnish.tokens import TokenTable
from burnish.train.budget import budget_of
from burnish.train.optimizer import uses_eight_bits

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
RANKS = (8, 4)
"""Lower ranks that are tried."""
DEVICES = (2, 4, 8, 16, 32, 64, 128)
NOTICED = 0.005
"""The share of the peak below which a change saves nothing worth a setting."""


@dataclass(frozen=True)
class PlanInputs:
    """What a plan rests on: the model's shape, the tokens whose embeddings are trained, the data, and what
    had to be assumed."""

    shape: PretrainedConfig
    tokens: tuple[int, ...]
    workload: Workload
    assumed: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """``memory`` and ``available`` are of each device, in bytes; ``disk``: bytes by what takes them."""

    config: RunConfig
    resolved: ResolvedSettings
    memory: Footprint
    workload: Workload
    disk: dict[str, float]
    speed: Speed | None
    assumed: tuple[str, ...]
    available: int

    def as_dict(self) -> dict[str, Any]:
        memory = self.memory
        return {
            "device": self.resolved.device,
            "devices": self.resolved.ranks,
            "peak_bytes": round(memory.peak),
            "fullest": memory.fullest,
            "parts": {name: round(size) for name, size in memory.parts.items() if size},
            "phases": {name: round(size) for name, size in memory.phases.items()},
            "disk": {name: round(size) for name, size in self.disk.items()},
            "parameters": {"total": memory.count.total, "trained": memory.count.trainable},
            "micro_batch_tokens": self.resolved.budget,
            "recompute": self.resolved.recompute,
            "compiled": memory.compiled,
            "steps": self.workload.steps,
            "tokens": self.workload.tokens,
            "trained_tokens": self.workload.trained,
            "seconds": self.speed and [round(s, 1) for s in self.speed.seconds(self.workload.tokens)],
            "assumed": list(self.assumed),
            "available_bytes": self.available,
        }


@dataclass(frozen=True)
class Change:
    """A setting that saves memory: what it costs, and the bytes by which the peak shrinks."""

    settings: dict[str, Any]
    harm: str
    saves: float


@dataclass(frozen=True)
class FittedPlan:
    """The plan with the changes that make a run fit, in the order in which they were made; ``devices``: where
    that does not fit, how many would do, 0 for none of those that were tried."""

    changes: tuple[Change, ...]
    plan: Plan
    fits: bool
    devices: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """All settings with which a run takes no more than the plan says, whatever its machine has."""
        settings: dict[str, Any] = {
            "train.micro_batch_tokens": self.plan.resolved.budget,
            "train.recompute": self.plan.resolved.recompute,
        }
        for change in self.changes:
            settings |= change.settings
        return settings


def plan_inputs(config: RunConfig, screen: Screen | None = None) -> PlanInputs:
    """Read the model's config, its tokenizer and the data, where they are given."""
    shape = shape_of(config.model.name, config.model.revision)
    positions = getattr(shape, "max_position_embeddings", None)
    limit = length_limit(config.tokens.max_length, positions, config.adapter.before_text)
    nothing = Workload(None, None, limit, np.zeros(0, np.int64))
    if not config.data.train:
        rows = f"no data is given: rows of {limit:,} tokens (tokens.max_length), all of them learnt"
        return PlanInputs(shape, (), nothing, (rows,))
    loaded = load_tokenizer(config.model.name, revision=config.model.revision)
    template, new = build_template(loaded.tokenizer, config.template, loaded.stop_ids)
    data = prepare(config, template, positions, screen)
    vocabulary = template.tokenizer.get_vocab()
    given = config.adapter.trainable_tokens
    named = template.markers if given == "auto" else given
    tokens = sorted({vocabulary[token] for token in (*new, *named) if token in vocabulary})
    assumed: tuple[str, ...] = ()
    if tokens and config.adapter.kind != "none" and given == "auto":
        assumed = ("the base never learned its template's tokens, so that their embeddings are trained too",)
    text = shape.get_text_config()
    text.vocab_size = max(text.vocab_size, len(template.tokenizer))
    return PlanInputs(shape, tuple(tokens), workload_of(config, data.train, data.held_out, limit), assumed)


def plan(
    config: RunConfig,
    inputs: PlanInputs,
    *,
    device: str = "",
    devices: int = 1,
    available: int | None = None,
    probe: bool = False,
) -> Plan:
    """What the run takes on each of so many devices with ``available`` bytes; ``probe``: measure the time."""
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = DTYPES[config.model.dtype]
    model = blank_model(inputs.shape, dtype, config.model.quantize)
    if config.adapter.kind == "none":
        model.requires_grad_(True)
    else:
        # No start that is computed from the base's weights: there are none.
        adapter = config.adapter.model_copy(update={"init": "default"})
        model = add_adapter(model, adapter, inputs.tokens).model
    if available is None:
        here = kind == "cpu" or torch.cuda.is_available()
        available = memory_of(torch.device(kind)) if here else 0
    settings = config.train
    budget = budget_of(settings, model, available, inputs.workload.longest, devices, kind)
    eight_bit = uses_eight_bits(settings, kind, config.model.quantize != "none")
    resolved = ResolvedSettings(budget.tokens, budget.recompute, eight_bit, kind, devices)
    memory = footprint(config, model, inputs.workload, resolved)
    kept = settings.keep_checkpoints + (bool(settings.early_stopping) or settings.final == "best")
    state = memory.count.trainable * (4 + (2 if eight_bit else 8))
    whole = config.adapter.kind == "none"
    final = sum(p.nbytes for p in model.parameters() if whole or p.requires_grad)
    if config.adapter.init in STARTS_IN_WEIGHT:
        final *= 2  # of twice the rank
    # While the newest is written, the oldest is still there.
    disk = {"checkpoints": float((kept + 1) * state), "final/": float(final)}
    speed = measure_speed(config, inputs.shape, dtype, kind) if probe else None
    return Plan(config, resolved, memory, inputs.workload, disk, speed, inputs.assumed, available)


def fit_into(config: RunConfig, inputs: PlanInputs, memory: int, **given: Any) -> FittedPlan:
    """Change what harms the result least, one setting after the other, until the run fits into so many bytes
    of ``memory`` a device."""

    def of(config: RunConfig, inputs: PlanInputs) -> Plan:
        return plan(config, inputs, available=memory, **given)

    now = of(config, inputs)
    changes: list[Change] = []
    for propose in LADDER:
        for settings, harm in propose(now):
            if now.memory.peak <= memory:
                break
            rows = shortened(inputs, settings)
            try:
                then = of(changed(now.config, settings), rows)
            except ModelError:  # the model cannot be had so, such as one of which nothing can be packed
                continue
            saves = now.memory.peak - then.memory.peak
            if saves > NOTICED * now.memory.peak:
                changes.append(Change(settings, harm, saves))
                now, inputs = then, rows
    fits = now.memory.peak <= memory
    enough = 0
    if not fits:
        tried = (d for d in DEVICES if d > now.resolved.ranks)
        enough = next(
            (d for d in tried if _peak(now.config, inputs, memory, given | {"devices": d}) <= memory), 0
        )
    return FittedPlan(tuple(changes), now, fits, enough)


def _peak(config: RunConfig, inputs: PlanInputs, memory: int, given: dict[str, Any]) -> float:
    return plan(config, inputs, available=memory, **given).memory.peak


def changed(config: RunConfig, settings: dict[str, Any]) -> RunConfig:
    tree = config.model_dump(exclude_unset=True)
    for key, value in settings.items():
        section, _, name = key.partition(".")
        tree.setdefault(section, {})[name] = value
    return validated(RunConfig, tree, "the plan")


def shortened(inputs: PlanInputs, settings: dict[str, Any]) -> PlanInputs:
    """The inputs with rows cut as ``tokens.max_length`` says: prepared anew they may be split or dropped
    instead."""
    limit = settings.get("tokens.max_length")
    if limit is None or inputs.workload.table is None:
        return inputs
    table = inputs.workload.table
    rows = [table.document(row) for row in range(len(table))]
    cut = TokenTable.from_documents((ids[-limit:], weights[-limit:]) for ids, weights in rows)
    workload = replace(inputs.workload, table=cut, lengths=np.diff(cut.offsets), max_length=limit)
    return replace(inputs, workload=workload)


Proposals = Iterator[tuple[dict[str, Any], str]]


def _smaller_batches(now: Plan) -> Proposals:
    tokens = now.resolved.budget // 2
    least = max(512, now.workload.longest)
    while tokens >= least:
        yield {"train.micro_batch_tokens": tokens}, "none to the result"
        tokens //= 2


def _recompute(now: Plan) -> Proposals:
    if not now.resolved.recompute:
        yield {"train.recompute": True}, "none to the result; a third more arithmetic"


def _eight_bit(now: Plan) -> Proposals:
    if now.resolved.device == "cuda" and not now.resolved.eight_bit:
        yield {"train.optimizer": "adamw-8bit"}, "little: moments of eight bits"


def _quantized(now: Plan) -> Proposals:
    if now.config.adapter.kind != "none" and now.config.model.quantize == "none":
        yield {"model.quantize": "nf4"}, "little: the frozen base in four bits"


def _shorter(now: Plan) -> Proposals:
    lengths = now.workload.lengths
    if len(lengths):
        limit = int(np.percentile(lengths, 99, method="higher"))
        cut = int((lengths > limit).sum())
        if cut:
            yield {"tokens.max_length": limit}, f"{cut:,} of {len(lengths):,} rows are cut"


def _lower_rank(now: Plan) -> Proposals:
    if now.config.adapter.kind in ("lora", "dora"):
        for rank in RANKS:
            if rank < now.config.adapter.rank:
                yield {"adapter.rank": rank}, "some: a smaller adapter"


def _adapter(now: Plan) -> Proposals:
    if now.config.adapter.kind == "none":
        yield {"adapter.kind": "lora"}, "another method: LoRA instead of all weights"


LADDER: tuple[Callable[[Plan], Proposals], ...] = (
    _smaller_batches,
    _recompute,
    _eight_bit,
    _quantized,
    _shorter,
    _lower_rank,
    _adapter,
    _quantized,
)
"""From what changes nothing of the result to what is another method."""


def as_bytes(text: str) -> int:
    """``24GB`` -> 24,000,000,000; GiB are of 1,024. Raises ``ConfigError``."""
    given = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if not given or not float(given[1]) or (given[3] and not given[2]):
        raise ConfigError(f"--memory {text}: no size", fix="Write it as 24GB, 80GiB or 512MB.")
    unit = UNITS[given[2]] if not given[3] else 1024 ** list(UNITS).index(given[2])
    return int(float(given[1]) * unit)
