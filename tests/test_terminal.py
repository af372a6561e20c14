"""What came from outside reaches the terminal as text, and as nothing that steers it."""

from __future__ import annotations

import ast
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.cli import main as program
from burnish.cli.outcome import show_outcome
from burnish.cli.screen import TerminalScreen
from burnish.cli.terminal import HARMFUL, Terminal, visible
from burnish.errors import RunError
from burnish.files import append_line, write_json
from burnish.run.folder import RunFolder
from test_cli import burnish

PACKAGE = Path(program.__file__).parents[1]
EVIL = "\x1b]52;c;cm0gLXJm\x07\x1b[2J\x9b2J\u202egpj.exe[red]:key:"
"""Writes to the clipboard, clears the screen in two ways, and reorders what stands behind."""
SHOWN = r"\u001b]52;c;cm0gLXJm\u0007\u001b[2J\u009b2J\u202egpj.exe[red]:key:"


@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_visible_text_holds_nothing_that_steers_and_the_rest_is_as_it_was(text: str) -> None:
    shown = visible(text)
    assert not HARMFUL.search(shown)
    shown.encode()
    assert shown == "".join(letter if not HARMFUL.match(letter) else visible(letter) for letter in text)


@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_a_line_of_json_says_the_same_when_it_is_visible(text: str) -> None:
    line = visible(json.dumps({"text": text}, ensure_ascii=False))
    assert json.loads(line) == {"text": text}
    assert not HARMFUL.search(line)


def test_by_hand() -> None:
    assert visible(EVIL) == SHOWN
    assert visible("a\n\tb é 日本 👍 \u200f") == "a\n\tb é 日本 👍 \u200f"


def test_one_file_prints_and_no_other() -> None:
    """Neither through rich or typer, nor on a stream."""
    other = [path for path in PACKAGE.rglob("*.py") if path.name != "terminal.py"]
    for path in other:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None) or ""
                names = [module, *(alias.name for alias in node.names)]
                assert not [name for name in names if name.split(".")[0] == "rich"], path
            if isinstance(node, ast.Call) and path != PACKAGE / "config" / "__main__.py":
                assert ast.unparse(node.func) not in ("print", "input", "typer.echo", "typer.secho"), path
            if isinstance(node, ast.Attribute):
                assert ast.unparse(node) not in ("sys.stdout", "sys.stderr"), path


def harmless(capsys: pytest.CaptureFixture[str], times: int = 1) -> str:
    """What was printed, in which the text from outside stands so often, seen and not obeyed."""
    said = capsys.readouterr()
    text = said.out + said.err
    assert not HARMFUL.search(text)
    assert "".join(text.split()).count(SHOWN) >= times, text
    return text


def test_what_a_run_says_warns_and_measures(capsys: pytest.CaptureFixture[str]) -> None:
    screen = TerminalScreen()
    screen.say(EVIL)
    screen.warn(EVIL)
    screen.progress(EVIL, 1, 1, EVIL)
    harmless(capsys, 4)


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "400")
    screen = TerminalScreen()
    assert screen.terminal.interactive
    screen.progress(EVIL, 1, 2, EVIL)
    screen.close()
    said = capsys.readouterr().out
    assert SHOWN in said
    assert not {"\x1b]52", "\x07", "\x1b[2J", "\x9b", "\u202e"} & {part for part in EVIL if part in said}
    assert "\x1b]" not in said and "\x1b[2J" not in said


def test_the_outcome_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Answers are data: neither markup nor the name of a picture is replaced in them."""
    run = RunFolder(tmp_path / "my run")
    run.path.mkdir()
    write_json(run.evaluation, {"base": {}, "tuned": {}})
    write_json(run.provenance, {"seconds": 1.0, "peak_bytes": 1})
    for step in (0, 1):
        sample = {"step": step, "index": 0, "answer": EVIL, "stopped": True, "correct": None}
        append_line(run.samples, sample | {"prompt": [{"role": "user", "content": EVIL}]})
    terminal = Terminal()
    terminal._console.width = 300
    show_outcome(run, terminal)
    said = harmless(capsys, 3)
    assert f"burnish chat '{run.path}'" in said


def test_an_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answer = SimpleNamespace(text=EVIL, stopped=True)
    monkeypatch.setattr("burnish.generate.open_model", lambda *_, **__: (None, None))
    monkeypatch.setattr("burnish.generate.answer_all", lambda *_: [answer])
    code, out, _ = burnish(["generate", "m", "Hello"], capsys, monkeypatch)
    assert (code, out) == (0, SHOWN + "\n")


def test_answers_to_a_file_of_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"messages": [{"role": "user", "content": EVIL}]}) + "\n", "utf-8")
    answer = SimpleNamespace(text=EVIL, stopped=True)
    monkeypatch.setattr("burnish.generate.open_model", lambda *_, **__: (None, None))
    monkeypatch.setattr("burnish.generate.answer_all", lambda *_: [answer])
    code, out, _ = burnish(["generate", "m", "--data", str(data)], capsys, monkeypatch)
    assert code == 0 and not HARMFUL.search(out)
    row = json.loads(out)
    assert row["answer"] == row["messages"][0]["content"] == EVIL


def chatting(
    typed: list[str], say: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str = "m"
) -> None:
    lines = iter(typed)
    monkeypatch.setattr("builtins.input", lambda *_: next(lines))
    monkeypatch.setattr("burnish.generate.open_model", lambda *_, **__: (None, None))
    monkeypatch.setattr("burnish.generate.ChatSession.say", say)


def test_a_chat(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def say(self: Any, text: str, stream: Callable[[str], None]) -> Any:
        if text == "fail":
            raise RunError(EVIL)
        for letter in EVIL:
            stream(letter)
        return SimpleNamespace(stopped=True)

    chatting(["Hello", "fail", "/" + EVIL, "/quit"], say, monkeypatch)
    monkeypatch.setattr(sys, "argv", ["burnish", "chat", EVIL])
    with pytest.raises(SystemExit):
        program.main()
    harmless(capsys, 4)


def test_a_chat_knows_its_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chatting(["/help", "/hlep", "/quit"], lambda *_, **__: None, monkeypatch)
    code, out, _ = burnish(["chat", "m"], capsys, monkeypatch)
    assert code == 0
    assert out.count("/system TEXT sets a system prompt") == 2
    assert "There is no command /hlep; /help shows those that there are." in out


def test_what_is_typed_can_be_edited_and_had_again() -> None:
    """On a terminal of its own: an arrow to the left within a line, and one up to the line before."""
    pytest.importorskip("readline")
    ours, theirs = pty.openpty()
    asked = "from burnish.cli.terminal import Terminal; t = Terminal(); print([t.ask('you'), t.ask('you')])"
    process = subprocess.Popen(
        [sys.executable, "-c", asked],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(theirs)
    os.write(ours, b"Helo\x1b[Dl\n\x1b[A\n")
    said = b""
    while b"]" not in said.rpartition(b"['")[2] or b"['" not in said:
        said += os.read(ours, 1024)
    process.wait()
    os.close(ours)
    assert b"['Hello', 'Hello']" in said


def test_the_name_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["train", "--data", EVIL + ".jsonl"],
        ["show", EVIL],
        ["report", EVIL],
        ["check", EVIL],
    ):
        assert burnish_code(arguments, monkeypatch) == 1
        harmless(capsys)
    for arguments in ([EVIL], ["show", "a", EVIL], ["show", "--rows", EVIL]):
        assert burnish_code(arguments, monkeypatch) == 2
        harmless(capsys, 0)


def burnish_code(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["burnish", *arguments])
    with pytest.raises(SystemExit) as leaving:
        program.main()
    return int(leaving.value.code or 0)


def test_rows_that_are_shown_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "rows.jsonl"
    message = {"role": "assistant", "content": EVIL}
    rows = [{"messages": [{"role": "user", "content": EVIL}, message]}]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    for arguments in (["show", str(data)], ["show", str(data), "--json"], ["check", str(data)]):
        assert burnish_code(arguments, monkeypatch) == 0
        said = capsys.readouterr()
        assert not HARMFUL.search(said.out + said.err)
        assert r"\u001b" in said.out
    data.write_text(json.dumps({EVIL: 1}) + "\n" + json.dumps(rows[0]) + "\n", "utf-8")
    assert burnish_code(["check", str(data)], monkeypatch) == 1
    assert not HARMFUL.search(capsys.readouterr().out)


def test_a_fault_of_our_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    burnish_code(["--version"], monkeypatch)
    capsys.readouterr()
    error = ValueError(EVIL)
    sys.excepthook(ValueError, error, None)
    assert harmless(capsys).startswith("ValueError: ")
