"""Supervised fine-tuning: conversations and a base model in, an assistant and the evidence out."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from peft import PeftModel
from transformers import PreTrainedModel

from burnish.config import RunConfig
from burnish.data import Conversation
from burnish.errors import ConfigError, RunError
from burnish.generate import Sampling, answer_all
from burnish.model.adapter import add_lora, count_parameters, untrained_tokens
from burnish.model.forward import Forward, choose_forward
from burnish.model.load import LoadedModel, load_model
from burnish.recipes.artifact import marked_tokens, save_final
from burnish.recipes.interrupt import Interrupted, interruptible
from burnish.recipes.prepare import Prepared, prepare
from burnish.recipes.provenance import finished, provenance_of
from burnish.recipes.screen import Screen, Silence
from burnish.report import write_report
from burnish.run_folder import RunFolder, append_line, read_json, read_lines, write_json, write_lines
from burnish.template import ChatTemplate
from burnish.template.chatml import give_chatml
from burnish.tokens import Order, micro_batches
from burnish.train import checkpoint
from burnish.train.fit import fit, mean_loss, total_steps
from burnish.train.optimizer import MasterAdamW


@dataclass(frozen=True)
class Subject:
    """A model as it is measured: with its template and the way its logits are had."""

    model: PreTrainedModel
    template: ChatTemplate
    forward: Forward


Measure = Callable[[Subject], dict[str, Any]]
"""Further figures of a subject, for ``evaluation.json``."""

Judge = Callable[[Conversation, str], bool | None]
"""(held-out conversation, answer to its last question) -> right, wrong, or not for a program to say."""


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
    screen, started = screen or Silence(), time.time()
    if config.out is None:
        raise ConfigError("out is not set", why="A run needs a folder to write to.", fix="Give --out.")
    run = RunFolder(Path(config.out))
    run = run.require() if resume else run.require_free()
    settings = config.train

    # The base, its template, the data, and what of the model is trained.
    loaded = load_model(config.model.name, revision=config.model.revision, dtype=config.model.dtype)
    model = loaded.model
    template, new_tokens = _chat_template(config, loaded, screen)
    data = prepare(config, template, model)
    screen.say(data.in_words())
    adapted = _make_trainable(config, model, template, new_tokens, screen)
    optimizer = MasterAdamW(model, weight_decay=settings.weight_decay, betas=settings.betas)
    order = Order(len(data.train), settings.batch_size, settings.seed)
    first = micro_batches(data.train, order.step(0), settings.micro_batch_tokens)[0]
    forward, why_padded = choose_forward(model, first.to(model.device))
    if why_padded:
        screen.warn(f"Training with padded batches, which is slower: {why_padded}.")
    subject = Subject(model, template, forward)
    origin = provenance_of(config, loaded.place, template, command, started, count_parameters(model))

    # Before: what the base answers. From here on there is a run folder; mistakes until now left none.
    found = checkpoint.latest(run.checkpoints) if resume else None
    if found is None:
        _open_run(run, config, data, template, origin)
        base = _evaluate(subject, config, data, run, 0, screen, judge) | measure(subject)
        write_json(run.evaluation, {"base": base})
        memory: dict[str, Any] = {"best": base.get("held_out_loss"), "waited": 0}
    else:
        _require_same(run, origin)
        checkpoint.restore(found, optimizer)
        base, memory = read_json(run.evaluation)["base"], found.memory
        for path in (run.metrics, run.samples):
            write_lines(path, [row for row in read_lines(path) if row["step"] <= found.step])
        screen.say(f"Going on after step {found.step}.")

    # The loop.
    steps, done = total_steps(data.train, settings), found.step if found else 0
    evaluate_every = config.evaluate.every or order.steps_per_epoch
    save_every = settings.checkpoint_every or order.steps_per_epoch
    with interruptible() as stop_asked:
        for step in fit(model, data.train, settings, optimizer=optimizer, forward=forward, start=done):
            done = step.step
            append_line(run.metrics, {"kind": "train", **asdict(step)})
            speed = f"{step.tokens / step.seconds:,.0f} tokens/s"
            screen.progress("Training", done, steps, f"loss {step.loss:.3f}  {speed}")
            if done % evaluate_every == 0 and done < steps:
                memory = _remember(memory, _evaluate(subject, config, data, run, done, screen, judge))
            enough = settings.early_stopping is not None and memory["waited"] >= settings.early_stopping
            stopping = stop_asked() and done < steps
            if done % save_every == 0 or done == steps or enough or stopping:
                checkpoint.save(run.checkpoints, optimizer, done, memory, settings.keep_checkpoints)
            if stopping:
                raise Interrupted(run.path, done)
            if enough:
                screen.progress("Training", steps, steps, "stopped early")
                screen.say(f"Held-out loss was no better {memory['waited']} times: stopped at step {done}.")
                break

    # After: what was saved is loaded anew, and that is what gets measured.
    save_final(run.final, model, adapted, template, origin)
    del loaded, model, adapted, optimizer, subject
    gc.collect()
    saved = load_model(str(run.path), dtype=config.model.dtype)
    template = ChatTemplate(saved.tokenizer, **config.template.options)
    subject = Subject(saved.model, template, forward)
    tuned = _evaluate(subject, config, data, run, done, screen, judge) | measure(subject)
    write_json(run.evaluation, {"base": base, "tuned": tuned})
    write_json(run.provenance, read_json(run.provenance) | finished(run, started))
    write_report(run)
    return run


def _chat_template(config: RunConfig, loaded: LoadedModel, screen: Screen) -> tuple[ChatTemplate, list[int]]:
    """The template to train with, and the ids of tokens that had to be added for it."""
    tokenizer, model, new = loaded.tokenizer, loaded.model, []
    if config.template.kind == "chatml" or not tokenizer.chat_template:
        if config.template.kind == "auto":
            screen.say("The base carries no chat template; it gets ChatML-lite.")
        new = give_chatml(tokenizer)
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return ChatTemplate(tokenizer, **config.template.options), tokenizer.convert_tokens_to_ids(new)


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


def _open_run(
    run: RunFolder, config: RunConfig, data: Prepared, template: ChatTemplate, origin: dict[str, Any]
) -> None:
    run.path.mkdir(parents=True, exist_ok=True)
    for path in (run.metrics, run.samples):
        path.unlink(missing_ok=True)  # of a run that was stopped before its first checkpoint
    run.config.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), "utf-8")
    write_lines(run.ledger, data.ledger_lines())
    marked = [
        {"source": str(e.source), "tokens": marked_tokens(template, e.input_ids, e.loss_mask)}
        for e in data.examples
    ]
    write_lines(run.examples, marked)
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


def _evaluate(
    subject: Subject,
    config: RunConfig,
    data: Prepared,
    run: RunFolder,
    step: int,
    screen: Screen,
    judge: Judge,
) -> dict[str, Any]:
    """Held-out loss and sample answers after ``step`` steps, written down; gives the figures."""
    figures: dict[str, Any] = {}
    if len(data.held_out):
        loss = mean_loss(subject.model, data.held_out, subject.forward, config.train.micro_batch_tokens)
        figures["held_out_loss"] = loss
        append_line(run.metrics, {"kind": "held_out", "step": step, "loss": loss})
        screen.say(f"{'Before training' if not step else f'After step {step}'}: held-out loss {loss:.3f}")
    if not data.prompts:
        return figures
    asked = [prompt.asked for prompt in data.prompts]
    sampling = Sampling(max_new_tokens=config.evaluate.max_new_tokens)
    answers = answer_all(subject.model, subject.template, asked, sampling)
    for index, (prompt, messages, answer) in enumerate(zip(data.prompts, asked, answers, strict=True)):
        sample = {
            "step": step,
            "who": "tuned" if step else "base",
            "index": index,
            "prompt": [message.as_dict() for message in messages],
            "answer": answer.text,
            "stopped": answer.stopped,
            "reference": prompt.reference,
            "correct": judge(prompt, answer.text),
        }
        append_line(run.samples, sample)
    figures["stopped_share"] = sum(answer.stopped for answer in answers) / len(answers)
    figures["answer_tokens"] = sum(len(answer.ids) for answer in answers) / len(answers)
    return figures


def _remember(memory: dict[str, Any], figures: dict[str, Any]) -> dict[str, Any]:
    """The best held-out loss so far, and how many evaluations have passed since."""
    loss, best = figures.get("held_out_loss"), memory["best"]
    if loss is not None and (best is None or loss < best):
        return {"best": loss, "waited": 0}
    return {"best": best, "waited": memory["waited"] + 1}
