"""What a user meets at the command line: verbs, mistakes, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from burnish.cli.main import main

GOOD = {"messages": [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Good day."}]}
VERBS = ("quickstart", "train", "chat", "generate", "report", "pretrain")


def burnish(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str, str]:
    """Run the program in this process: its exit code, what it printed and what it complained about."""
    monkeypatch.setattr(sys, "argv", ["burnish", *arguments])
    with pytest.raises(SystemExit) as leaving:
        main()
        raise SystemExit(0)
    said = capsys.readouterr()
    return int(leaving.value.code or 0), said.out, said.err


def write_rows(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What the program says when it refuses: exit code 1, an explanation, and no traceback."""
    code, _, complaint = burnish(arguments, capsys, monkeypatch)
    assert code == 1, complaint
    assert complaint.startswith("error: ")
    assert "Traceback" not in complaint
    return complaint


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, text, _ = burnish(["--help"], capsys, monkeypatch)
    assert code == 0
    assert all(f"  {verb} " in text for verb in VERBS)


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['burnish', '--help']\n"
        "from burnish.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'peft', 'numpy', 'pydantic', 'yaml'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, text, _ = burnish(["--version"], capsys, monkeypatch)
    assert (code, text.strip()) == (0, "0.1.0")


BAD_ROWS = {
    "not JSON": ('{"messages": [', "not JSON"),
    "no messages": ({"prompt": "x"}, "has no messages"),
    "unknown role": ({"messages": [{"role": "robot", "content": "x"}]}, "unknown role 'robot'"),
    "empty assistant turn": (
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}]},
        "empty assistant turn",
    ),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_a_bad_row_is_named_with_file_and_line_and_nothing_is_left_behind(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row, reason = BAD_ROWS[kind]
    data = write_rows(tmp_path / "rows.jsonl", [*[GOOD] * 16, row, GOOD])
    complaint = refusal(["train", "--data", str(data), "--out", str(tmp_path / "run")], capsys, monkeypatch)
    assert f"{data}:17" in complaint
    assert reason in complaint
    assert not (tmp_path / "run").exists()


def test_a_missing_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "nothing.jsonl"
    complaint = refusal(
        ["train", "--data", str(missing), "--out", str(tmp_path / "run")], capsys, monkeypatch
    )
    assert f"{missing}: no such file" in complaint


def test_data_in_which_no_token_would_be_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [{"messages": [{"role": "user", "content": "Hello."}]}] * 3)
    complaint = refusal(["train", "--data", str(data), "--out", str(tmp_path / "run")], capsys, monkeypatch)
    assert "no token would be trained" in complaint
    assert "3 nothing to learn" in complaint


def test_an_unknown_config_key_is_met_with_the_nearest_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("train:\n  learning_rat: 1.0e-4\n", "utf-8")
    complaint = refusal(["train", str(config)], capsys, monkeypatch)
    assert str(config) in complaint
    assert "did you mean train.learning_rate" in complaint


def test_a_model_of_pickles_only_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}", "utf-8")
    torch.save({}, folder / "pytorch_model.bin")
    data = write_rows(tmp_path / "rows.jsonl", [GOOD])
    complaint = refusal(
        ["train", "--data", str(data), "--model", str(folder), "--out", str(tmp_path / "run")],
        capsys,
        monkeypatch,
    )
    assert "pickles only (pytorch_model.bin)" in complaint
    assert "runs whatever code is in it" in complaint


def test_a_model_that_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no such model folder" in refusal(["generate", "./nowhere", "Hello"], capsys, monkeypatch)


def test_a_run_is_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("kept", "utf-8")
    data = write_rows(tmp_path / "rows.jsonl", [GOOD] * 4)
    complaint = refusal(["train", "--data", str(data), "--out", str(run)], capsys, monkeypatch)
    assert "already holds a run" in complaint
    assert [path.name for path in run.iterdir()] == ["config.yaml"]
    assert (run / "config.yaml").read_text("utf-8") == "kept"


def test_resuming_takes_no_other_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    complaint = refusal(["train", "--resume", str(tmp_path), "--model", "pebble"], capsys, monkeypatch)
    assert "--resume goes with no other option" in complaint


def test_resuming_what_is_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "not a run folder" in refusal(["train", "--resume", str(tmp_path)], capsys, monkeypatch)


def test_wrong_usage_has_an_exit_code_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, complaint = burnish(["train", "--nonsense"], capsys, monkeypatch)
    assert code == 2
    assert "--nonsense" in complaint
