"""Several ranks train to what one alone does: here two processes on one machine, which talk by gloo."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from burnish.files import read_lines
from burnish.pebble import CONVERSATIONS, HELD_OUT, rows
from burnish.run.folder import RunFolder
from burnish.tokens import TokenTable, micro_batches
from burnish.train import checkpoint

STEPS = 4


def table_of(*lengths: int) -> TokenTable:
    return TokenTable.from_documents((list(range(2, 2 + n)), [0.0] + [1.0] * (n - 1)) for n in lengths)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("ranks", [2, 3, 5])
@pytest.mark.parametrize("budget", [8, 30, 1000])
def test_ranks_deal_every_row_once_in_equally_many_batches(ranks: int, budget: int, share: bool) -> None:
    table = table_of(7, 7, 7, 12, 3, 25, 4)
    numbers = list(range(len(table)))
    dealt = [
        micro_batches(table, numbers, budget, share=share, rank=rank, ranks=ranks) for rank in range(ranks)
    ]
    assert len({len(batches) for batches in dealt}) == 1
    weight = sum(float(batch.target_weights.sum()) for batches in dealt for batch in batches)
    assert weight == sum(table.weight(row) for row in numbers)
    alone = micro_batches(table, numbers, budget, share=share)
    targets = sorted(int(t) for batches in dealt for batch in batches for t in batch.target_ids)
    if not share:
        assert targets == sorted(int(t) for batch in alone for t in batch.target_ids)


def test_a_rank_without_a_row_runs_a_token_that_counts_for_nothing() -> None:
    (batch,) = micro_batches(table_of(5), [0], 100, rank=1, ranks=2)
    assert len(batch.input_ids) == 1 and len(batch.target_ids) == 0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    for name, source, count in (("train", CONVERSATIONS, 30), ("held", HELD_OUT, 6)):
        lines = [json.dumps({"messages": row["messages"]}) for row in rows(source)[:count]]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def options(data: Path, out: Path, adapter: str) -> list[str]:
    settings = (
        "model.dtype=float32",
        "train.batch_size=8",
        f"train.max_steps={STEPS}",
        "train.micro_batch_tokens=150",
        "train.checkpoint_every=1",
        "train.keep_checkpoints=9",
        "train.learning_rate=1e-3",
        f"data.held_out=[{data}/held.jsonl]",
        "evaluate.samples=2",
        "evaluate.forgetting=none",
        "evaluate.max_new_tokens=8",
    )
    given = ["--data", f"{data}/train.jsonl", "--model", "pebble", "--adapter", adapter, "--out", str(out)]
    return given + [word for setting in settings for word in ("--set", setting)]


def burnish(*arguments: str, ranks: int) -> subprocess.Popen[str]:
    starts = [sys.executable, "-m"]
    if ranks > 1:
        starts += ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*starts, "burnish", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def trained(*arguments: str, ranks: int) -> str:
    process = burnish(*arguments, ranks=ranks)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-3000:]
    return out


def metrics(run: Path) -> list[dict[str, Any]]:
    return list(read_lines(RunFolder(run).metrics))


def state(run: Path, step: int) -> dict[str, torch.Tensor]:
    found = checkpoint.intact(RunFolder(run).checkpoints / checkpoint.name(step))
    assert found is not None
    return checkpoint.tensors_of(found)


def assert_same_training(run: Path, other: Path) -> None:
    """Steps of the same rows, losses and norms equal but for rounding, and so are all weights and moments."""
    for row, expected in zip(metrics(run), metrics(other), strict=True):
        assert row["kind"] == expected["kind"] and row["step"] == expected["step"]
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        if row["kind"] == "train":
            assert row["tokens"] == expected["tokens"]
            assert row["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-4)
    first, second = state(run, STEPS), state(other, STEPS)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        # Adam divides by the root of the second moment: where there is next to none, rounding decides.
        close = torch.isclose(tensor, second[name], rtol=1e-3, atol=2e-5)
        assert close.float().mean() > 0.999, name


@pytest.fixture(scope="module", params=["lora", "none"])
def alone(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / str(request.param)
    trained("train", *options(data, out, request.param), ranks=1)
    return out


def test_two_ranks_train_as_one_and_only_the_first_speaks(alone: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "two"
    said = trained("train", *options(data, out, alone.name), ranks=2)
    assert_same_training(out, alone)
    assert "2 ranks" in said and said.count("Talk to it") == 1
    ours, theirs = (load_file(next((run / "final").glob("*.safetensors"))) for run in (out, alone))
    assert {name: tensor.shape for name, tensor in ours.items()} == {n: t.shape for n, t in theirs.items()}
    first, second = (json.loads(RunFolder(run).evaluation.read_text("utf-8")) for run in (out, alone))
    for who in ("base", "tuned"):
        assert first[who]["held_out_loss"] == pytest.approx(second[who]["held_out_loss"], rel=1e-4)
        assert first[who]["stopped_share"] == second[who]["stopped_share"]
    assert len(list(read_lines(RunFolder(out).samples))) == len(list(read_lines(RunFolder(alone).samples)))
    assert not (out / ".lock").exists()


def test_a_run_goes_on_with_another_number_of_ranks(alone: Path, data: Path, tmp_path: Path) -> None:
    """Stopped by a signal after a step and resumed: the same rows, the same weights but for rounding."""
    before, after = (2, 1) if alone.name == "lora" else (1, 2)
    out = tmp_path / "moved"
    process = burnish("train", *options(data, out, alone.name), ranks=before)
    run = RunFolder(out)
    ends = time.monotonic() + 120
    while not any(row["kind"] == "train" for row in read_lines(run.metrics)):
        assert process.poll() is None and time.monotonic() < ends
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    if process.returncode:
        assert "--resume" in err and err.count("Stopped") <= 1
        trained("train", "--resume", str(out), ranks=after)
    assert_same_training(out, alone)


def test_a_mistake_is_explained_once(data: Path, tmp_path: Path) -> None:
    process = burnish(
        "train", *options(data, tmp_path / "run", "lora"), "--set", "data.train=[absent.jsonl]", ranks=2
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert err.count("error: ") - err.count("exitcode") <= 2 and err.count("fix: ") <= 1
    assert not (tmp_path / "run").exists()
