"""Supervised fine-tuning: conversations and a base model in, an assistant and the evidence out."""

from __future__ import annotations

import math
import shlex
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from transformers import PreTrainedModel

from burnish.adapters.load import load_model
from burnish.adapters.lora import DORA, fused, fused_lora
from burnish.adapters.virtual import without_virtual
from burnish.config import RunConfig
from burnish.errors import ConfigError, RunError
from burnish.evaluate.evaluation import Evaluation, Judge, Measure, Subject
from burnish.files import read_json, write_json, write_lines, write_whole, writing
from burnish.model.budget import FAST, Budget, fitting_budget, memory_of, peak_bytes
from burnish.model.compiled import compiled, pays
from burnish.model.forward import Forward, choose_forward, shares_prefixes
from burnish.model.memory import keep_memory
from burnish.model.recompute import recomputed
from burnish.model.shard import shard
from burnish.prepare.model import prepare_model, set_weights
from burnish.prepare.prepare import prepare
from burnish.prepare.prepared import Prepared
from burnish.prepare.show import ShownExample
from burnish.report import write_report
from burnish.run.artifact import save_final
from burnish.run.folder import RunFolder
from burnish.run.interrupt import Stopped, interruptible, resumable
from burnish.run.journal import Journal
from burnish.run.provenance import finished, provenance_of
from burnish.run.screen import Screen, Silence
from burnish.run.state import RunState
from burnish.run.track import trackers
from burnish.template import ChatTemplate
from burnish.tokens import Batch, Order, flatten
from burnish.train import checkpoint
from burnish.train.checkpoint import Checkpoint
from burnish.train.fit import Step, fit, total_steps
from burnish.train.optimizer import MasterAdamW
from burnish.train.ranks import Ranks, joined

NAMED = 8
"""Rows of a step that is not taken that are named on the screen."""


def sft(
    config: RunConfig,
    *,
    measure: Measure = lambda subject: {},
    judge: Judge = lambda conversation, answer: None,
    screen: Screen | None = None,
    resume: bool = False,
    command: str = "",
    verb: str = "train",
) -> RunFolder:
    """Fine-tune as ``config`` says, into the run folder ``config.out``; gives that folder.

    ``resume`` goes on with the run that stands there; ``verb``: of the command that does. Started by
    torchrun, the ranks split the model and the work between them, and the first one writes and speaks. Raises
    a ``BurnishError`` for what a user can mend, and ``Interrupted``, with everything saved, when the person
    stops it.
    """
    if config.out is None:
        raise ConfigError("out is not set", why="A run needs a folder to write to.", fix="Give --out.")
    ranks, run = Ranks.started(), RunFolder(Path(config.out))
    told = screen if screen and ranks.first else Silence()
    go_on = f"burnish {verb} --resume {shlex.quote(str(run.path))}"
    with ExitStack() as stack:
        if ranks.first:
            stack.enter_context(run.held())
        stack.enter_context(resumable(run.config, run.checkpoints, go_on))
        journal = Journal(run, trackers(config, run, told)) if ranks.first else Journal(None)
        stack.callback(journal.close)
        job = Job(config, run, journal, told, measure, judge, command, time.time(), ranks)
        if resume:
            _require_unfinished(run)
        elif ranks.first:
            run.require_free()
        with joined(ranks):
            trained = _train(job, resume)
        if ranks.first:
            _conclude(job, trained)
    return run


@dataclass(frozen=True)
class Job:
    """What was asked for, since when, and who works on it."""

    config: RunConfig
    run: RunFolder
    journal: Journal
    screen: Screen
    measure: Measure
    judge: Judge
    command: str
    started: float
    ranks: Ranks


@dataclass(frozen=True)
class Trained:
    """What training leaves: the checkpoint whose weights are taken, the figures of the base, and what the
    measurements afterwards need."""

    saved: Checkpoint
    base: dict[str, Any]
    data: Prepared
    forward: Forward
    origin: dict[str, Any]
    peak_bytes: int


def _train(job: Job, resume: bool) -> Trained:
    config, run, screen, ranks = job.config, job.run, job.screen, job.ranks
    settings = config.train

    # The base with what of it is trained, its template and the data.
    prepared = prepare_model(config, screen, device="cpu" if ranks.count > 1 else None)
    model = prepared.model
    with ranks.first_alone():  # the others then find the prepared rows in the cache
        positions = getattr(model.config, "max_position_embeddings", None)
        data = prepare(config, prepared.template, positions, screen)
    screen.say(data.ledger.in_words(data.train))
    keeps_best = settings.final == "best" or (settings.final == "auto" and bool(settings.early_stopping))
    if (keeps_best or settings.early_stopping) and not len(data.held_out):
        raise ConfigError(
            "train.early_stopping or train.final=best is set, but no rows are held out to judge by",
            fix="Raise data.held_out_share, or name a file in data.held_out.",
        )
    if ranks.count > 1:
        _require_splitting(config)
        shard(model, ranks.count)
        screen.say(f"{ranks.count} ranks, each with its part of every weight.")
    few_bits = settings.optimizer == "adamw-8bit" or (
        settings.optimizer == "auto" and config.model.quantize != "none" and model.device.type == "cuda"
    )
    optimizer = MasterAdamW(
        model, weight_decay=settings.weight_decay, betas=settings.betas, few_bits=few_bits, ranks=ranks
    )
    order = Order(len(data.train), settings.batch_size, settings.seed)
    trial = _trial_batch(data, order).to(model.device)
    forward, why_padded = choose_forward(model, trial)
    if why_padded:
        screen.warn(f"Training with padded batches, which is slower: {why_padded}.")
    if model.device.type == "cpu":
        keep_memory()
    # Tried on the untrained weights in a run that goes on too, so that it comes to the same choice.
    budget = _budget(model, data, job)
    trains = _training_forward(forward, model, trial, data, job, budget.recompute)
    subject = Subject(model, prepared.template, forward)
    evaluation = _evaluation(job, data)
    origin = provenance_of(config, prepared.base, prepared.template, prepared.count, job.command, job.started)

    # Before: what the base answers. From here on there is a run folder; mistakes until now left none.
    search = checkpoint.find(run.checkpoints) if resume else checkpoint.Found(None)
    found = search.checkpoint
    if found is None:
        if ranks.first:
            _open_run(job, data, prepared.template, origin)
        # With virtual tokens a model is its base behind some noise, and not the base.
        base = evaluation.whole(replace(subject, model=without_virtual(model)), 0)
        if ranks.first:
            write_json(run.evaluation, {"base": base})
        memory = RunState(budget.tokens)
    else:
        _require_same(run, origin)
        optimizer.load(checkpoint.tensors_of(found))
        base, memory = read_json(run.evaluation)["base"], RunState(**found.memory)
        ranks.wait()  # for all to have read what now is put in order
        if ranks.first:
            for path in search.damaged:
                screen.warn(f"{path} is damaged: it does not hold what was written. It is removed.")
                checkpoint.remove(path)  # or it would count among those to keep
            spare = memory.best_step if keeps_best else None
            checkpoint.prune(run.checkpoints, settings.keep_checkpoints, spare)
        job.journal.forget_after(found.step)
        screen.say(f"Going on after step {found.step}.")

    # The loop.
    steps, done = total_steps(data.train, settings), found.step if found else 0
    start = steps if memory.enough(settings.early_stopping) else done  # stopped early, and then killed
    evaluate_every = config.evaluate.every or order.steps_per_epoch
    save_every = settings.checkpoint_every or order.steps_per_epoch
    training = fit(
        model,
        data.train,
        settings,
        optimizer=optimizer,
        forward=trains,
        share=shares_prefixes(model, forward),
        start=start,
        budget=memory.micro_batch_tokens,
        skipped=memory.skipped,
        ranks=ranks,
    )
    with interruptible() as stop_asked:
        for step in training:
            done = step.step
            memory = _record(step, memory, data, job.journal, screen)
            screen.progress("Training", done, steps, _in_words(step, memory))
            best = False
            if keeps_best if done == steps else done % evaluate_every == 0:
                memory, best = memory.evaluated(evaluation.brief(subject, done), done)
            enough, stopping = memory.enough(settings.early_stopping), int(ranks.most(stop_asked()))
            saving = done % save_every == 0 or done == steps or enough or stopping
            if saving or (best and keeps_best):
                spare = memory.best_step if keeps_best else None
                _save(job, optimizer, done, memory, spare)
            if stopping:
                raise Stopped(stopping)
            if enough:
                screen.progress("Training", steps, steps, "stopped early")
                screen.say(f"Held-out loss was no better {memory.waited} times: stopped at step {done}.")
                break
    ranks.wait()  # for the first one to have saved
    saved = _chosen(run, memory if keeps_best else None, done, screen)
    return Trained(saved, base, data, forward, origin, peak_bytes(model.device))


def _conclude(job: Job, trained: Trained) -> None:
    """Write ``final/`` from the checkpoint, load it as a user would, and measure that."""
    config, run = job.config, job.run
    prepared = prepare_model(config, Silence(), device="cpu")
    set_weights(prepared, checkpoint.weights_of(trained.saved))
    done = trained.saved.step
    with writing(str(run.final)):
        card = trained.origin | {"step": done}
        save_final(run.final, prepared.model, prepared.save, prepared.template, card)
    job.screen.say(f"{run.final} holds the weights of step {done}.")
    del prepared
    loaded = load_model(str(run.path), dtype=config.model.dtype)
    template = ChatTemplate(
        loaded.tokenizer, typed_tokens=config.template.typed_tokens, base_stop_ids=loaded.stop_ids
    )
    evaluation = _evaluation(replace(job, ranks=Ranks()), trained.data)
    tuned = evaluation.whole(Subject(loaded.model, template, trained.forward), done)
    write_json(run.evaluation, {"base": trained.base, "tuned": tuned})
    run.report.unlink(missing_ok=True)  # one of the unfinished run
    write_json(run.provenance, read_json(run.provenance) | finished(run, job.started, trained.peak_bytes))
    write_report(run)


def _evaluation(job: Job, data: Prepared) -> Evaluation:
    return Evaluation(job.config, data, job.journal, job.screen, job.measure, job.judge, job.ranks)


def _save(job: Job, optimizer: MasterAdamW, step: int, memory: RunState, spare: int | None) -> None:
    tensors = optimizer.state(keep=job.ranks.first)
    if job.ranks.first:
        job.journal.flush()
        keep = job.config.train.keep_checkpoints
        checkpoint.save(job.run.checkpoints, tensors, step, asdict(memory), keep, spare=spare)


def _require_splitting(config: RunConfig) -> None:
    """What cannot be split over ranks yet is said before the first step."""
    for key, value, fine in (
        ("model.quantize", config.model.quantize, ("none",)),
        ("train.optimizer", config.train.optimizer, ("auto", "adamw")),
        ("adapter.kind", config.adapter.kind, ("lora", "bottleneck", "none")),
    ):
        if value not in fine:
            raise ConfigError(
                f"{key} {value} trains on one device only",
                why="Its tensors cannot be split over several.",
                fix="Start it without torchrun, or choose another.",
            )


def _require_unfinished(run: RunFolder) -> None:
    run.require()
    if run.ended:
        raise RunError(f"{run.path} has finished; there is nothing to go on with", fix="Start a new run.")


def _trial_batch(data: Prepared, order: Order) -> Batch:
    """Some short documents of the first step and its longest: enough for a leak between them to show."""
    rows = sorted(order.step(0), key=data.train.length)
    return flatten([data.train.document(row) for row in dict.fromkeys((*rows[:3], rows[-1]))])


def _open_run(job: Job, data: Prepared, template: ChatTemplate, origin: dict[str, Any]) -> None:
    run = job.run
    run.path.mkdir(parents=True, exist_ok=True)
    job.journal.clear()
    settings = job.config.model_dump(mode="json")
    write_whole(run.config, yaml.safe_dump(settings, sort_keys=False).encode())
    write_lines(run.ledger, data.ledger.as_rows(data.train))
    write_lines(run.examples, [ShownExample.of(e, template).as_row() for e in data.examples])
    write_json(run.provenance, origin)


def _require_same(run: RunFolder, origin: dict[str, Any]) -> None:
    """A run goes on only with the data, base and config that it began with."""
    began = read_json(run.provenance)
    changed = [key for key in ("data", "base", "config_sha256") if began[key] != origin[key]]
    if changed:
        raise RunError(
            f"{run.path} cannot go on: changed since it began: {', '.join(changed)}",
            why="The result would be that of no single config and data set.",
            fix="Put back what was changed, or start a new run.",
        )


def _record(step: Step, memory: RunState, data: Prepared, journal: Journal, screen: Screen) -> RunState:
    """Write down a step, and say what was unusual in it."""
    row = {"kind": "train", **asdict(step)}
    del row["rows"]
    if not step.skipped:
        del row["skipped"]
    row |= {key: None for key in ("loss", "grad_norm") if not math.isfinite(row[key])}  # JSON has no nan
    if step.skipped:
        sources = [data.source(number) for number in step.rows]
        row["rows"] = [asdict(source) for source in sources]
        named = " ".join(map(str, sources[:NAMED])) + (" ..." if len(sources) > NAMED else "")
        screen.warn(
            f"Step {step.step} was not taken: {step.skipped}. Its {len(sources)} rows: {named}"
            f" (all of them in metrics.jsonl)."
        )
    journal.metric(row)
    if step.micro_batch_tokens < memory.micro_batch_tokens:
        screen.warn(f"Memory ran out: micro-batches have {step.micro_batch_tokens:,} tokens from here on.")
    return memory.after(step)


def _in_words(step: Step, memory: RunState) -> str:
    if step.skipped:
        return f"not taken: {step.skipped}"
    held_out = "" if memory.best is None else f"  held out {memory.best:.3f}"
    speeds = f"{step.tokens / step.seconds:,.0f} tokens/s, {step.trained_tokens / step.seconds:,.0f} trained"
    return f"loss {step.loss:.3f}{held_out}  {speeds}"


def _chosen(run: RunFolder, memory: RunState | None, done: int, screen: Screen) -> Checkpoint:
    """The checkpoint whose weights are taken: the last one, or with ``memory`` the one with the best held-out
    loss."""
    last = checkpoint.whole(run.checkpoints / checkpoint.name(done))
    if last is None:
        raise RunError(
            f"the checkpoint of step {done} is damaged: its contents are not those that were just written",
            fix="Check the disk, then go on with --resume.",
        )
    if memory is None:
        return last
    if memory.best is None:
        screen.warn("No evaluation gave a finite held-out loss: the last weights are taken.")
        return last
    best = checkpoint.whole(run.checkpoints / checkpoint.name(memory.best_step))
    if best is None:
        screen.warn(
            f"The best held-out loss, {memory.best:.3f}, was that of step {memory.best_step}, but its "
            "checkpoint is damaged: the last weights are taken."
        )
        return last
    screen.say(f"The best held-out loss, {memory.best:.3f}, was that of step {best.step}.")
    return best


def _budget(model: PreTrainedModel, data: Prepared, job: Job) -> Budget:
    """What the config says, and where it leaves that open, what fits into memory."""
    settings, ranks = job.config.train, job.ranks
    memory = memory_of(model.device)
    if model.device.type == "cpu":
        memory //= ranks.count  # as if all of them were on this machine
    fitting = fitting_budget(model, memory, data.train.longest, ranks.count)
    recompute = fitting.recompute if settings.recompute == "auto" else settings.recompute
    if recompute:
        job.screen.say("Activations are computed again in the backward pass, to save memory.")
    if not settings.micro_batch_tokens and fitting.tokens < FAST[model.device.type]:
        job.screen.say(f"Micro-batches of {fitting.tokens:,} tokens: memory has no room for larger ones.")
    return Budget(settings.micro_batch_tokens or fitting.tokens, recompute)


def _training_forward(
    forward: Forward, model: PreTrainedModel, trial: Batch, data: Prepared, job: Job, recompute: bool
) -> Forward:
    """The way to run the model in training: compiled, where that is wanted and works."""
    if recompute:
        return recomputed(forward, fused_lora)
    settings = job.config.train
    tokens = math.ceil(data.train.tokens * settings.epochs)
    wanted = pays(model, tokens) if settings.compile == "auto" else settings.compile
    if not wanted or job.ranks.count > 1:  # untried with weights that come and go
        return fused(forward)
    job.screen.say("Compiling the layers, which takes up to a minute.")
    faster, why = compiled(fused(forward, DORA), model, trial)  # LoRA's sums the compiler knows as well
    if why:
        job.screen.warn(f"Training without compiled layers, which is slower: {why}.")
        return fused(forward)
    return faster
