"""Supervised fine-tuning: conversations and a base model in, an assistant and the evidence out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from burnish.adapters.load import load_model
from burnish.adapters.virtual import without_virtual
from burnish.config import RunConfig, with_learning_rate
from burnish.data.memory import Rows
from burnish.evaluate.evaluation import Evaluation, Measure, MeasuredModel, Scorer
from burnish.files import read_json, write_json
from burnish.model.budget import peak_bytes
from burnish.model.forward import Forward
from burnish.prepare.final import write_final
from burnish.prepare.in_memory import InMemory, taken_from_memory
from burnish.prepare.model import prepare_model, split_model
from burnish.prepare.passes import choose_passes
from burnish.prepare.prepare import prepare
from burnish.prepare.refusals import require_beginnings
from burnish.prepare.show import ShownExample
from burnish.prepare.source import DataSource
from burnish.recipes.forgetting import forgetting_of
from burnish.recipes.result import SFTResult
from burnish.report import write_report
from burnish.run.begin import begin_run, resume_run
from burnish.run.interrupt import Stopped, interruptible
from burnish.run.open import OpenRun, open_run
from burnish.run.provenance import finish_provenance, provenance_of
from burnish.run.saving import final_checkpoint, record_step, save_state, step_in_words
from burnish.run.screen import Screen
from burnish.run.state import RunState, keeps_best
from burnish.tokens import Order
from burnish.train import checkpoint
from burnish.train.checkpoint import Checkpoint
from burnish.train.fit import fit, total_steps
from burnish.train.optimizer import optimizer_of
from burnish.train.ranks import Ranks, process_group


def sft(
    config: RunConfig | None = None,
    *,
    data: Rows | None = None,
    held_out: Rows | None = None,
    model: PreTrainedModel | str | Path | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    out: str | Path | None = None,
    measure: Measure = lambda measured: {},
    score: Scorer = lambda conversation, answer: None,
    screen: Screen | None = None,
    resume: bool = False,
    command: str = "",
    verb: str = "train",
) -> SFTResult:
    """Fine-tune as ``config`` says (unset: as the defaults do), into the run folder ``out``. Without a
    learning rate in it, the usual one of its kind of adapter is taken.

    ``data``, ``held_out``: rows as a list of dicts, or files, in the place of those that ``config`` names.
    ``model``: a causal language model of transformers with its ``tokenizer``, or a name. Neither is changed:
    adapters are put into a copy of the modules that shares the model's weights, and to train all weights
    (``adapter.kind: none``) they are copied. The run can go on only with the same rows and model handed over
    again. Config and errors call them ``<memory>``.

    ``measure``: further figures of base and tuned. ``score``: which sample answers are right. ``resume`` goes
    on with the run that stands there; ``verb`` is that of the command that does. Started by torchrun, the
    ranks split the model and the work between them, and the first one writes and speaks. Raises a
    ``BurnishError`` for what a user can mend, and ``Interrupted``, with everything saved, when the person
    stops it.
    """
    config = with_learning_rate(config or RunConfig())
    if out is not None:
        config = config.model_copy(update={"out": str(out)})
    config, in_memory = taken_from_memory(
        config, data=data, held_out=held_out, model=model, tokenizer=tokenizer
    )
    with open_run(config, screen, resume=resume, verb=verb) as run:
        with process_group(run.ranks):
            trained = _train(config, in_memory, run, measure, score, command, resume)
        if run.ranks.first:
            _conclude(config, in_memory, run, trained)
    return SFTResult(run.folder, config.model.dtype, in_memory.model)


@dataclass(frozen=True)
class Trained:
    """What training leaves: the checkpoint whose weights are taken, the figures of the base, and what the
    measurements afterwards need."""

    saved: Checkpoint
    base: dict[str, Any]
    evaluation: Evaluation
    forward: Forward
    provenance: dict[str, Any]
    peak_bytes: int


def _train(
    config: RunConfig,
    in_memory: InMemory,
    run: OpenRun,
    measure: Measure,
    score: Scorer,
    command: str,
    resume: bool,
) -> Trained:
    settings, ranks, screen = config.train, run.ranks, run.screen
    source = DataSource.of(config.data, settings.seed, in_memory)
    forgetting = forgetting_of(config, in_memory)

    # The base with what of it is trained, its template and the data (steps 2 and 3 of docs/architecture.md).
    require_beginnings(source)
    prepared = prepare_model(config, screen, "cpu" if ranks.count > 1 else None, in_memory)
    model, template = prepared.model, prepared.template
    with ranks.first_then_others():  # the others then find the prepared rows in the cache
        data = prepare(config, template, prepared.positions, screen, in_memory)
    screen.say(data.ledger.in_words(data.train))
    keep, best_counts = settings.keep_checkpoints, keeps_best(settings, len(data.held_out))

    # On how many devices the model stands, and how it is run (steps 4 and 5).
    if ranks.count > 1:
        split_model(model, config, ranks.count)
        screen.say(f"{ranks.count} ranks, each with its part of every weight.")
    optimizer = optimizer_of(model, settings, quantized=config.model.quantize != "none", ranks=ranks)
    passes = choose_passes(model, data.train, settings, ranks, screen)

    # Where the run came from, and what the base answers; or the checkpoint to go on from (steps 6 and 7).
    # From here on there is a run folder; mistakes until now left none.
    evaluation = Evaluation(run, data, config.evaluate.max_new_tokens, measure, score, forgetting)
    provenance = provenance_of(
        config, source.described(), prepared.base, template, prepared.count, command, run.started
    )
    found = checkpoint.find(run.folder.checkpoints) if resume else checkpoint.Found(None)
    if found.checkpoint is None:
        examples = [ShownExample.of(example, template).as_row() for example in data.examples]
        begin_run(run, config, provenance, data.ledger.as_rows(data.train), examples)
        # With virtual tokens a model is its base behind some noise, and not the base.
        bare = MeasuredModel(without_virtual(model), template, passes.measuring)
        base = evaluation.all_figures(bare, 0)
        if ranks.first:
            write_json(run.folder.evaluation, {"base": base})
        state, done = RunState(passes.micro_batch_tokens), 0
    else:
        state = resume_run(run, found, provenance, optimizer, keep=keep, keeps_best=best_counts)
        base, done = read_json(run.folder.evaluation)["base"], found.checkpoint.step

    # The loop (step 8).
    steps = total_steps(data.train, settings)
    epoch = Order(len(data.train), settings.batch_size, settings.seed).steps_per_epoch
    evaluate_every, save_every = config.evaluate.every or epoch, settings.checkpoint_every or epoch
    measured = MeasuredModel(model, template, passes.measuring)
    stopped_early = state.out_of_patience(settings.early_stopping)  # and then killed
    start = steps if stopped_early else done
    training = fit(
        model,
        data.train,
        settings,
        optimizer=optimizer,
        forward=passes.training,
        share=passes.share,
        start=start,
        budget=state.micro_batch_tokens,
        skipped=state.skipped_steps,
        ranks=ranks,
    )
    with interruptible() as stop_asked:
        for step in training:
            done = step.step
            state = record_step(run, step, state, data.source)
            screen.progress("Training", done, steps, step_in_words(step, state))
            best = False
            # What final/ holds is measured anyway: the last step here only where it may not be that.
            if best_counts if done == steps else done % evaluate_every == 0:
                state, best = state.evaluated(evaluation.figures(measured, done), done)
            enough, stopping = state.out_of_patience(settings.early_stopping), int(ranks.max(stop_asked()))
            saving = done % save_every == 0 or done == steps or (best and best_counts)
            if saving or enough or stopping:
                save_state(run, optimizer, done, state, keep=keep, keeps_best=best_counts)
            if stopping:
                raise Stopped(stopping)
            if enough:
                screen.progress("Training", steps, steps, "stopped early")
                times = state.evaluations_since_best
                screen.say(f"Held-out loss was no better {times} times: stopped at step {done}.")
                break

    ranks.barrier()  # for the first one to have saved
    saved = final_checkpoint(run.folder, done, state if best_counts else None, screen)
    return Trained(saved, base, evaluation, passes.measuring, provenance, peak_bytes(model.device))


def _conclude(config: RunConfig, in_memory: InMemory, run: OpenRun, trained: Trained) -> None:
    """Write ``final/`` from the checkpoint, load it as a user would, measure it, report (steps 9 and 10)."""
    folder, step = run.folder, trained.saved.step
    write_final(folder.final, config, trained.saved, trained.provenance, in_memory)
    run.screen.say(f"{folder.final} holds the weights of step {step}.")
    loaded = load_model(str(folder.path), dtype=config.model.dtype, base_model=in_memory.model)
    evaluation = replace(trained.evaluation, run=replace(run, ranks=Ranks()))  # the others have parted
    tuned = evaluation.all_figures(MeasuredModel(loaded.model, loaded.chat_template(), trained.forward), step)
    write_json(folder.evaluation, {"base": trained.base, "tuned": tuned})
    folder.report.unlink(missing_ok=True)  # one of the unfinished run
    finish_provenance(folder, run.started, trained.peak_bytes)
    write_report(folder)
