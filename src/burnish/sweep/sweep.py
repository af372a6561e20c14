"""The runs of a sweep, one for each combination of values, and their results side by side.

A sweep's folder holds a run folder a combination, named by its values, with a log beside it; ``base.yaml``,
the config as it was when the sweep began; and the table as ``sweep.json``, ``sweep.csv`` and ``sweep.html``,
written anew after each run. What has finished is read from the run folders, so a sweep can end anywhere.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

from burnish.errors import Interrupted
from burnish.files import open_to_append, read_json, write_json, write_whole, writing
from burnish.run.folder import LOCK, RunFolder
from burnish.run.interrupt import Stopped, interruptible
from burnish.run.screen import Screen
from burnish.sweep.combinations import QUICKSTART, Combination, Sweep
from burnish.sweep.page import sweep_page
from burnish.sweep.table import Result, as_csv, figures_of, gathered, labels
from burnish.train import checkpoint

TICK = 0.2
"""Seconds between looks at the run that is going on."""
LONGEST_LINE = 72
TAIL = 2**16
"""Bytes of the end of a log in which the reason of a failure is looked for."""


def run_sweep(sweep: Sweep, screen: Screen, resume_command: str) -> list[Result]:
    """Run what has not finished yet, one after the other, and return all results. A run that fails is
    reported and stands in the table; the others go on. ``resume_command``: the command that was typed. Raises
    ``Interrupted`` where the person stops it, once the run that was going on has saved its state."""
    with RunFolder(sweep.folder).locked():
        results = _opened(sweep)
        total = len(results)
        with interruptible() as stop_asked:
            for number, (combination, result) in enumerate(zip(sweep.combinations, results, strict=True)):
                if result.state != "finished":

                    def report_line(line: str, number: int = number, name: str = combination.name) -> None:
                        screen.progress("Sweep", number, total, f"{name}  {shorten(line, LONGEST_LINE)}")

                    results[number] = _run_one(sweep, combination, result, stop_asked, report_line)
                    _write(sweep, results)
                    if results[number].state == "failed":
                        screen.warn(f"{combination.name} failed: {results[number].error}")
                if stop_asked():
                    done = sum(result.state == "finished" for result in results)
                    screen.say(f"Stopped at {combination.name}; {done} of {total} runs have finished.")
                    found = checkpoint.find(sweep.run(combination).checkpoints).checkpoint
                    raise Interrupted(found.step if found else 0, resume_command, stop_asked())
        screen.progress("Sweep", total, total)
        return results


def _opened(sweep: Sweep) -> list[Result]:
    """Prepare the folder, and return the results that it holds."""
    before: dict[str, dict[str, Any]] = {}
    if sweep.table.is_file():
        before = {row["name"]: row for row in read_json(sweep.table)["runs"]}
    else:
        RunFolder(sweep.folder).require_free()
        if sweep.base != QUICKSTART:
            write_whole(sweep.base_file, Path(sweep.base).read_bytes())
    results = []
    for combination in sweep.combinations:
        peak = before.get(combination.name, {}).get("peak", 0)
        result = Result(combination.name, combination.values, peak=peak)
        results.append(_finished(sweep.run(combination), result) or result)
    _write(sweep, results)
    return results


def _finished(run: RunFolder, result: Result) -> Result | None:
    """The result with its figures, where the run has ended."""
    if not run.finished:
        return None
    return replace(result, state="finished", figures=figures_of(run, result.peak))


def _run_one(
    sweep: Sweep,
    combination: Combination,
    result: Result,
    stop_asked: Callable[[], int],
    report_line: Callable[[str], None],
) -> Result:
    """Begin or resume one run, and return its result."""
    run, log = sweep.run(combination), sweep.log(combination)
    while _is_locked(run):  # by what a sweep that was killed left behind
        report_line(f"waiting for the process that works in {run.path}")
        if stop_asked():
            return replace(result, state="unfinished")
        time.sleep(TICK)
    if done := _finished(run, result):
        return done
    begins = log.stat().st_size if log.exists() else 0
    arguments = combination.resume_arguments if run.config.is_file() else combination.begin_arguments
    code, peak = _child(arguments, log, stop_asked, lambda: report_line(_last_line(log, begins)))
    result = replace(result, peak=max(result.peak, peak))
    if done := _finished(run, result):
        return done
    if stop_asked():
        return replace(result, state="unfinished")
    return replace(result, state="failed", error=_reason(code, log, begins))


def _is_locked(run: RunFolder) -> bool:
    """Whether another process holds the run folder."""
    try:
        with (run.path / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _child(
    arguments: Sequence[str], log: Path, stop_asked: Callable[[], int], watch: Callable[[], None]
) -> tuple[int, int]:
    """Run burnish in a process of its own; returns its exit code and its peak memory in bytes.

    It is out of reach of the terminal's Ctrl-C, which would otherwise come twice: from there and from us.
    """
    command = [sys.executable, "-m", "burnish", *arguments]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with writing(str(log)), open_to_append(log) as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    handed_on = ended = False
    while not ended:
        try:
            # Not by the Popen: only wait4 tells of the memory, and only once.
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            ended = pid != 0
            if ended:
                break
            if stop_asked() and not handed_on:
                os.kill(process.pid, stop_asked())
                handed_on = True
            watch()
            time.sleep(TICK)
        except Stopped as again:  # the second signal, at which it stops at once
            os.kill(process.pid, again.signum)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _lines(log: Path, begins: int) -> list[str]:
    """The end of what was written after the first ``begins`` bytes, without empty lines."""
    with log.open("rb") as file:
        file.seek(max(begins, log.stat().st_size - TAIL))
        return [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]


def _last_line(log: Path, begins: int) -> str:
    lines = _lines(log, begins)
    return lines[-1].strip() if lines else ""


def _reason(code: int, log: Path, begins: int) -> str:
    """Why a run failed: the error that it explained, or else the last that it said."""
    lines = _lines(log, begins)
    starts = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    if starts:
        return "\n".join([lines[starts[-1]].removeprefix("error: "), *lines[starts[-1] + 1 :]])
    if code < 0:
        why = ", for want of memory perhaps" if code == -signal.SIGKILL else ""
        return f"ended by {signal.Signals(-code).name}{why}"
    return lines[-1].strip() if lines else f"exit code {code}, without a word"


def document(sweep: Sweep, results: Sequence[Result]) -> dict[str, Any]:
    """What ``sweep.json`` holds: what was asked for, every run, and the rows of the table."""
    return {
        "base": sweep.base,
        "set": list(sweep.overrides),
        "keys": list(sweep.keys),
        "data": sweep.data,
        "runs": [asdict(result) for result in results],
        "rows": [asdict(row) for row in gathered(results)],
    }


def _write(sweep: Sweep, results: Sequence[Result]) -> None:
    title = f"{sweep.folder.resolve().name}: {', '.join(labels(sweep.keys).values())}"
    write_json(sweep.table, document(sweep, results))
    write_whole(sweep.folder / "sweep.csv", as_csv(gathered(results)).encode())
    page = sweep_page(title, sweep.base, sweep.overrides, results)
    write_whole(sweep.page, page.encode("utf-8", "replace"))
