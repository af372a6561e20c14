"""Supervised fine-tuning: conversations and a base model in, an assistant and the evidence out."""

from __future__ import annotations

import gc
import math
import shlex
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from peft import PeftModel
from transformers import PreTrainedModel

from burnish.config import RunConfig
from burnish.errors import ConfigError, ModelError, RunError
from burnish.model.adapter import add_lora, count_parameters, untrained_tokens
from burnish.model.compiled import compiled, pays
from burnish.model.forward import Forward, choose_forward, shares_prefixes
from burnish.model.load import LoadedModel, is_adapter, load_model, locate
from burnish.model.lora import fused
from burnish.model.memory import keep_memory
from burnish.recipes.artifact import save_final
from burnish.recipes.evaluation import Evaluation, Judge, Measure, Subject
from burnish.recipes.interrupt import Stopped, interruptible, resumable
from burnish.recipes.prepare import Prepared, prepare
from burnish.recipes.provenance import finished, provenance_of
from burnish.recipes.screen import Screen, Silence
from burnish.recipes.show import ShownExample
from burnish.report import write_report
from burnish.run_folder import (
    RunFolder,
    append_line,
    flush,
    read_json,
    read_lines,
    write_json,
    write_lines,
    write_whole,
    writing,
)
from burnish.template import ChatTemplate
from burnish.template.build import build_template
from burnish.tokens import Batch, Order, flatten
from burnish.train import checkpoint
from burnish.train.fit import Step, fit, total_steps
from burnish.train.optimizer import MasterAdamW

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
) -> RunFolder:
    """Fine-tune as ``config`` says, into the run folder ``config.out``; gives that folder.

    ``resume`` goes on with the run that stands there. Raises a ``BurnishError`` for what a user can
    mend, and ``Interrupted``, with everything saved, when the person stops it.
    """
    if config.out is None:
        raise ConfigError("out is not set", why="A run needs a folder to write to.", fix="Give --out.")
    run = RunFolder(Path(config.out))
    go_on = f"burnish train --resume {shlex.quote(str(run.path))}"
    with run.held(), resumable(run.config, run.checkpoints, go_on):
        return _fine_tune(config, run, measure, judge, screen or Silence(), resume, command)


def _fine_tune(
    config: RunConfig,
    run: RunFolder,
    measure: Measure,
    judge: Judge,
    screen: Screen,
    resume: bool,
    command: str,
) -> RunFolder:
    started = time.time()
    run = _unfinished(run) if resume else run.require_free()
    settings = config.train
    torch.manual_seed(settings.seed)  # of the adapter's first weights and of new embeddings

    # The base, its template, the data, and what of the model is trained.
    if is_adapter(locate(config.model.name)):
        raise ModelError(
            f"{config.model.name} is an adapter, not a whole model",
            why="An adapter on an adapter could not be loaded again by other tools.",
            fix="Train from its base, or from a run of all weights (--adapter none).",
        )
    loaded = load_model(config.model.name, revision=config.model.revision, dtype=config.model.dtype)
    model = loaded.model
    template, new_tokens = _chat_template(config, loaded, screen)
    data = prepare(config, template, getattr(model.config, "max_position_embeddings", None), screen)
    screen.say(data.in_words())
    keeps_best = settings.final == "best" or (settings.final == "auto" and bool(settings.early_stopping))
    if (keeps_best or settings.early_stopping) and not len(data.held_out):
        raise ConfigError(
            "train.early_stopping or train.final=best is set, but no rows are held out to judge by",
            fix="Raise data.held_out_share, or name a file in data.held_out.",
        )
    adapted = _make_trainable(config, model, template, new_tokens, screen)
    optimizer = MasterAdamW(model, weight_decay=settings.weight_decay, betas=settings.betas)
    order = Order(len(data.train), settings.batch_size, settings.seed)
    trial = _trial_batch(data, order).to(model.device)
    forward, why_padded = choose_forward(model, trial)
    if why_padded:
        screen.warn(f"Training with padded batches, which is slower: {why_padded}.")
    if model.device.type == "cpu":
        keep_memory()
    # Tried on the untrained weights in a run that goes on too, so that it comes to the same choice.
    trains = _training_forward(forward, model, trial, data, config, screen)
    subject = Subject(model, template, forward)
    evaluation = Evaluation(config, data, run, screen, measure, judge)
    origin = provenance_of(config, loaded.place, template, command, started, count_parameters(model))

    # Before: what the base answers. From here on there is a run folder; mistakes until now left none.
    search = checkpoint.find(run.checkpoints) if resume else checkpoint.Found(None)
    found = search.checkpoint
    if found is None:
        _open_run(run, config, data, template, origin)
        base = evaluation.whole(subject, 0)
        write_json(run.evaluation, {"base": base})
        memory = Memory(micro_batch_tokens=settings.micro_batch_tokens)
    else:
        _require_same(run, origin)
        for path in search.damaged:
            screen.warn(f"{path} is damaged: its contents are not those that were written. It is removed.")
            checkpoint.remove(path)  # or it would count among those to keep
        checkpoint.restore(found, optimizer)
        base, memory = read_json(run.evaluation)["base"], Memory(**found.memory)
        _forget_after(run, found.step)
        screen.say(f"Going on after step {found.step}.")

    # The loop.
    steps, done = total_steps(data.train, settings), found.step if found else 0
    start = steps if _enough(memory, config) else done  # stopped early, and then killed
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
    )
    with interruptible() as stop_asked:
        for step in training:
            done = step.step
            memory = _record(step, memory, data, run, screen)
            screen.progress("Training", done, steps, _in_words(step, memory))
            best = False
            if keeps_best if done == steps else done % evaluate_every == 0:
                memory, best = _remember(memory, evaluation.brief(subject, done), done)
            enough, stopping = _enough(memory, config), stop_asked()
            saving = done % save_every == 0 or done == steps or enough or stopping
            if saving or (best and keeps_best):
                for path in (run.metrics, run.samples):
                    if path.exists():
                        flush(path)  # what the checkpoint takes for done must stand in them
                checkpoint.save(
                    run.checkpoints,
                    optimizer,
                    done,
                    asdict(memory),
                    settings.keep_checkpoints,
                    spare=memory.best_step if keeps_best else None,
                )
            if stopping:
                raise Stopped(stopping)
            if enough:
                screen.progress("Training", steps, steps, "stopped early")
                screen.say(f"Held-out loss was no better {memory.waited} times: stopped at step {done}.")
                break
    if keeps_best:
        done = _take_best(run, memory, optimizer, done, screen)

    # After: what was saved is loaded anew, and that is what gets measured.
    with writing(str(run.final)):
        save_final(run.final, model, adapted, template, origin | {"step": done})
    screen.say(f"{run.final} holds the weights of step {done}.")
    del loaded, model, adapted, optimizer, subject
    gc.collect()
    saved = load_model(str(run.path), dtype=config.model.dtype)
    template = ChatTemplate(saved.tokenizer, typed_tokens=config.template.typed_tokens)
    subject = Subject(saved.model, template, forward)
    tuned = evaluation.whole(subject, done)
    write_json(run.evaluation, {"base": base, "tuned": tuned})
    run.report.unlink(missing_ok=True)  # one of the unfinished run
    write_json(run.provenance, read_json(run.provenance) | finished(run, started))
    write_report(run)
    return run


def _chat_template(config: RunConfig, loaded: LoadedModel, screen: Screen) -> tuple[ChatTemplate, list[int]]:
    """The template to train with, and the ids of tokens that had to be added for it."""
    tokenizer, model = loaded.tokenizer, loaded.model
    if config.template.kind == "auto" and not tokenizer.chat_template:
        screen.say("The base carries no chat template; it gets ChatML-lite.")
    template, new = build_template(tokenizer, config.template)
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return template, tokenizer.convert_tokens_to_ids(new)


def _make_trainable(
    config: RunConfig, model: PreTrainedModel, template: ChatTemplate, new: list[int], screen: Screen
) -> PeftModel | None:
    """Mark what is trained: every weight, or an adapter put into the model (whose wrapper is given)."""
    adapted = None
    if config.adapter.kind == "none":
        model.requires_grad_(True)
    else:
        tokens = _trained_embeddings(config, model, template, new)
        adapted = add_lora(model, config.adapter, tokens)
        if tokens:
            names = " ".join(template.tokenizer.convert_ids_to_tokens(tokens))
            screen.say(f"The base never learned {names}; their embeddings are trained too.")
    screen.say(f"{count_parameters(model)}.")
    return adapted


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


def _unfinished(run: RunFolder) -> RunFolder:
    run.require()
    ended = run.provenance.exists() and "finished" in read_json(run.provenance)
    if ended and run.report.exists():  # it is written last, but can be asked for at any time
        raise RunError(f"{run.path} has finished; there is nothing to go on with", fix="Start a new run.")
    return run


def _trial_batch(data: Prepared, order: Order) -> Batch:
    """Some short documents of the first step and its longest: enough for a leak between them to show."""
    rows = sorted(order.step(0), key=data.train.length)
    return flatten([data.train.document(row) for row in dict.fromkeys((*rows[:3], rows[-1]))])


def _open_run(
    run: RunFolder, config: RunConfig, data: Prepared, template: ChatTemplate, origin: dict[str, Any]
) -> None:
    run.path.mkdir(parents=True, exist_ok=True)
    for path in (run.metrics, run.samples):
        path.unlink(missing_ok=True)  # of a run that was stopped before its first checkpoint
    write_whole(run.config, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode())
    write_lines(run.ledger, data.ledger_lines())
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


def _forget_after(run: RunFolder, step: int) -> None:
    """Cut what was written since the checkpoint of ``step``."""
    for path in (run.metrics, run.samples):
        write_lines(path, [row for row in read_lines(path) if row["step"] <= step])


@dataclass(frozen=True)
class Memory:
    """What a run must know of its past to go on: the micro-batch budget that it has come to, the best
    held-out loss of trained weights and its step, evaluations since, and steps just skipped in a row.

    Which rows come next, the rate and the random numbers follow from the step.
    """

    micro_batch_tokens: int
    best: float | None = None
    best_step: int = 0
    waited: int = 0
    skipped: int = 0


def _enough(memory: Memory, config: RunConfig) -> bool:
    patience = config.train.early_stopping
    return patience is not None and memory.waited >= patience


def _remember(memory: Memory, figures: dict[str, Any], step: int) -> tuple[Memory, bool]:
    """With the evaluation after ``step``; and whether it was the best so far."""
    loss = figures.get("held_out_loss", math.nan)
    if math.isfinite(loss) and (memory.best is None or loss < memory.best):
        return replace(memory, best=loss, best_step=step, waited=0), True
    return replace(memory, waited=memory.waited + 1), False


def _record(step: Step, memory: Memory, data: Prepared, run: RunFolder, screen: Screen) -> Memory:
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
            f" (all of them in {run.metrics})."
        )
    append_line(run.metrics, row)
    if step.micro_batch_tokens < memory.micro_batch_tokens:
        screen.warn(f"Memory ran out: micro-batches have {step.micro_batch_tokens:,} tokens from here on.")
    skipped = memory.skipped + 1 if step.skipped else 0
    return replace(memory, micro_batch_tokens=step.micro_batch_tokens, skipped=skipped)


def _in_words(step: Step, memory: Memory) -> str:
    if step.skipped:
        return f"not taken: {step.skipped}"
    held_out = "" if memory.best is None else f"  held out {memory.best:.3f}"
    speeds = f"{step.tokens / step.seconds:,.0f} tokens/s, {step.trained_tokens / step.seconds:,.0f} trained"
    return f"loss {step.loss:.3f}{held_out}  {speeds}"


def _take_best(run: RunFolder, memory: Memory, optimizer: MasterAdamW, done: int, screen: Screen) -> int:
    """Put the weights with the best held-out loss into the model; gives their step."""
    if memory.best is None:
        screen.warn("No evaluation gave a finite held-out loss: the last weights are taken.")
        return done
    best = checkpoint.whole(run.checkpoints / checkpoint.name(memory.best_step))
    if best is None:
        screen.warn(
            f"The best held-out loss, {memory.best:.3f}, was that of step {memory.best_step}, but its "
            "checkpoint is damaged: the last weights are taken."
        )
        return done
    checkpoint.restore(best, optimizer)
    screen.say(f"The best held-out loss, {memory.best:.3f}, was that of step {best.step}.")
    return best.step


def _training_forward(
    forward: Forward,
    model: PreTrainedModel,
    trial: Batch,
    data: Prepared,
    config: RunConfig,
    screen: Screen,
) -> Forward:
    """The way to run the model in training: compiled, where that is wanted and works."""
    tokens = math.ceil(data.train.tokens * config.train.epochs)
    wanted = pays(model, tokens) if config.train.compile == "auto" else config.train.compile
    if not wanted:
        return fused(forward)
    screen.say("Compiling the layers, which takes up to a minute.")
    faster, why = compiled(forward, model, trial)
    if why:
        screen.warn(f"Training without compiled layers, which is slower: {why}.")
        return fused(forward)
    return faster
