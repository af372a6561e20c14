"""The report of a run folder made by hand: whole, safe, self-contained, the same each time."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from burnish.files import write_json, write_lines
from burnish.numbers import duration, signed, ticks
from burnish.report import write_report
from burnish.report.curves import loss_chart, smoothed, thinned, window
from burnish.report.markup import Markup, element
from burnish.run.folder import RunFolder

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg/onload=alert(3)>&amp;"
SECTIONS = ["figures", "losses", "answers", "findings", "examples", "data", "config", "provenance", "command"]
VOID = {"meta", "br", "circle", "line", "rect", "polyline", "path"}


class Outline(HTMLParser):
    """What stands in a page; an element that is not closed, or closed out of turn, fails."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def a_sample(
    step: int, index: int, answer: str, correct: bool | None, stopped: bool = True
) -> dict[str, Any]:
    return {
        "step": step,
        "who": "tuned" if step else "base",
        "index": index,
        "prompt": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": f"Question {index}? {ATTACK}"},
        ],
        "answer": answer,
        "stopped": stopped,
        "reference": f"Reference {index} {ATTACK}",
        "correct": correct,
    }


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path)
    run.config.write_text(f"model:\n  name: pebble\n# {ATTACK}\n", encoding="utf-8")
    steps = [
        {
            "kind": "train",
            "step": step,
            "epoch": step / 20,
            "loss": 0.4 + 3 * math.exp(-step / 10),
            "learning_rate": 2e-4 * (1 - step / 81),
            "grad_norm": 1.0,
            "tokens": 900,
            "trained_tokens": 400,
            "seconds": 0.5,
        }
        for step in range(1, 81)
    ]
    points = [(0, 3.2), (20, 1.1), (40, 0.8), (60, 0.7), (80, 0.69)]
    write_lines(run.metrics, steps + [{"kind": "held_out", "step": s, "loss": loss} for s, loss in points])
    base = [a_sample(0, i, f"base {i} {ATTACK}", False, stopped=False) for i in range(8)]
    tuned = [a_sample(80, i, f"tuned {i} {ATTACK}", i % 2 == 0) for i in range(8)]
    write_lines(run.samples, base + tuned)
    tokens = [("<|user|>", False), ("Hi\n", False), (ATTACK, False), (" there", True), ("<|end|>", True)]
    marked = [{"text": text, "trained": trained} for text, trained in tokens]
    write_lines(run.examples, [{"source": f"rows.jsonl:{i}", "tokens": marked} for i in (1, 2)])
    odd = [
        {"fate": "too long", "path": "rows.jsonl", "row": row, "reason": f"{ATTACK} {row} tokens"}
        for row in range(250)
    ]
    counts = {"read": 9000, "trained": 8700, "held out": 50, "too long": 250}
    summary = {"fate": "summary", "counts": counts, "tokens": 123456, "trained_tokens": 45678}
    write_lines(run.ledger, [*odd, summary])
    shares = {"held_out_accuracy": 0.02, "held_out_accuracy_interval": [0.01, 0.04]}
    figures = shares | {
        "held_out_questions": 600,
        "prose_loss": 3.0,
        "held_out_loss": 3.2,
        "stopped_share": 0.0,
    }
    after = {"held_out_accuracy": 0.5, "held_out_accuracy_interval": [0.46, 0.54], "held_out_loss": 0.69}
    write_json(run.evaluation, {"base": figures, "tuned": figures | after | {"stopped_share": 1.0}})
    write_json(
        run.provenance,
        {
            "burnish": "0.1.0",
            "command": f"burnish train rows.jsonl '{ATTACK}'",
            "started": "2026-11-21T02:46:03+00:00",
            "finished": "2026-11-21T02:47:36+00:00",
            "seconds": 93.1,
            "python": "3.11.7",
            "platform": "Linux",
            "packages": {"torch": "2.13.0"},
            "seed": 0,
            "base": {"name": f"models/pebble{ATTACK}", "sha256": "ab" * 32},
            "data": [{"path": "rows.jsonl", "sha256": "cd" * 32, "rows": 9000}],
            "template_sha256": "ef" * 32,
            "config_sha256": "01" * 32,
            "parameters": {"total": 5868800, "trainable": 400000},
            "tokens_per_second": 4200.0,
            "training_seconds": 60.2,
        },
    )
    return run


def written(run: RunFolder) -> str:
    path = write_report(run)
    assert path == run.report
    return path.read_text(encoding="utf-8")


def test_every_section_is_there_in_order(run: RunFolder) -> None:
    outline = Outline(written(run))
    assert [name for name in outline.ids if name in SECTIONS] == SECTIONS
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.tags.count("h1") == 1


def test_what_was_measured_is_shown(run: RunFolder) -> None:
    text = Outline(written(run)).text.replace("\N{NO-BREAK SPACE}", " ")
    for shown in (
        "The tuned model answers 50.0 % of unseen questions right, up from 2.0 %",
        "+48.0 points",
        "46.0 to 54.0",
        "✓ right",
        "✗ wrong",
        "did not stop",
        "Right answers: 0 of 8 before, 4 after.",
        "Be short.",
        "2 more prompts",
        "2 of 5 tokens trained",
        "Hi↵",
        "250 rows not trained as they stand",
        "and 50 more",
        "An epoch has 123,456 tokens",
        "400,000 of 5,868,800 trained (6.8 %)",
        "1 min 33 s",
        "burnish train rows.jsonl",
    ):
        assert shown in text


def test_nothing_that_a_model_or_a_file_says_becomes_markup(run: RunFolder) -> None:
    html = written(run)
    outline = Outline(html)
    assert not {"script", "img", "iframe", "object", "link", "a1"} & set(outline.tags)
    assert not [name for name, _ in outline.attributes if name.startswith("on")]
    # Every place that holds the attack shows it, letter by letter.
    assert outline.text.count(ATTACK) > 20


def test_nothing_is_loaded_from_elsewhere(run: RunFolder) -> None:
    html = written(run)
    assert not re.search(r"https?://|//[a-z]+\.", html.replace(ATTACK, ""))
    assert not re.search(r"@import|url\(", html)
    assert {name for name, _ in Outline(html).attributes}.isdisjoint({"src", "srcset", "action", "data"})
    assert "default-src &#x27;none&#x27;" in html


def test_every_picture_is_described_or_hidden(run: RunFolder) -> None:
    for svg in re.findall(r"<svg[^>]*>", written(run)):
        assert re.search(r'role="img" aria-label="[^"]{20,}"', svg) or 'aria-hidden="true"' in svg


def test_the_same_folder_gives_the_same_bytes(run: RunFolder) -> None:
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


PARTS = ["metrics", "samples", "examples", "ledger", "evaluation", "provenance"]


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_left_out(run: RunFolder, part: str) -> None:
    getattr(run, part).unlink()
    gone = {
        "metrics": {"losses"},
        "samples": {"answers"},
        "examples": {"examples"},
        "ledger": {"data"},
        "evaluation": {"figures"},
        "provenance": {"provenance", "command"},
    }[part]
    assert set(Outline(written(run)).ids) & set(SECTIONS) == set(SECTIONS) - gone


@pytest.mark.parametrize("part", PARTS)
def test_an_empty_part_does_no_harm(run: RunFolder, part: str) -> None:
    getattr(run, part).write_text("{}" if part in ("evaluation", "provenance") else "")
    Outline(written(run))


def test_a_run_with_its_config_alone_has_a_page(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.config.write_text("model: {name: pebble}\n")
    outline = Outline(written(run))
    assert [name for name in outline.ids if name in SECTIONS] == ["config"]
    assert "has not finished" in outline.text


def test_an_unfinished_run_has_a_page(run: RunFolder) -> None:
    write_json(run.evaluation, {"base": {"held_out_loss": 3.2}})
    write_lines(run.samples, [a_sample(0, 0, "only the base", None)])
    outline = Outline(written(run))
    assert "has not finished" in outline.text
    assert "answers" not in outline.ids


def test_odd_text_is_written(run: RunFolder) -> None:
    odd = "bell \a, right-to-left \u202e, \u2067 half a pair"
    write_lines(run.samples, [a_sample(0, 0, "base", None), a_sample(80, 0, odd, None)])
    run.samples.write_text(run.samples.read_text().replace("half", "\\ud800 half"))
    html = written(run)
    assert "bell ␇" in html
    assert "? half a pair" in html


def test_a_very_long_example_is_shortened(run: RunFolder) -> None:
    tokens = [{"text": " word", "trained": False}] * 5000 + [{"text": "yes", "trained": True}]
    write_lines(run.examples, [{"source": "rows.jsonl:1", "tokens": tokens}])
    html = written(run)
    assert "[4,800 more such tokens]" in html
    assert html.count('class="token"') == 201


def test_elements_escape_all_but_markup() -> None:
    assert element("p", "1 < 2", Markup("<b>x</b>"), None) == "<p>1 &lt; 2<b>x</b></p>"
    assert element("a", href='"><x', title=None) == '<a href="&quot;&gt;&lt;x"></a>'


def test_smoothing_keeps_a_straight_line_but_for_its_ends() -> None:
    line = [(float(step), 2.0 * step) for step in range(100)]
    half = window(100) // 2
    inner = slice(half, -half)
    assert smoothed(line)[inner] == [pytest.approx(point) for point in line[inner]]
    assert smoothed(line)[0][1] == pytest.approx(half)


def test_thinning_keeps_the_extremes() -> None:
    points = [(float(step), 1.0) for step in range(10_000)]
    points[4321], points[8765] = (4321.0, 9.0), (8765.0, 0.1)
    kept = thinned(points, 400)
    assert len(kept) <= 400
    assert {points[4321], points[8765]} <= set(kept)
    assert kept == sorted(kept)


@pytest.mark.parametrize("losses", [[1.0, 1.0], [0.0, 0.0], [1e-9, 3e4]])
def test_any_range_of_losses_can_be_drawn(losses: list[float]) -> None:
    rows = [{"step": step, "loss": loss} for step, loss in enumerate(losses)]
    assert "nan" not in loss_chart(rows, [], 340, "described")


def test_numbers() -> None:
    assert ticks(0, 3.7, 5) == [0, 1, 2, 3]
    assert ticks(0.31, 0.52, 4) == [0.35, 0.4, 0.45, 0.5]
    assert ticks(2, 2, 4) == [2]
    assert signed(-0.0428, 3) == "\N{MINUS SIGN}0.043"
    assert signed(0.0001, 3) == "\N{PLUS-MINUS SIGN}0.000"
    assert (duration(9.04), duration(93.1), duration(7260)) == ("9.0 s", "1 min 33 s", "2 h 1 min")
