"""Sweeps: refused before they start, killed and gone on with, counted right, drawn legibly."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from burnish.cli.main import main
from burnish.errors import BurnishError, ConfigError, DataError, Interrupted, RunError
from burnish.files import read_json
from burnish.pebble import CONVERSATIONS, HELD_OUT, rows
from burnish.recipes.quickstart import STARTS
from burnish.run.folder import LOCK, RunFolder
from burnish.run.screen import SilentScreen
from burnish.sweep.charts import BOTTOM, LEFT, LETTER, TOP, Box, curves, scatter
from burnish.sweep.combinations import Sweep, plan_sweep, run_name, split_values
from burnish.sweep.page import sweep_page
from burnish.sweep.sweep import run_sweep
from burnish.sweep.table import COLUMNS, Result, as_csv, best, cell, gathered, state, text_table
from test_docs import ROOT, blocks
from test_report import ATTACK, Outline
from test_runs import wait_for

PAGE = ROOT / "docs" / "experiments.md"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_example(tmp_path)
    return tmp_path


def write_example(folder: Path) -> None:
    """The page's config, and the files that it names."""
    (config,) = blocks(PAGE, "yaml")
    (folder / "run.yaml").write_text(config, "utf-8")
    for name, source, count in (("rows.jsonl", CONVERSATIONS, 12), ("held-out.jsonl", HELD_OUT, 6)):
        lines = [json.dumps({"messages": row["messages"]}) + "\n" for row in rows(source)[:count]]
        (folder / name).write_text("".join(lines), "utf-8")


def commands() -> list[list[str]]:
    lines = [line for block in blocks(PAGE, "sh") for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("burnish ")]


def burnish(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["burnish", *arguments])
    with pytest.raises(SystemExit) as leaving:
        main()
        raise SystemExit(0)
    return int(leaving.value.code or 0)


# Refused before anything is started


@pytest.mark.parametrize(
    ("over", "error", "says"),
    [
        (["adapter.rnk=1,2"], ConfigError, r"rnk=1: .*no such key; did you mean adapter\.rank"),
        (["adapter.rank=8,0"], ConfigError, "rank=0: .*greater than 0"),
        (["adapter.kind=lora,prompt", "adapter.layers=0-1"], ConfigError, "kind=prompt,layers=0-1: .*layers"),
        (["train.seed=0", "train.seed=1"], ConfigError, r"train\.seed is given twice"),
        (["train.seed="], ConfigError, "a value is empty"),
        (["train.seed=0,,1"], ConfigError, "a value is empty"),
        (["train.seed"], ConfigError, "no key and '='"),
        (["train.seed=0,0"], ConfigError, "seed=0 is asked for twice"),
        (["train.learning_rate=1e-4,0.0001"], ConfigError, "learning_rate=0.0001 is asked for twice"),
        (["train.learning_rate=null,2e-4"], ConfigError, "the same run as learning_rate=null"),
        (["evaluate.samples=1,2"], ConfigError, "given by --set and by --over"),
        (["out=a,b"], ConfigError, "its own folder"),
        ([], ConfigError, "nothing to vary"),
        (["data.train=[rows.jsonl],[gone.jsonl]"], DataError, r"gone\.jsonl cannot be read: No such file"),
        (["data.train=[],[rows.jsonl]"], ConfigError, "names no file"),
    ],
)
def test_a_mistake_is_found_before_the_first_run(
    over: list[str], error: type[BurnishError], says: str, here: Path
) -> None:
    with pytest.raises(error, match=says):
        plan_sweep("run.yaml", over, ["evaluate.samples=0"], here / "sweep")
    assert not (here / "sweep").exists()


def test_values_are_split_at_commas_outside_of_brackets_and_quotes() -> None:
    assert split_values("1e-4, 1e-3") == ["1e-4", "1e-3"]
    assert split_values("[q,v],auto,{a: 1, b: [2,3]}") == ["[q,v]", "auto", "{a: 1, b: [2,3]}"]
    assert split_values('"0-3,12",8-15') == ['"0-3,12"', "8-15"]
    assert split_values("it's.jsonl,b") == ["it's.jsonl", "b"]


def test_folders_have_names_that_a_person_finds_and_a_disk_takes() -> None:
    assert run_name({"adapter.kind": "lora", "train.learning_rate": 1e-4}) == "kind=lora,learning_rate=0.0001"
    assert run_name({"model.name": "pebble", "x.name": 1}) == "model.name=pebble,x.name=1"
    odd: list[Any] = ["../a", "a/b", "a b", "a-b", ["a", "b"], "a+b", "a,b", {"a": "b"}, "é", ".", "x" * 300]
    names = [run_name({"data.train": value}) for value in odd]
    assert len(set(names)) == len(odd)
    assert all(re.fullmatch(r"train=[\w.,=+~-]{1,120}", name, re.ASCII) for name in names)


def test_each_kind_is_swept_with_the_rate_that_the_quickstart_has_for_it(tmp_path: Path) -> None:
    over = ["adapter.kind=lora,none,ia3"]
    lora, none, ia3 = plan_sweep("quickstart", over, [], tmp_path).combinations
    rates = [one.config.train.learning_rate for one in (lora, none, ia3)]
    assert rates == [STARTS[kind]["train.learning_rate"] for kind in ("lora", "none", "ia3")]
    assert rates[0] != rates[1] != rates[2]
    (own,) = plan_sweep("quickstart", ["adapter.kind=ia3"], ["train.learning_rate=1"], tmp_path).combinations
    assert own.config.train.learning_rate == 1


# Killed, stopped, failed, and gone on with


class Watching(SilentScreen):
    """A screen that remembers warnings, and at each look at a run does something."""

    def __init__(self, at: Callable[[str], None] = lambda name: None) -> None:
        self.warned: list[str] = []
        self.at = at

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def progress(self, task: str, done: int, total: int, detail: str = "") -> None:
        if detail:
            self.at(detail.split()[0])


SET = ("train.max_steps=2", "train.checkpoint_every=1", "train.batch_size=4")
"""What the tests change in the page's example, to be quick."""


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], list[str]]:
    """The page's example: its sweep is killed in its first run, and started again. The second run fails, the
    third is killed, in the fourth the sweep is stopped; the third time it ends. Gives the folder in which it
    was started, the arguments, and what the second time warned of."""
    folder = tmp_path_factory.mktemp("sweep")
    write_example(folder)
    arguments = [*commands()[0], *[argument for pair in SET for argument in ("--set", pair)]]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        process = subprocess.Popen(
            [sys.executable, "-m", "burnish", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        sweep = planned(arguments)
        first, second, third, fourth = map(sweep.run, sweep.combinations)
        wait_for(lambda: (first.path / LOCK).exists(), process)
        process.kill()
        process.communicate()
        assert read_json(sweep.table)["runs"][0]["state"] == "waiting"
        second.path.mkdir()
        (second.path / "stray").touch()

        def disturb(name: str) -> None:
            lock = sweep.folder / name / LOCK
            if name == third.path.name and list(third.checkpoints.glob("step-*")) and lock.exists():
                os.kill(int(lock.read_text()), signal.SIGKILL)
            if name == fourth.path.name and lock.exists():
                os.kill(os.getpid(), signal.SIGINT)
                screen.at = lambda name: None

        screen = Watching(disturb)
        with pytest.raises(Interrupted, match=r"Go on with: burnish sweep again") as stop:
            run_sweep(sweep, screen, "burnish sweep again")
        assert stop.value.signal == signal.SIGINT
        states = [run["state"] for run in read_json(sweep.table)["runs"]]
        assert states == ["finished", "failed", "failed", "unfinished"]  # it did not wait for the fourth
        (second.path / "stray").unlink()
        results = run_sweep(planned(arguments), SilentScreen(), "")
        assert [result.state for result in results] == ["finished"] * 4
    return folder, arguments, screen.warned


def planned(arguments: list[str], over: tuple[str, ...] = (), sets: tuple[str, ...] = SET) -> Sweep:
    given = [value for name, value in pairwise(arguments) if name == "--over"]
    out = Path(arguments[arguments.index("--out") + 1])
    return plan_sweep(arguments[1], over or given, sets, out)


def test_what_failed_is_named_with_its_reason_and_the_others_go_on(disturbed: Any) -> None:
    _, _, warned = disturbed
    stray, killed = warned
    assert re.search(r"seed=1 failed: .* already holds files\n +why: A run is never overwritten", stray)
    assert re.search(r"failed: ended by SIGKILL, for want of memory perhaps", killed)


def test_a_run_that_was_killed_goes_on_from_its_checkpoint(disturbed: Any) -> None:
    folder, arguments, _ = disturbed
    sweep = folder / arguments[arguments.index("--out") + 1]
    first, _, third, _ = read_json(sweep / "sweep.json")["runs"]
    assert "Going on after step" in (sweep / f"{third['name']}.log").read_text("utf-8")
    # The first went on by itself when the sweep was killed, and was waited for; nobody saw its memory.
    assert "Going on" not in (sweep / f"{first['name']}.log").read_text("utf-8")
    assert first["peak"] == 0
    assert 1e8 < third["peak"] < 1e10


def test_the_table_says_what_the_runs_say(
    disturbed: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, arguments, _ = disturbed
    monkeypatch.chdir(folder)
    assert burnish([*arguments, "--json"], monkeypatch) == 0
    told = json.loads(capsys.readouterr().out)
    sweep = planned(arguments)
    assert told == read_json(sweep.table)
    for row, pair in zip(told["rows"], (sweep.combinations[:2], sweep.combinations[2:]), strict=True):
        runs = [RunFolder(sweep.run(one).path) for one in pair]
        losses = [read_json(run.evaluation)["tuned"]["held_out_loss"] for run in runs]
        spread = row["figures"]["held_out_loss"]
        assert [spread["low"], spread["high"], spread["count"]] == [min(losses), max(losses), 2]
        assert spread["mean"] == pytest.approx(sum(losses) / 2)
        parameters = read_json(runs[0].provenance)["parameters"]
        assert row["figures"]["trainable"]["mean"] == parameters["trainable"]
    before = {path: path.stat().st_mtime_ns for path in sweep.folder.glob("*/*")}
    assert burnish(arguments, monkeypatch) == 0
    printed = capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in sweep.folder.glob("*/*")}
    assert re.search(r"^kind +runs +held-out loss", printed, re.MULTILINE)
    assert all(one["adapter.kind"] in printed for one in (row["values"] for row in told["rows"]))
    assert len(list(csv.DictReader(io.StringIO((sweep.folder / "sweep.csv").read_text("utf-8"))))) == 2
    assert Outline(sweep.page.read_text("utf-8")).ids == ["pictures", "table"]


def test_a_sweep_of_something_else_is_refused(disturbed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, arguments, _ = disturbed
    monkeypatch.chdir(folder)
    kinds, seeds = (arg for arg in arguments if arg.startswith(("adapter.kind=", "train.seed=")))
    planned(arguments, (seeds, kinds + ",dora"))  # more values, in another order
    for over, says in (
        ((kinds,), "the keys of --over, which were adapter.kind, train.seed"),
        ((kinds, "train.seed=1,2"), "now leave out .*seed=0"),
    ):
        with pytest.raises(RunError, match=f"holds another sweep; .*{says}"):
            planned(arguments, over)
    with pytest.raises(RunError, match=r"--set, which was train\.max_steps=2"):
        planned(arguments, sets=())
    for name, says in (("run.yaml", "the config, which was that of"), ("rows.jsonl", r"rows\.jsonl")):
        path = folder / name
        was = path.read_text("utf-8")
        path.write_text(
            was.replace("evaluate", "track: [wandb]\nevaluate") + was[-300:] * (name != "run.yaml"), "utf-8"
        )
        with pytest.raises(RunError, match=f"changed since: {says}"):
            planned(arguments)
        path.write_text(was, "utf-8")
    arguments = ["sweep", "quickstart", *arguments[2:]]
    with pytest.raises(RunError, match=r"the base, which was run\.yaml"):
        planned(arguments)


def test_a_run_folder_of_another_config_is_not_taken_for_ours(here: Path) -> None:
    sweep = plan_sweep("run.yaml", ["train.seed=0"], [], here / "sweep")
    sweep.folder.mkdir()
    (sweep.folder / "stray").touch()
    with pytest.raises(RunError, match="already holds files"):
        run_sweep(sweep, SilentScreen(), "")


def test_the_other_commands_of_the_page_ask_for_what_can_be_run(tmp_path: Path) -> None:
    (_, *others) = commands()
    assert others
    for arguments in others:
        if "--resume" not in arguments:
            sets = [v for name, v in pairwise(arguments) if name == "--set"]
            given = [v for name, v in pairwise(arguments) if name == "--over"]
            assert len(plan_sweep(arguments[1], given, sets, tmp_path / "sweep").combinations) > 1


# The table and the page, of figures made up


def result(values: dict[str, Any], error: str = "", **figures: float) -> Result:
    if error:
        return Result(run_name(values), values, "failed", error)
    whole = {"trainable": 1000.0, "trainable_share": 0.01, "training_seconds": 9.0, "peak_memory": 0.5}
    return Result(run_name(values), values, "finished", figures=whole | figures)


def test_rows_have_the_mean_and_the_range_over_their_seeds() -> None:
    made = [
        result({"k": "a", "train.seed": 0}, held_out_accuracy=0.5, prose_change=0.01),
        result({"k": "b", "train.seed": 0}, held_out_accuracy=0.6, prose_change=-0.02),
        result({"k": "a", "train.seed": 1}, held_out_accuracy=0.3, prose_change=0.03),
        result({"k": "b", "train.seed": 1}, error="It broke."),
    ]
    a, b = gathered(made)
    accuracy, prose = (
        next(c for c in COLUMNS if c.key == key) for key in ("held_out_accuracy", "prose_change")
    )
    assert (a.values, state(a), state(b)) == ({"k": "a"}, "2", "1 of 2, 1 failed")
    assert cell(a, accuracy) == ("40.0", "30.0 to 50.0")
    assert cell(b, accuracy) == ("60.0", "")
    assert cell(a, prose)[0] == "+0.020"
    assert best([a, b], accuracy) == best([a, b], prose) == [False, True]
    line = next(csv.DictReader(io.StringIO(as_csv([a, b]))))
    assert (line["k"], line["finished"]) == ("a", "2")
    assert [float(line[f"held_out_accuracy{end}"]) for end in ("", "_min", "_max")] == [0.4, 0.3, 0.5]
    assert "held_out_loss" not in line
    text = text_table([a, b])
    assert "held-out loss" not in text
    assert "60.0*" in text
    first, second = text.splitlines()[3:5]
    assert first.index("+0.020") + len("+0.020") == second.index("\N{MINUS SIGN}0.020") + len("+0.020")


def test_a_narrow_terminal_gets_several_tables_with_every_column() -> None:
    made = [result({"k": k}, held_out_loss=1.0, held_out_accuracy=0.5, tokens_per_second=9.0) for k in "ab"]
    whole, narrow = text_table(gathered(made)), text_table(gathered(made), 40)
    assert max(map(len, narrow.splitlines())) <= 40 < max(map(len, whole.splitlines()))
    for title in ("held-out loss", "accuracy", "trained", "of all", "training", "speed", "memory"):
        assert whole.count(title) == narrow.count(title) == 1


def drawn_labels(svg: str) -> list[Box]:
    found = re.findall(r'<text class="name middle" x="([-\d.e+]+)" y="([-\d.e+]+)">([^<]*)<', svg)
    return [
        Box(float(x) - len(t) * LETTER / 2, float(y) - 9, float(x) + len(t) * LETTER / 2, float(y) + 2)
        for x, y, t in found
    ]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("width", [470, 340])
def test_labels_of_points_neither_overlap_nor_leave_the_picture(width: int, seed: int) -> None:
    draw = random.Random(seed)
    names = ("lora", "dora", "none", "ia3", "prompt", "prefix", "bottleneck")
    near = [(draw.choice((8e5, 8.2e5, 5e3)), draw.choice((0.5, 0.505))) for _ in names]
    made = [
        result({"adapter.kind": name}, trainable=weights, held_out_accuracy=accuracy)
        for name, (weights, accuracy) in zip(names, near, strict=True)
    ]
    column = next(c for c in COLUMNS if c.key == "held_out_accuracy")
    found = drawn_labels(scatter(gathered(made), column, width, "described"))
    assert len(found) == len(names)
    frame = Box(LEFT, TOP, width, 300 - BOTTOM)
    for number, box in enumerate(found):
        assert not box.outside(frame)
        assert not any(box.overlap(other) for other in found[:number])


def test_a_number_is_drawn_over_a_logarithm_where_it_spans_decades() -> None:
    column = next(c for c in COLUMNS if c.key == "held_out_loss")

    def places(values: list[float]) -> list[float]:
        made = [result({"x": value}, held_out_loss=value) for value in values]
        svg = curves("x", gathered(made), column, 470, "described")
        return [float(x) for x in re.findall(r"translate\(([\d.]+) ", svg)]

    assert places([1e-4, 1e-3, 1e-2])[1] == pytest.approx(sum(places([1e-4, 1e-2])) / 2, abs=0.2)
    assert places([2.0, 4.0, 6.0])[1] == pytest.approx(sum(places([2.0, 6.0])) / 2, abs=0.2)
    assert places([0.0, 5.0, 100.0])[1] < 100  # no logarithm of nothing


@pytest.mark.parametrize(
    ("names", "marks"), [(("none", "nf4"), None), (("a name that is too long", "b"), ["1", "2"])]
)
def test_rows_that_train_as_many_weights_stand_side_by_side(
    names: tuple[str, ...], marks: list[str] | None
) -> None:
    """And not above each other over one number of trained weights."""
    made = [result({"model.x": name}, held_out_loss=float(n)) for n, name in enumerate(names)]
    picture = sweep_page("t", "run.yaml", (), made)
    points = [mark for mark in re.findall("<path [^>]*>", picture) if "point c0" in mark]
    places = {mark.partition("translate(")[2].partition(" ")[0] for mark in points}
    assert len(points) == len(places) == 4  # for a wide screen and for a narrow one
    ticks = re.findall(r'<text class="label middle"[^>]*>([^<]*)<', picture)
    assert ticks == 2 * (marks or list(names))
    assert ('class="names"' in picture) == bool(marks)


def test_nothing_that_a_value_or_an_error_says_becomes_markup() -> None:
    made = [result({"data.train": text}, held_out_loss=1.0) for text in (ATTACK, "b")]
    html = sweep_page(ATTACK, ATTACK, (ATTACK,), [*made, result({"data.train": "c"}, error=ATTACK)])
    outline = Outline(html)
    assert not {"script", "img"} & set(outline.tags)
    assert outline.text.count(ATTACK) >= 5
    assert not re.search(r"https?://|@import|url\(", html.replace(ATTACK, ""))
    assert outline.ids == ["pictures", "table", "failed"]


def test_a_sweep_that_has_not_begun_has_a_page_and_a_table() -> None:
    made = [Result("seed=0", {"train.seed": 0})]
    assert "0 of 1 run finished" in Outline(sweep_page("t", "run.yaml", (), made)).text
    assert "0 of 1" in text_table(gathered(made))
