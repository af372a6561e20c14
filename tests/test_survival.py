"""Training meets full disks, kills, broken rows and too little memory, and nothing learnt is lost."""

from __future__ import annotations

import errno
import math
import os
import resource
import shutil
import signal
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from burnish.errors import RunError, TrainingError
from burnish.model.forward import FlatInput, flat
from burnish.model.head import Features
from burnish.tokens import TokenTable
from burnish.train import checkpoint
from burnish.train.fit import Step, fit
from burnish.train.optimizer import MasterAdamW
from conftest import tiny_model
from test_train import VOCABULARY, optimizer_of, settings, stepped, table

# Checkpoints and the disk


CALLS = [(os, "fsync"), (Path, "rename"), (Path, "mkdir"), (Path, "write_text"), (checkpoint, "save_file")]
"""Everything that changes the disk on the way to a checkpoint."""


def before_each_call(happens: Callable[[int], None], patch: pytest.MonkeyPatch) -> None:
    """Call ``happens`` with 0, 1, ... before each call that changes the disk."""
    count = iter(range(10**6))
    for owner, name in CALLS:
        real = getattr(owner, name)

        def spied(*arguments: Any, real: Any = real, **named: Any) -> Any:
            happens(next(count))
            return real(*arguments, **named)

        patch.setattr(owner, name, spied)


def saved_twice(folder: Path) -> None:
    """Leave the checkpoints of steps 3 and 4 in the folder and nothing else."""
    for path in folder.iterdir():
        shutil.rmtree(path)
    for step in (3, 4):
        checkpoint.save(folder, stepped().state(), step, {}, keep=2)


def calls_of_the_third_save(folder: Path) -> int:
    saved_twice(folder)
    seen: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        before_each_call(seen.append, patch)
        checkpoint.save(folder, stepped().state(), 5, {}, keep=2)
    assert {path.name for path in folder.iterdir()} == {"step-000004", "step-000005"}
    return len(seen)


def test_a_disk_that_fails_at_any_call_costs_nothing_but_that_checkpoint(tmp_path: Path) -> None:
    calls = calls_of_the_third_save(tmp_path)
    assert calls >= 10
    for fatal in range(calls):
        saved_twice(tmp_path)

        def fail(number: int, fatal: int = fatal) -> None:
            if number == fatal:
                raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.MonkeyPatch.context() as patch:
            before_each_call(fail, patch)
            with pytest.raises(RunError, match="checkpoint of step 5 cannot be written") as error:
                checkpoint.save(tmp_path, stepped().state(), 5, {}, keep=2)
        assert "No space left" in error.value.what
        found = checkpoint.find(tmp_path)
        assert found.checkpoint is not None and not found.damaged
        assert found.checkpoint.step in (4, 5)
        assert not list(tmp_path.glob(".writing-*"))


def test_a_kill_before_any_call_leaves_whole_checkpoints(tmp_path: Path) -> None:
    for fatal in range(calls_of_the_third_save(tmp_path)):
        saved_twice(tmp_path)
        optimizer = stepped()

        def kill(number: int, fatal: int = fatal) -> None:
            if number == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

        def child(kill: Callable[[int], None] = kill, optimizer: MasterAdamW = optimizer) -> None:
            before_each_call(kill, pytest.MonkeyPatch())
            checkpoint.save(tmp_path, optimizer.state(), 5, {}, keep=2)

        assert in_child(child) == -signal.SIGKILL
        found = checkpoint.find(tmp_path)
        assert found.checkpoint is not None and not found.damaged
        assert found.checkpoint.step in (4, 5)
        checkpoint.save(tmp_path, stepped().state(), 6, {}, keep=2)
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {checkpoint.name(found.checkpoint.step), "step-000006"}


def test_files_cut_off_by_the_system_itself_are_an_error(tmp_path: Path) -> None:
    """A limit on the size of files makes real writes fail half way."""
    checkpoint.save(tmp_path, stepped().state(), 3, {}, keep=2)
    optimizer = stepped()

    def child() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
        with pytest.raises(RunError, match="cannot be written"):
            checkpoint.save(tmp_path, optimizer.state(), 4, {}, keep=2)

    assert in_child(child) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["step-000003"]


def test_too_little_space_is_seen_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    with pytest.raises(RunError, match="it takes 17 MB, and 0 MB are free"):
        checkpoint.save(tmp_path, stepped().state(), 3, {}, keep=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [checkpoint.TENSORS, checkpoint.STATE, checkpoint.MANIFEST])
def test_a_byte_changed_anywhere_is_found_or_changes_nothing(tmp_path: Path, name: str) -> None:
    checkpoint.save(tmp_path, stepped().state(), 3, {}, keep=2)
    file = checkpoint.save(tmp_path, stepped().state(), 4, {"best": 1.5}, keep=2) / name
    content = file.read_bytes()
    unchanged = checkpoint.intact(file.parent)
    noticed = 0
    for place in range(0, len(content), max(1, len(content) // 200)):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        found = checkpoint.find(tmp_path).checkpoint
        assert found is not None and (found.step == 3 or found == unchanged)
        noticed += found.step == 3
    assert noticed >= (0.8 if name == checkpoint.MANIFEST else 1) * 200 * min(1, len(content) / 200)


FOREIGN = ("step-000003-good", "step-3", "step-best", "step-00000003", "step-²", ".keep-step-000003")


def test_what_is_not_named_by_us_is_left_alone(tmp_path: Path) -> None:
    for name in FOREIGN:
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "step-000001").symlink_to("elsewhere")
    (tmp_path / "step-000002").touch()
    for leftover in (".writing-step-000003", ".removing-step-000003"):
        (tmp_path / leftover).mkdir()
    for step in (3, 4, 5, 6):
        checkpoint.save(tmp_path, stepped().state(), step, {}, keep=2)
    left = {path.name for path in tmp_path.iterdir()}
    mine = {*FOREIGN, "elsewhere", "step-000001", "step-000002"}
    assert left == {*mine, "step-000005", "step-000006"}
    assert all((tmp_path / name / "mine").exists() for name in FOREIGN)
    found = checkpoint.find(tmp_path)
    assert found.checkpoint is not None and found.checkpoint.step == 6 and not found.damaged


def test_the_best_checkpoint_outlives_newer_ones(tmp_path: Path) -> None:
    for step in range(1, 6):
        checkpoint.save(tmp_path, stepped().state(), step, {}, keep=2, also_keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000002", "step-000004", "step-000005"]


def in_child(work: Callable[[], None]) -> int:
    """Run in a forked process; its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# Steps that cannot be taken


def poisoned(row: int) -> tuple[PreTrainedModel, TokenTable]:
    """A model with no finite value for one token, and a table in which one row alone has it."""
    model = tiny_model(vocabulary=VOCABULARY + 1)
    with torch.no_grad():
        model.get_input_embeddings().weight[VOCABULARY] = float("nan")
    documents = [table().document(number) for number in range(12)]
    documents[row][0][0] = VOCABULARY
    return model, TokenTable.from_documents(documents)


def test_a_step_with_a_row_that_gives_no_finite_loss_is_left_out_and_its_rows_are_named() -> None:
    model, rows = poisoned(row=7)
    optimizer = optimizer_of(model)
    states: list[dict[str, torch.Tensor]] = []
    steps: list[Step] = []
    for step in fit(model, rows, settings(), optimizer=optimizer, forward=flat):
        steps.append(step)
        states.append({name: tensor.clone() for name, tensor in optimizer.state().items()})
    assert [bool(step.skipped) for step in steps] == [7 in step.rows for step in steps]
    assert sum(bool(step.skipped) for step in steps) == 2  # once an epoch
    for before, after, step in zip(states, states[1:], steps[1:], strict=False):
        same = all(torch.equal(before[name].nan_to_num(), after[name].nan_to_num()) for name in before)
        assert same == bool(step.skipped)


def test_a_gradient_that_is_not_finite_under_a_finite_loss_takes_no_step() -> None:
    model = tiny_model()
    optimizer = optimizer_of(model)
    weight = model.get_output_embeddings().weight
    training = fit(model, table(), settings(), optimizer=optimizer, forward=flat)
    next(training)
    before = {name: tensor.clone() for name, tensor in optimizer.state().items()}
    hook = weight.register_hook(lambda gradient: gradient * math.inf)
    step = next(training)
    assert math.isfinite(step.loss) and "the gradient's norm was" in step.skipped
    assert all(torch.equal(tensor, before[name]) for name, tensor in optimizer.state().items())
    hook.remove()
    assert not next(training).skipped


def test_a_run_that_goes_on_stops_at_the_same_skipped_step() -> None:
    """Two steps in a row are allowed to fail here, and the run is cut between them."""

    def run(start: int, skipped: int) -> int:
        model = tiny_model()
        with torch.no_grad():
            model.get_output_embeddings().weight[3] = float("nan")
        training = fit(
            model,
            table(),
            settings(max_skipped=3),
            optimizer=optimizer_of(model),
            forward=flat,
            start=start,
            skipped=skipped,
        )
        last = start
        with pytest.raises(TrainingError, match="3 steps in a row"):
            for step in training:
                last = step.step
        return last

    assert run(0, 0) == run(2, 2) == 3


def test_a_gradient_on_what_is_not_trained_stops_the_run() -> None:
    """Made trainable behind the optimizer's back: it would collect gradients and never be stepped."""
    model = tiny_model()
    model.requires_grad_(False)
    model.get_output_embeddings().requires_grad_(True)
    optimizer = optimizer_of(model)
    model.get_input_embeddings().requires_grad_(True)
    with pytest.raises(AssertionError, match=r"not to be trained, but with a gradient: model\.embed_tokens"):
        next(fit(model, table(), settings(), optimizer=optimizer, forward=flat))


LACKS = {
    "of the CPU": RuntimeError(
        "[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory"
    ),
    "of a GPU": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "of Python": MemoryError(),
}


def scarce(
    limit: int, lack: BaseException = LACKS["of the CPU"]
) -> Callable[[PreTrainedModel, FlatInput], Features]:
    """A way to run a model that runs out of memory with more than ``limit`` tokens."""

    def forward(model: PreTrainedModel, batch: FlatInput) -> Features:
        features = flat(model, batch)
        if len(batch.input_ids) > limit:
            raise lack
        return features

    return forward


def outcome(forward: Any, budget: int) -> tuple[list[Step], list[torch.Tensor]]:
    model = tiny_model()
    model.config.attention_dropout = 0.1  # so that what was drawn for a failed step must be drawn again
    steps = fit(
        model, table(), settings(micro_batch_tokens=budget), optimizer=optimizer_of(model), forward=forward
    )
    return list(steps), [p.detach() for p in model.parameters()]


@pytest.mark.parametrize("lack", LACKS.values(), ids=LACKS.keys())
def test_memory_that_runs_out_halves_the_micro_batches_with_the_same_result(lack: BaseException) -> None:
    steps, weights = outcome(scarce(40, lack), 128)
    assert {step.micro_batch_tokens for step in steps} == {32}
    expected_steps, expected = outcome(flat, 32)
    assert [step.loss for step in steps] == [step.loss for step in expected_steps]
    assert all(torch.equal(one, other) for one, other in zip(weights, expected, strict=True))


def test_memory_for_not_even_one_row_stops_the_run() -> None:
    with pytest.raises(TrainingError, match="each a single row"):
        outcome(scarce(2), 128)


def test_another_error_in_a_step_is_not_taken_for_a_lack_of_memory() -> None:
    def broken(model: PreTrainedModel, batch: FlatInput) -> Features:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        outcome(broken, 128)
