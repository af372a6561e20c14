"""Whole runs are killed, stopped, locked out and fed broken rows, and leave what one left alone would."""

from __future__ import annotations

import errno
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from burnish import load_config, sft
from burnish.cli.main import main
from burnish.errors import ConfigError, Interrupted, RunError
from burnish.files import append_line, discard, read_json, read_lines, write_json
from burnish.numbers import ranges
from burnish.report import write_report
from burnish.run.folder import LOCK, RunFolder
from burnish.run.interrupt import Stopped, interruptible, resumable
from burnish.run.journal import Journal
from burnish.run.open import OpenRun
from burnish.run.saving import record_step
from burnish.run.state import RunState
from burnish.train import checkpoint
from burnish.train.fit import Step
from burnish.train.ranks import Ranks
from conftest import small_tokenizer
from test_docs import ROOT, blocks
from test_runs import losses, settings, small_data, train
from torture import bench, each_change, random_kills


class Listening:
    """A screen that remembers what it was told, and does something at each step."""

    def __init__(self, at_step: Callable[[int], None] = lambda step: None) -> None:
        self.said: list[str] = []
        self.at_step = at_step

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.said.append(text)

    def progress(self, task: str, done: int, total: int, detail: str = "") -> None:
        if task == "Training":
            self.at_step(done)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with its tokenizer, quicker than pebble."""
    return bench(tmp_path_factory.mktemp("bench")).folder / "model"


# Killed


def test_a_run_killed_again_and_again_ends_in_the_same_bits(tmp_path: Path) -> None:
    random_kills(bench(tmp_path), 6, seed=1)


def test_a_run_killed_before_a_change_of_the_disk_ends_in_the_same_bits(tmp_path: Path) -> None:
    assert each_change(bench(tmp_path), every=40) >= 3


def test_a_last_line_torn_anywhere_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": 1, "text": "é"}, {"step": 2, "text": "\u2028 日本"}]
    for row in rows:
        append_line(path, row)
    content = path.read_bytes()
    second = content.index(b"\n") + 1
    for end in range(second, len(content) + 1):
        path.write_bytes(content[:end])
        assert list(read_lines(path)) == (rows if end >= len(content) - 1 else rows[:1])


def test_a_torn_line_before_the_last_is_no_accident(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n', "utf-8")
    with pytest.raises(RunError, match=r"metrics\.jsonl:2: not JSON"):
        list(read_lines(path))


# The disk


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_error_that_says_so() -> None:
    with pytest.raises(RunError, match=r"/dev/full cannot be written: .*No space left on device"):
        append_line(Path("/dev/full"), {"step": 1})


def test_a_file_that_cannot_be_replaced_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "evaluation.json"
    write_json(path, {"base": 1})

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"evaluation\.json cannot be written: .*No space left"):
        write_json(path, {"base": 2})
    assert read_json(path) == {"base": 1}


# One process a run folder


def test_two_processes_do_not_work_in_one_run_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with run.locked():
        (run.path / "config.yaml").touch()
        with pytest.raises(RunError, match=rf"another process \({os.getpid()}\) is working in"), run.locked():
            pass
    assert [path.name for path in run.path.iterdir()] == ["config.yaml"]
    with run.locked():
        pass
    with RunFolder(tmp_path / "empty").locked():
        pass
    assert not (tmp_path / "empty").exists()


def test_what_a_killed_process_left_of_its_lock_locks_nobody_out(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    child = os.fork()
    if child == 0:
        with run.locked():
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (run.path / LOCK).read_text() == str(child)
    with run.locked():
        assert run.require_free() == run
        assert (run.path / LOCK).read_text() == str(os.getpid())


def test_a_file_where_the_run_should_go_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(RunError, match="cannot be written"), RunFolder(tmp_path / "run").locked():
        pass


# Links


def linked(link: Path, target: Path) -> Path:
    """A symbolic link to a file with the word kept in it."""
    target.write_text("kept", "utf-8")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    return target


WRITTEN = """.lock config.yaml provenance.json ledger.jsonl metrics.jsonl samples.jsonl examples.jsonl
evaluation.json checkpoints final report.html tensorboard wandb""".split()


@pytest.mark.parametrize("name", WRITTEN)
def test_a_link_in_the_place_of_what_a_run_writes_is_refused_and_what_it_leads_to_is_kept(
    name: str, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    target = linked(run.path / name, tmp_path / "target")
    with pytest.raises(RunError, match=f"{name} is a symbolic link, to ") as error, run.locked():
        pass
    assert error.value.fix
    assert target.read_text("utf-8") == "kept"
    target.unlink()
    with pytest.raises(RunError, match="is a symbolic link"), run.locked():
        pass
    assert not target.exists()


def test_a_run_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    """What leads to it may be a link: runs can lie on another disk."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to("elsewhere")
    with pytest.raises(RunError, match="run is a symbolic link, to elsewhere"):
        sft(load_config(None, [], **{"data.train": ["rows.jsonl"]}), out=tmp_path / "run")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    with RunFolder(tmp_path / "run" / "mine").locked():
        assert (tmp_path / "elsewhere" / "mine" / LOCK).is_file()


def test_a_lock_that_is_another_file_too_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("kept", "utf-8")
    (tmp_path / "run").mkdir()
    os.link(tmp_path / "letter", tmp_path / "run" / LOCK)
    with pytest.raises(RunError, match="is another file too"), RunFolder(tmp_path / "run").locked():
        pass
    assert (tmp_path / "letter").read_text("utf-8") == "kept"


def test_no_file_of_ours_is_written_through_a_link(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    for name in (path.name, f".writing-{path.name}"):
        target = linked(tmp_path / name, tmp_path / "target")
        write_json(path, {"base": 1})
        assert read_json(path) == {"base": 1} and not path.is_symlink()
        assert target.read_text("utf-8") == "kept"
        path.unlink()
    target = linked(tmp_path / "metrics.jsonl", tmp_path / "target")
    with pytest.raises(RunError, match=r"metrics\.jsonl cannot be written"):
        append_line(tmp_path / "metrics.jsonl", {"step": 1})
    assert target.read_text("utf-8") == "kept"


def test_what_is_left_over_is_removed_and_not_what_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "link").symlink_to("folder")
    discard(tmp_path / "link")
    assert (tmp_path / "folder" / "file").exists() and not (tmp_path / "link").is_symlink()
    discard(tmp_path / "folder")
    discard(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


# Stopped


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_stops_at_once(signum: int) -> None:
    before = signal.getsignal(signum)
    with pytest.raises(Stopped) as stop, interruptible() as asked:
        assert asked() == 0
        os.kill(os.getpid(), signum)
        assert asked() == signum
        os.kill(os.getpid(), signum)
    assert stop.value.signum == signum
    assert signal.getsignal(signum) == before


@pytest.fixture
def heeding_ctrl_c() -> Iterator[None]:
    """As in a terminal; what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_outside_of_the_steps_says_how_to_go_on(tmp_path: Path, heeding_ctrl_c: None) -> None:
    started = tmp_path / "config.yaml"
    with pytest.raises(SystemExit) as leaving, resumable(started, tmp_path, "burnish train --resume x"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert leaving.value.code == 143
    started.touch()
    for signum in (signal.SIGTERM, signal.SIGINT):
        with (
            pytest.raises(Interrupted, match="--resume x") as stop,
            resumable(started, tmp_path, "--resume x"),
        ):
            os.kill(os.getpid(), signum)
        assert stop.value.signal == signum


@pytest.mark.parametrize("at", [2, 4])
def test_a_run_stopped_at_a_step_the_last_one_too_goes_on_to_the_same_bits(
    at: int, tmp_path: Path, model: Path
) -> None:
    data = small_data(tmp_path / "rows.jsonl")
    changes: dict[str, Any] = {"model__name": str(model), "train__max_steps": 4}
    whole = train(data, tmp_path / "whole", **changes)
    out = tmp_path / "a run"

    def stop(step: int) -> None:
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)

    config = load_config(whole.config, out=str(out))
    with pytest.raises(Interrupted, match=f"up to step {at} is saved") as stopped:
        sft(config, screen=Listening(stop))
    assert f"burnish train --resume '{out}'" in str(stopped.value)
    assert stopped.value.signal == signal.SIGTERM
    write_report(RunFolder(out))  # of the half, which makes it no finished run
    run = sft(load_config(out / "config.yaml"), resume=True).folder
    one, other = ((r.final / "adapter_model.safetensors").read_bytes() for r in (whole, run))
    assert one == other
    assert losses(whole) == losses(run)


# Damaged checkpoints


def test_a_damaged_checkpoint_is_named_and_the_run_goes_on_from_the_one_before(
    tmp_path: Path, model: Path
) -> None:
    data = small_data(tmp_path / "rows.jsonl")
    changes: dict[str, Any] = {"train__checkpoint_every": 1, "train__max_steps": 4, "model__name": str(model)}
    whole, run = train(data, tmp_path / "whole", **changes), train(data, tmp_path / "run", **changes)
    run.report.unlink()  # as if it had not finished
    newest = run.checkpoints / checkpoint.name(4) / checkpoint.TENSORS
    newest.write_bytes(newest.read_bytes()[:-5])
    screen = Listening()
    sft(load_config(run.config), resume=True, screen=screen)
    assert any("step-000004 is damaged" in text for text in screen.said)
    one, other = ((r.final / "adapter_model.safetensors").read_bytes() for r in (whole, run))
    assert one == other
    assert [row["step"] for row in read_lines(run.metrics) if row["kind"] == "train"] == [1, 2, 3, 4]


def test_a_damaged_checkpoint_does_not_count_among_those_that_are_kept(tmp_path: Path, model: Path) -> None:
    """Else, of the newest two, only one would be whole."""
    data = small_data(tmp_path / "rows.jsonl")
    changes: dict[str, Any] = {"train__checkpoint_every": 2, "train__max_steps": 6, "model__name": str(model)}

    def stop(step: int) -> None:
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    run = train(data, tmp_path / "whole", **changes)
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        sft(load_config(run.config, out=str(out)), screen=Listening(stop))
    (out / "checkpoints" / "step-000005" / checkpoint.STATE).write_text("{}")
    run = sft(load_config(out / "config.yaml"), resume=True).folder
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["step-000004", "step-000006"]


# Damaged logs


@pytest.mark.parametrize("kept", [0, 0.5, 1])
def test_a_run_whose_logs_were_emptied_or_torn_goes_on_and_says_so(
    kept: float, tmp_path: Path, model: Path
) -> None:
    """Of the metrics of four steps nothing is left, two and a half lines, or all."""
    data = small_data(tmp_path / "rows.jsonl")
    changes: dict[str, Any] = {"train__checkpoint_every": 1, "train__max_steps": 4, "model__name": str(model)}
    whole = train(data, tmp_path / "whole", **changes)
    out = tmp_path / "run"

    def stop(step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        sft(load_config(whole.config, out=str(out)), screen=Listening(stop))
    run = RunFolder(out)
    for path in (run.metrics, run.samples):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * kept)])
    left = [row["step"] for row in read_lines(run.metrics) if row["kind"] == "train"]
    base = [row for row in read_lines(run.samples) if row["step"] == 0]
    screen = Listening()
    sft(load_config(run.config), resume=True, screen=screen)
    missing = [step for step in (1, 2, 3) if step not in left]
    lacks = [text for text in screen.said if "metrics.jsonl lacks" in text]
    assert len(lacks) == bool(missing)
    if missing:
        assert f"{len(missing)} of 3 steps, {ranges(missing)}: " in lacks[0]
        assert "Steps are missing from the metrics" in run.report.read_text("utf-8")
    assert any("samples.jsonl lacks" in text for text in screen.said) == (not base)
    one, other = ((r.final / "adapter_model.safetensors").read_bytes() for r in (whole, run))
    assert one == other


def test_a_checkpoint_that_was_copied_beside_stops_no_run(tmp_path: Path, model: Path) -> None:
    data, out = small_data(tmp_path / "rows.jsonl"), tmp_path / "run"
    changes: dict[str, Any] = {"train__checkpoint_every": 1, "train__max_steps": 4, "model__name": str(model)}

    def copy(step: int) -> None:
        if step == 2:
            shutil.copytree(out / "checkpoints" / "step-000001", out / "checkpoints" / "step-000001-good")

    named = {key.replace("__", "."): value for key, value in changes.items()}
    config = load_config(None, [], **{**settings(data, out), **named})
    run = sft(config, screen=Listening(copy)).folder
    left = sorted(path.name for path in run.checkpoints.iterdir())
    assert left == ["step-000001-good", "step-000003", "step-000004"]


# Broken rows, too little memory


def test_the_rows_of_a_step_that_was_not_taken_are_named_by_file_and_row(tmp_path: Path, model: Path) -> None:
    """One token has an embedding that is no number, and one row of the second file has that token."""
    (token,) = small_tokenizer().encode("~", add_special_tokens=False)
    broken = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        broken.get_input_embeddings().weight[token] = math.nan
    broken.save_pretrained(tmp_path / "model")
    small_tokenizer().save_pretrained(tmp_path / "model")
    files = [small_data(tmp_path / "one.jsonl", 8), small_data(tmp_path / "two.jsonl", 8)]
    lines = files[1].read_text("utf-8").splitlines()
    lines[5] = json.dumps(
        {"messages": [{"role": "user", "content": "~"}, {"role": "assistant", "content": "Yes."}]}
    )
    files[1].write_text("\n".join(lines) + "\n", "utf-8")
    screen = Listening()
    options = {
        "data.train": [str(file) for file in files],
        "data.held_out_share": 0.0,
        "model.name": str(tmp_path / "model"),
        "train.batch_size": 4,
        "train.epochs": 2,
        "train.checkpoint_every": 1,
        "evaluate.samples": 0,
        "out": str(tmp_path / "run"),
    }
    run = sft(load_config(None, [], **options), screen=screen).folder
    steps = [row for row in read_lines(run.metrics) if row["kind"] == "train"]
    skipped = [row for row in steps if "skipped" in row]
    assert len(steps) == 8 and len(skipped) == 2  # once an epoch
    for row in skipped:
        assert row["loss"] is None and row["skipped"] == "the loss was nan"
        assert {"path": str(files[1]), "row": 6} in row["rows"] and len(row["rows"]) == 4
        assert any(
            text.startswith(f"Step {row['step']} was not taken") and f"{files[1]}:6" in text
            for text in screen.said
        )
    every = [(row["path"], row["row"]) for step in skipped for row in step["rows"]]
    assert all(Path(path).read_text("utf-8").splitlines()[row - 1] for path, row in every)


def test_less_memory_than_thought_is_told_at_once_the_first_step_too(tmp_path: Path) -> None:
    folder, screen = RunFolder(tmp_path), Listening()
    run = OpenRun(folder, Journal(folder), screen, Ranks(), 0.0)
    step = Step(1, 0.1, 2.0, 1e-3, 1.0, 99, 9, 0.1, 512, "", (0,))
    source: Any = None  # is asked only for the rows of a step that was not taken
    state = record_step(run, step, RunState(micro_batch_tokens=1024), source)
    assert screen.said == ["Memory ran out: micro-batches have 512 tokens from here on."]
    assert [row["micro_batch_tokens"] for row in read_lines(folder.metrics)] == [512]
    assert state.micro_batch_tokens == 512
    record_step(run, step, state, source)
    assert len(screen.said) == 1


# The best weights


def test_the_best_loss_is_that_of_trained_weights_and_a_number() -> None:
    state = RunState(micro_batch_tokens=1)
    better = []
    for step, loss in enumerate((math.nan, 2.2, 2.1, math.nan, 2.1, 2.0), 1):
        state, best = state.evaluated({"held_out_loss": loss}, step)
        better.append(best)
    assert better == [False, True, True, False, False, True]
    assert (state.best_loss, state.best_step, state.evaluations_since_best) == (2.0, 6, 0)


def early_stopped(tmp_path: Path, model: Path, **changes: Any) -> RunFolder:
    """At a rate that is far too high the held-out loss is best early on."""
    return train(
        small_data(tmp_path / "rows.jsonl", 40),
        tmp_path / "run",
        model__name=str(model),
        adapter__kind="none",
        train__learning_rate=0.05,
        train__decay="constant",
        train__epochs=6,
        evaluate__every=1,
        evaluate__samples=0,
        data__held_out_share=0.2,
        **changes,
    )


def held_out(run: RunFolder) -> dict[int, float]:
    """After how many steps the held-out loss was which, but for the base's."""
    return {r["step"]: r["loss"] for r in read_lines(run.metrics) if r["kind"] == "held_out" and r["step"]}


def test_early_stopping_gives_final_the_best_weights(tmp_path: Path, model: Path) -> None:
    run = early_stopped(tmp_path, model, train__early_stopping=3)
    measured, last = held_out(run), len(losses(run))
    best = min(measured, key=lambda step: measured[step])
    assert read_json(run.final / "burnish.json")["step"] == best == last - 3
    assert read_json(run.evaluation)["tuned"]["held_out_loss"] == measured[best]
    kept = {path.name for path in run.checkpoints.iterdir()}
    assert {checkpoint.name(best), checkpoint.name(last)} <= kept


def test_a_damaged_best_checkpoint_is_told_and_the_last_weights_are_taken(
    tmp_path: Path, model: Path
) -> None:
    run = early_stopped(tmp_path, model, train__early_stopping=3)
    best, last = read_json(run.final / "burnish.json")["step"], len(losses(run))
    run.report.unlink()  # as if it had not finished
    (run.checkpoints / checkpoint.name(best) / checkpoint.TENSORS).unlink()
    screen = Listening()
    sft(load_config(run.config), resume=True, screen=screen)
    assert any(f"was that of step {best}, but its checkpoint is damaged" in text for text in screen.said)
    assert f"{run.final} holds the weights of step {last}." in screen.said
    assert read_json(run.final / "burnish.json")["step"] == last


def test_the_last_weights_too_can_be_the_best(tmp_path: Path, model: Path) -> None:
    """Three steps, evaluated after the second by the config and after the last because it may be the best."""
    run = train(
        small_data(tmp_path / "rows.jsonl"),
        tmp_path / "run",
        model__name=str(model),
        train__max_steps=3,
        train__final="best",
        evaluate__every=2,
        evaluate__samples=0,
    )
    measured = held_out(run)
    assert set(measured) == {2, 3}
    assert read_json(run.final / "burnish.json")["step"] == min(measured, key=lambda step: measured[step])


@pytest.mark.parametrize("setting", [{"train__early_stopping": 2}, {"train__final": "best"}])
def test_the_best_cannot_be_had_without_held_out_rows(
    setting: dict[str, Any], tmp_path: Path, model: Path
) -> None:
    data = small_data(tmp_path / "rows.jsonl")
    with pytest.raises(ConfigError, match="no rows are held out to judge by"):
        train(data, tmp_path / "run", model__name=str(model), data__held_out_share=0.0, **setting)
    assert not (tmp_path / "run").exists()


# docs/runs.md


def test_the_commands_about_runs_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small_data(Path("rows.jsonl"))
    page = ROOT / "docs" / "runs.md"
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    began, resumed, on_two, watched = (shlex.split(line) for line in lines)
    for words in (began, resumed, watched):
        monkeypatch.setattr("sys.argv", words)
        main_ends(capsys)
        run = RunFolder(Path("runs/watched" if words is watched else "runs/long"))
        assert run.report.exists()
        run.report.unlink()  # so that there is something to go on with
    assert on_two[0] == "torchrun"
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *on_two[1:]], check=True, capture_output=True
    )
    assert RunFolder(Path("runs/two")).report.exists()


def main_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main()
        raise SystemExit(0)
    assert not leaving.value.code, capsys.readouterr()
