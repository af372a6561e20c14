"""What a user meets at the command line: verbs, mistakes, exit codes."""

from __future__ import annotations

import ast
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import burnish as package
from burnish.cli import quickstart
from burnish.cli.main import main
from burnish.config import AdapterConfig, RunConfig
from burnish.errors import BurnishError
from burnish.recipes.sft import sft

GOOD = {"messages": [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Good day."}]}
VERBS = """quickstart train sweep check plan show prepare chat generate merge report pretrain""".split()


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
    assert package.__version__ == "0.1.0"


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_has_a_short_name_and_no_words_of_a_programmer(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = verb.split()
    code, text, _ = burnish([*words, "-h"], capsys, monkeypatch)
    assert code == 0
    assert burnish([*words, "--help"], capsys, monkeypatch)[1] == text
    assert "list[" not in text and "-h, --help" in text


def test_without_a_verb_the_help_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, text, _ = burnish([], capsys, monkeypatch)
    assert code == 0 and all(f"  {verb} " in text for verb in VERBS)


def config_typed(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """The config with which the command would train."""
    asked: list[RunConfig] = []

    def sft(config: RunConfig, **_: object) -> None:
        asked.append(config)
        raise BurnishError("not trained")

    monkeypatch.setattr("burnish.recipes.sft.sft", sft)
    monkeypatch.setattr(sys, "argv", ["burnish", "train", *arguments])
    with pytest.raises(SystemExit):
        main()
    (config,) = asked
    return config


def test_what_is_set_most_has_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    options = "--epochs 2 --lr 1e-3 --rank 4 --seed 0 --max-length 99 --set train.epochs=7"
    config = config_typed(["a.jsonl", *options.split()], monkeypatch)
    assert (config.train.epochs, config.train.learning_rate) == (7, 1e-3)
    assert (config.adapter.rank, config.train.seed, config.tokens.max_length) == (4, 0, 99)


def test_rows_are_known_from_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_typed(["a.jsonl", "--data", "b.jsonl.gz"], monkeypatch)
    assert config.data.train == ("a.jsonl", "b.jsonl.gz")
    assert config.out == "runs/train"
    file = tmp_path / "mine.yml"
    file.write_text("data: {train: [c.jsonl]}\ntrain: {seed: 3}\n", "utf-8")
    config = config_typed([str(file), "--seed", "0"], monkeypatch)
    assert config.data.train == ("c.jsonl",)
    assert (config.out, config.train.seed) == ("runs/mine", 0)


def test_a_run_folder_is_not_taken_for_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my run").mkdir()
    (tmp_path / "my run" / "config.yaml").touch()
    complaint = refusal(["train", str(tmp_path / "my run")], capsys, monkeypatch)
    assert "is a run folder" in complaint
    assert f"burnish train --resume '{tmp_path / 'my run'}'" in complaint


@pytest.mark.parametrize(
    ("typed", "fix"),
    [
        ("sft rows.jsonl", "Type: burnish train"),
        ("fine-tune rows.jsonl", "Type: burnish train"),
        ("trian rows.jsonl", "Type: burnish --help"),
        ("train --epoch 3", "Type: burnish train --help"),
    ],
)
def test_wrong_usage_is_met_with_what_to_type(
    typed: str, fix: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, complaint = burnish(typed.split(), capsys, monkeypatch)
    assert code == 2
    assert complaint.startswith("error: ") and f"  fix: {fix}\n" in complaint


ROOMS = "cli config curate diagnose generate pebble plan recipes report run sweep train files.py".split()


def test_every_error_has_a_fix() -> None:
    """In these rooms where it is raised; in others it is found later, from what is known of the row."""
    package = Path(__file__).parents[1] / "src" / "burnish"
    errors = {kind.__name__ for kind in (BurnishError, *BurnishError.__subclasses__())}
    without = [
        f"{path.relative_to(package)}:{node.lineno}"
        for room in ROOMS
        for path in ([package / room] if room.endswith(".py") else (package / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in errors
        if "fix" not in {keyword.arg for keyword in node.keywords}
    ]
    assert without == []


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


@pytest.mark.parametrize("option", ["data.train=[missing.jsonl]", "data.held_out=[missing.jsonl]", "seed=0"])
def test_files_are_looked_at_before_a_model_is_loaded(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("burnish.recipes.sft.prepare_model", lambda *_: pytest.fail("a model was loaded"))
    rows = [] if option == "seed=0" else [str(write_rows(tmp_path / "rows.jsonl", [GOOD]))]
    options = ["--set", "train.seed=0" if option == "seed=0" else option]
    complaint = refusal(["train", *rows, *options, "--out", "run"], capsys, monkeypatch)
    assert ("data.train names no file" if not rows else "missing.jsonl: no such file") in complaint
    assert not Path("run").exists()


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


def test_commands_that_are_printed_can_be_typed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for verb in ("train", "quickstart"):
        complaint = refusal([verb, "--resume", "my run", "--set", "train.seed=1"], capsys, monkeypatch)
        assert f"fix: Type: burnish {verb} --resume 'my run'" in complaint


def test_a_page_of_tokens_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page, data = tmp_path / "page.html", write_rows(tmp_path / "rows.jsonl", [GOOD])
    page.write_text("kept", "utf-8")
    assert "exists already" in refusal(["show", str(data), "--html", str(page)], capsys, monkeypatch)
    assert page.read_text("utf-8") == "kept"
    page.unlink()
    page.symlink_to(tmp_path / "elsewhere")
    assert "exists already" in refusal(["show", str(data), "--html", str(page)], capsys, monkeypatch)
    assert not (tmp_path / "elsewhere").exists()


def test_the_quickstart_runs_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outs: list[str] = []

    def recipe(config: RunConfig, **_: object) -> None:
        assert config.out is not None
        outs.append(config.out)
        Path(config.out).mkdir(parents=True)
        raise BurnishError("not trained")

    monkeypatch.setattr("burnish.recipes.quickstart.quickstart", recipe)
    for arguments in ([], [], [], ["--out", "mine"]):
        monkeypatch.setattr(sys, "argv", ["burnish", "quickstart", *arguments])
        with pytest.raises(SystemExit):
            main()
    assert outs == ["runs/quickstart", "runs/quickstart-2", "runs/quickstart-3", "mine"]
    monkeypatch.setenv("RANK", "1")
    assert quickstart._free_folder() == Path("runs/quickstart")


def test_a_config_of_a_program_gets_the_rate_that_the_command_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[RunConfig] = []

    def open_run(config: RunConfig, *_: object, **__: object) -> None:
        asked.append(config)
        raise BurnishError("not trained")

    monkeypatch.setattr("burnish.recipes.sft.open_run", open_run)
    for kind, rate in (("lora", 2e-4), ("none", 2e-5), ("ia3", 3e-3)):
        with pytest.raises(BurnishError, match="not trained"):
            sft(RunConfig(adapter=AdapterConfig(kind=kind)), out="run")
        assert asked[-1].train.learning_rate == rate


IMPORTED = ("typer", "burnish.cli.train", "pydantic", "yaml", "torch", "transformers")


@pytest.mark.parametrize("raises", ["the signal", "an ImportError because of it", "it within a destructor"])
@pytest.mark.parametrize("module", IMPORTED)
def test_ctrl_c_while_modules_are_imported_says_nothing(module: str, raises: str) -> None:
    program = f"""
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            try:
                if {raises == "it within a destructor"}:
                    Last()
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
            except KeyboardInterrupt:
                if {raises == "the signal"}:
                    raise
                raise ImportError("the extension module failed to import")
class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
sys.meta_path.insert(0, Finder())
sys.argv = ["burnish", "train", "rows.jsonl"]
from burnish.cli.main import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert done.stderr == ""
