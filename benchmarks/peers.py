"""One training run of one tool in a process of its own: the same weights, rows and steps for each of them.

TRL takes a step's rows in the order of a data set, so it gets one that is laid out in the order in which
burnish takes them; within a step TRL's best gets them by length, which is what it would group by. What learns
starts alike too: adapters are drawn here, the same for all.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from benchmarks.floor import RANK, measure, needed_products
from benchmarks.machine import device, now
from benchmarks.material import SHAPES, base_of, table_of
from burnish.adapters.adapter import add_adapter
from burnish.adapters.load import load_model
from burnish.adapters.lora import DORA, fused
from burnish.config import AdapterConfig, TrainConfig
from burnish.model.allocator import keep_freed_memory
from burnish.model.budget import FAST, peak_bytes
from burnish.model.compiled import compiled
from burnish.model.forward import choose_forward, shares_prefixes
from burnish.tokens import Order, TokenTable, flatten, micro_batches
from burnish.train.fit import fit
from burnish.train.optimizer import MasterAdamW

ROWS_A_STEP = 32
ALPHA = 2 * RANK
RATES = {"lora": 1e-3, "full": 1e-4}
"""High enough for the loss to move within a few steps, so that the last one tells something."""
MICRO_BATCH_TOKENS = FAST[device().type]


@dataclass(frozen=True)
class Job:
    """What to run. ``launched``: the time at which the process was started, seconds since 1970."""

    peer: str
    folder: str
    shape: str
    kind: str
    launched: float = 0.0

    @property
    def lora(self) -> bool:
        return self.kind == "lora"


@dataclass(frozen=True)
class Trained:
    """A run, step by step. ``tokens``: of the rows as they are, without padding, before anything is shared.
    ``started``: seconds from the start of the process to the end of the first step."""

    seconds: list[float]
    tokens: list[int]
    losses: list[float]
    norms: list[float]
    peak_bytes: int
    started: float


def run(**given: Any) -> dict[str, Any]:
    """The figures of a peer's run, or of the floor under it, for a job given by its keywords."""
    job = Job(**given)
    return asdict(PEERS[job.peer](job))


def order_of(table: TokenTable) -> list[list[int]]:
    """The rows of each step of one epoch."""
    order = Order(len(table), ROWS_A_STEP, seed=0)
    return [order.step(step) for step in range(order.steps_per_epoch)]


@torch.no_grad()
def same_start(model: nn.Module) -> None:
    """Draw the adapters' first weights as peft does, but the same for every peer, in what order it may wrap
    them; rounded to bf16, since some hold them so."""
    draw = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_A" in name:
            bound = 1 / math.sqrt(weight.shape[1])
            weight.copy_(torch.empty(weight.shape).uniform_(-bound, bound, generator=draw).bfloat16())


# burnish


def train_burnish(job: Job, *, share: bool = True, compile: bool = True) -> Trained:
    model = load_model(str(base_of(Path(job.folder)))).model
    if job.lora:
        add_adapter(model, AdapterConfig(rank=RANK, alpha=ALPHA, targets="all-linear"), [])
        same_start(model)
    else:
        model.requires_grad_(True)
    return train_model(model, Path(job.folder), RATES[job.kind], job.launched, share=share, compile=compile)


def train_model(
    model: PreTrainedModel,
    folder: Path,
    rate: float,
    launched: float,
    *,
    share: bool = True,
    compile: bool = True,
) -> Trained:
    """One epoch of the material's rows, by the parts that a run of burnish consists of."""
    table = table_of(folder)
    settings = TrainConfig(
        learning_rate=rate,
        batch_size=ROWS_A_STEP,
        epochs=1,
        decay="constant",
        warmup=0.0,
        compile=compile,
        micro_batch_tokens=MICRO_BATCH_TOKENS,
    )
    if device().type == "cpu":
        keep_freed_memory()
    first = sorted(order_of(table)[0], key=table.length)
    trial = flatten([table.document(row) for row in (*first[:3], first[-1])]).to(model.device)
    forward, why = choose_forward(model, trial)
    assert not why, why
    share = share and shares_prefixes(model, forward)
    if compile:
        forward, why = compiled(fused(forward, DORA), model, trial)
        assert not why, why
    else:
        forward = fused(forward)
    optimizer = MasterAdamW(model, weight_decay=0.0, betas=settings.betas)
    steps, started = [], 0.0
    for step in fit(model, table, settings, optimizer=optimizer, forward=forward, share=share):
        steps.append(step)
        started = started or time.time() - launched
    return Trained(
        seconds=[step.seconds for step in steps],
        tokens=[step.tokens for step in steps],
        losses=[step.loss for step in steps],
        norms=[step.grad_norm for step in steps],
        peak_bytes=peak_bytes(device()),
        started=started,
    )


# TRL


@dataclass(frozen=True)
class TrlWay:
    """How TRL is told to train: so many ``rows`` at a time, ``settings`` of its SFTConfig, ``loading`` of the
    model. ``by_length``: the rows of a step sorted, so that those of a micro-batch need little padding."""

    rows: int
    settings: dict[str, Any]
    loading: dict[str, Any]
    by_length: bool = False
    bf16_adapters: bool = False


TRL_DEFAULT = TrlWay(8, {}, {})
"""Its defaults: fp32 weights under bf16 autocast, activations recomputed, 8 rows at a time, padded."""

TRL_BEST = TrlWay(
    4 if device().type == "cpu" else ROWS_A_STEP,
    {"gradient_checkpointing": False, "bf16": False},
    {"dtype": "bfloat16"},
    by_length=True,
    bf16_adapters=True,
)


def train_trl(job: Job, way: TrlWay) -> Trained:
    from datasets import Dataset, disable_progress_bars
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    base, table = str(base_of(Path(job.folder))), table_of(Path(job.folder))
    steps = order_of(table)
    ordered = [sorted(rows, key=lambda row: -table.length(row)) if way.by_length else rows for rows in steps]
    ended, logged = [], []

    class Clock(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
        """Marks where a step ends, and where what is logged of it has been."""

        def on_step_end(self, *arguments: Any, **named: Any) -> None:
            ended.append((now(), time.time()))

        def on_log(self, *arguments: Any, **named: Any) -> None:
            logged.append(now())

    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    model: Any = base
    loading = dict(way.loading)
    if job.lora and way.bf16_adapters:
        model = AutoModelForCausalLM.from_pretrained(base, **loading).to(device())
        model, loading, lora = get_peft_model(model, lora, autocast_adapter_dtype=False), {}, None
    with tempfile.TemporaryDirectory() as out:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=out,
                max_steps=len(steps),
                per_device_train_batch_size=way.rows,
                gradient_accumulation_steps=ROWS_A_STEP // way.rows,
                max_length=None,  # no row is too long
                learning_rate=RATES[job.kind],
                lr_scheduler_type="constant",
                train_sampling_strategy="sequential",
                model_init_kwargs=loading or None,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=device().type == "cpu",
                dataloader_pin_memory=device().type != "cpu",
                **way.settings,
            ),
            train_dataset=Dataset.from_list([_row(table, row) for rows in ordered for row in rows]),
            processing_class=AutoTokenizer.from_pretrained(base),
            peft_config=lora if job.lora else None,
            callbacks=[Clock()],
        )
        trainer.remove_callback(PrinterCallback)
        same_start(trainer.model)
        began = now()
        trainer.train()
    history = [row for row in trainer.state.log_history if "grad_norm" in row]
    # A step lasts from the end of the last one's log to its own end; the logging itself is not charged.
    begins = [began, *logged[: len(steps) - 1]]
    return Trained(
        seconds=[end - begin for (end, _), begin in zip(ended, begins, strict=True)],
        tokens=[sum(table.length(row) for row in rows) for rows in steps],
        losses=[float(row["loss"]) for row in history],
        norms=[float(row["grad_norm"]) for row in history],
        peak_bytes=peak_bytes(device()),
        started=ended[0][1] - job.launched,
    )


def _row(table: TokenTable, number: int) -> dict[str, list[int]]:
    ids, weights = table.document(number)
    labels = [token if weight else -100 for token, weight in zip(ids.tolist(), weights, strict=True)]
    return {"input_ids": ids.tolist(), "labels": labels}


# The floor


@dataclass(frozen=True)
class StepsFloor:
    """The floor under the steps that are timed, all but the first."""

    seconds: float
    flops: float
    peak: float


def floor(job: Job, *, share: bool = False) -> StepsFloor:
    table = table_of(Path(job.folder))
    batches = [
        batch
        for rows in order_of(table)[1:]
        for batch in micro_batches(table, rows, MICRO_BATCH_TOKENS, share=share)
    ]
    found = measure(needed_products(SHAPES[job.shape], batches, job.lora))
    return StepsFloor(found.seconds, found.flops, found.peak)


PEERS: dict[str, Callable[[Job], Any]] = {
    "burnish": train_burnish,
    "burnish-eager": lambda job: train_burnish(job, compile=False),
    "burnish-unshared": lambda job: train_burnish(job, share=False),
    "trl": lambda job: train_trl(job, TRL_DEFAULT),
    "trl-best": lambda job: train_trl(job, TRL_BEST),
    "floor": floor,
    "floor-shared": lambda job: floor(job, share=True),
}
