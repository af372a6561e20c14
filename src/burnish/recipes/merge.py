"""An adapter merged into its base: one plain model folder, proven against the adapter that was trained."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from burnish.adapters.folder import (
    METADATA,
    BaseIdentity,
    base_of,
    is_adapter,
    kind_of,
    metadata_of,
    weights_sha256,
)
from burnish.adapters.load import load_model, locate, locate_base
from burnish.adapters.merge import divergence, merge_adapter, require_mergeable
from burnish.config import RunConfig, load_config
from burnish.data.read import BadRow, each_row
from burnish.errors import ConfigError, DataError, ModelError, RunError
from burnish.files import STAGED, read_json, write_json, writing
from burnish.model.forward import Forward, choose_forward
from burnish.model.head import Features
from burnish.model.load import DTYPES, Dtype, read_config
from burnish.prepare.rows import RowEncoder, fitted_rows
from burnish.run.artifact import save_final
from burnish.run.folder import RunFolder
from burnish.run.screen import Screen, SilentScreen
from burnish.template import ChatTemplate
from burnish.tokens import Batch, flatten

LIMIT, LIMIT_IN_FP32 = 1e-3, 1e-7
"""Mean KL in nats a token beyond which a merge has failed; the second, where both models are in fp32.
docs/adapters.md says how they were chosen."""
CONVERSATIONS = 64
"""Rows that both models are compared on."""
TOGETHER = 64
"""Positions compared at once: their logits are held in fp64."""


NAMES: dict[torch.dtype, Dtype] = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


@dataclass(frozen=True)
class MergeProof:
    """How close the merged model, read back from disk, is to the adapter as it was trained.

    Over all ``positions`` at which an answer's token is predicted: the share where both think the same token
    likeliest, and the mean and the largest KL(live || merged) in nats.
    """

    rows: tuple[str, ...]
    conversations: int
    positions: int
    agreement: float
    mean_kl: float
    largest_kl: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.mean_kl <= self.limit  # a nan is not


@dataclass(frozen=True)
class MergeJob:
    """What is to be merged: an adapter's folder with its base and what is known of its training. ``dtype``:
    the type that it was trained in; ``rows``: the files to prove it on."""

    folder: Path
    base: BaseIdentity
    config: RunConfig
    dtype: Dtype
    rows: tuple[str, ...]


def merge(
    name: str,
    out: Path,
    *,
    dtype: Dtype = "auto",
    base_model: str | None = None,
    data: Path | None = None,
    limit: float | None = None,
    force: bool = False,
    screen: Screen | None = None,
) -> MergeProof:
    """Add the adapter ``name`` (a run or an adapter's folder) into its base and write the sum to ``out``.

    ``dtype`` auto: the base's own type. ``base_model``: where the base is now, if it has moved. ``limit``: of
    the proof; unset: what rounding explains. ``out`` appears whole or not at all, and only where the proof
    holds or ``force`` is given; ``burnish.json`` in it has the proof. Raises ``ModelError`` for what cannot
    be merged and for a merge that is not what was trained.
    """
    screen = screen or SilentScreen()
    if out.exists() or out.is_symlink():
        raise RunError(
            f"{out} exists already",
            why="A merge never overwrites what is there.",
            fix="Choose another --out, or remove it.",
        )
    job = _merge_job(name, base_model, data)
    staged = out.with_name(f"{STAGED}{out.name}")
    try:
        with _writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            written = _write(job, staged, dtype, screen)
        proof = _prove(job, staged, written, limit, screen)
        if not proof.passed and not force:
            raise ModelError(
                f"the merged model is not what was trained: mean KL {proof.mean_kl:.2g} nats a token, "
                f"{proof.agreement:.1%} of the likeliest tokens the same",
                why=f"More than {proof.limit:g} nats cannot be rounding. Nothing is left in {out}.",
                fix="Keep the adapter on its base, try --dtype float32, or take it as it is with --force.",
            )
        with _writing(out):
            shown = asdict(proof) | {"passed": proof.passed, "forced": not proof.passed}
            write_json(staged / METADATA, read_json(staged / METADATA) | {"proof": shown})
            staged.rename(out)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return proof


def _merge_job(name: str, base_model: str | None, data: Path | None) -> MergeJob:
    """What is to be merged; refuses what cannot be, before anything is loaded."""
    location = locate(name)
    if not is_adapter(location):
        raise ModelError(
            f"{name} has no adapter: it is whole weights already",
            why="There is nothing to merge.",
            fix="Use it as it is.",
        )
    folder = Path(location)
    require_mergeable(folder)
    base, found = base_of(folder), _config(Path(name), folder)
    base = replace(base, name=base_model or base.name)
    locate_base(folder, base.name)
    config = found or RunConfig()
    rows = (str(data),) if data else (config.data.held_out or config.data.train)
    if not rows:
        raise ConfigError(
            f"{name} is no run folder, so there are no rows to prove the merge on",
            why="What was merged is compared with the adapter on conversations.",
            fix="Give some with --data rows.jsonl.",
        )
    if missing := [path for path in rows if not Path(path).is_file()]:
        raise DataError(
            f"{missing[0]}: no such file",
            why="What was merged is compared with the adapter on conversations, best those of its run.",
            fix="Give some with --data rows.jsonl.",
        )
    return MergeJob(folder, base, config, _trained_in(folder, base, found), rows)


def _trained_in(folder: Path, base: BaseIdentity, config: RunConfig | None) -> Dtype:
    """The type that an adapter was trained in: what its folder says, or its run; where neither does, as in a
    folder of another tool, it is taken to be the base's own."""
    said: Dtype | None = metadata_of(folder).get("dtype")
    return said or (NAMES[_own_type(base)] if config is None else config.model.dtype)


def _config(*places: Path) -> RunConfig | None:
    """The config of the run that one of the places is, or is the result of."""
    for place in places:
        for run in (RunFolder(place), RunFolder(place.parent)):
            if run.config.is_file():
                return load_config(run.config)
    return None


def _write(job: MergeJob, staged: Path, dtype: Dtype, screen: Screen) -> torch.dtype:
    """Merge, and write a model folder. Returns the type of its weights."""
    screen.say(f"Loading the base of {job.folder}.")
    loaded = load_model(
        str(job.folder),
        dtype=job.dtype,
        base_model=job.base.name,
        dequantized=job.base.quantize != "none",
        device="cpu",  # where there is memory: what was packed is held in fp32
    )
    written = DTYPES[dtype] if dtype != "auto" else _own_type(job.base)
    model = loaded.model
    merge_adapter(model, written, lambda done, total: screen.progress("Merging", done, total))
    template = loaded.chat_template()
    size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    screen.say(f"Writing {size / 2**20:,.0f} MiB.")
    save_final(staged, model, model.save_pretrained, template, _metadata(job, written))
    return written


def _own_type(base: BaseIdentity) -> torch.dtype:
    """The type that a base is stored in. For float16 it is bfloat16, in which adapters on it are trained."""
    own = read_config(locate(base.name), base.revision).dtype
    return torch.float32 if own in (None, torch.float32) else torch.bfloat16


def _metadata(job: MergeJob, written: torch.dtype) -> dict[str, Any]:
    adapter = {
        "name": str(job.folder),
        "kind": kind_of(job.folder),
        "sha256": weights_sha256(str(job.folder)),
    }
    metadata = metadata_of(job.folder) or {
        "base": asdict(job.base) | {"sha256": weights_sha256(locate(job.base.name))}
    }
    return {**metadata, "merged": adapter, "dtype": NAMES[written]}


def _writing(out: Path) -> AbstractContextManager[None]:
    return writing(
        str(out), why="Nothing is left of it.", fix="Free some disk space, or choose another --out."
    )


@dataclass(frozen=True)
class States:
    """What a model's head reads at the positions of each batch's answers, and the head."""

    head: Features
    hidden: tuple[Tensor, ...]

    def logits(self, number: int, part: Tensor) -> Tensor:
        """Of a batch, at some of its positions."""
        return self.head.with_hidden(self.hidden[number][part]).logits()


def _prove(
    job: MergeJob, staged: Path, written: torch.dtype, limit: float | None, screen: Screen
) -> MergeProof:
    """Compare the adapter as it was trained with the folder as it is read back. One is held after the other:
    of the first only the states before its head are kept."""
    live = load_model(str(job.folder), dtype=job.dtype, base_model=job.base.name)
    template = live.chat_template()
    positions = getattr(live.model.config, "max_position_embeddings", None)
    batches, conversations = _batches(job, template, positions)
    forward, _ = choose_forward(live.model, batches[0].to(live.model.device))
    before = _states(live.model, forward, batches, "Running the adapter", screen)
    del live
    merged = load_model(str(staged), dtype=NAMES[written]).model
    after = _states(merged, forward, batches, "Running the merged", screen)
    same, nats = [], []
    for number, hidden in enumerate(before.hidden):
        for part in torch.arange(len(hidden)).split(TOGETHER):
            one, other = before.logits(number, part), after.logits(number, part)
            same.append(one.argmax(-1) == other.argmax(-1))
            nats.append(divergence(one, other))
    agreement, kl = torch.cat(same).double().mean().item(), torch.cat(nats)
    if limit is None:
        exact = written == DTYPES[job.dtype] == torch.float32
        limit = LIMIT_IN_FP32 if exact else LIMIT
    return MergeProof(job.rows, conversations, len(kl), agreement, kl.mean().item(), kl.max().item(), limit)


@torch.inference_mode()
def _states(
    model: PreTrainedModel, forward: Forward, batches: Sequence[Batch], task: str, screen: Screen
) -> States:
    model.eval()
    hidden: list[Tensor] = []
    for batch in batches:
        features = forward(model, batch.to(model.device))
        hidden.append(features.hidden)
        screen.progress(task, len(hidden), len(batches))
    return States(features.with_hidden(torch.empty(0)), tuple(hidden))


def _batches(job: MergeJob, template: ChatTemplate, positions: int | None) -> tuple[list[Batch], int]:
    """The first conversations that can be used, each example of them a batch; and how many they are."""
    rows = (row for row in each_row(job.rows) if not isinstance(row, BadRow))
    encoder = RowEncoder.of(template, job.config.tokens, positions)
    violations = encoder.violations()
    examples = [
        example
        for _, _, fitted in fitted_rows(islice(rows, CONVERSATIONS), encoder, violations)
        for example in fitted.examples
        if example.trained_tokens
    ]
    if not examples:
        if violations.groups:
            raise violations.as_error(CONVERSATIONS)
        raise DataError(
            f"{', '.join(job.rows)}: no row has an answer to compare the models on",
            fix="Give conversations with --data rows.jsonl.",
        )
    batches = [flatten([(np.array(e.input_ids), np.array(e.weights, np.float32))]) for e in examples]
    return batches, len({example.source for example in examples})
