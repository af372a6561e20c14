"""The README's commands, as they stand there, run in a folder of their own."""

from __future__ import annotations

import io
import re
import shlex
import sys
from pathlib import Path

import pytest

from burnish.cli.main import main
from burnish.files import read_json
from burnish.run.folder import RunFolder

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[list[str]]:
    """Every burnish command of the README, without comments and the path of the virtual environment."""
    lines = (
        line.strip().removeprefix(".venv/bin/")
        for block in blocks("sh")
        for line in block.replace("\\\n", " ").splitlines()
    )
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("burnish ")]


def run(arguments: list[str], typed: str = "") -> None:
    sys.argv, sys.stdin = ["burnish", *arguments], io.StringIO(typed)
    with pytest.raises(SystemExit) as leaving:
        main()
        raise SystemExit(0)
    assert not leaving.value.code, f"burnish {' '.join(arguments)}"


def test_the_commands_of_the_readme_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "stdin", sys.stdin)
    (row,) = blocks("json")
    Path("rows.jsonl").write_text(row * 8, "utf-8")
    Path("run.yaml").write_text("data: {train: [rows.jsonl]}\nout: runs/from-yaml\n", "utf-8")
    # Two steps teach nothing: its answers would go on to the limit, seven hundred of them twice.
    run(["quickstart", "--set", "train.max_steps=2", "--set", "evaluate.max_new_tokens=4"])
    done = []
    for arguments in commands():
        if "--resume" in arguments:
            continue  # of a run that was stopped; test_runs.py stops one
        run(arguments, typed="Where is the stapler?\n/quit\n" if arguments[0] == "chat" else "")
        done.append(arguments[0])
    assert {"chat", "train", "generate"} <= set(done)
    assert RunFolder(Path("runs/mine")).report.is_file()
    figures = read_json(RunFolder(Path("runs/quickstart")).evaluation)
    for who in ("base", "tuned"):
        assert {"held_out_accuracy", "cloze_accuracy", "prose_loss"} <= set(figures[who])
    assert "facts known (cloze)" in capsys.readouterr().out


def test_the_python_of_the_readme_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (row,) = blocks("json")
    Path("rows.jsonl").write_text(row * 2, "utf-8")
    (program,) = blocks("python")
    exec(compile(program, "README.md", "exec"), {})
    assert Path("runs/py/final").is_dir()


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"^make (\w+)", "\n".join(blocks("sh")), flags=re.MULTILINE):
        assert f"\n{target}:" in makefile
