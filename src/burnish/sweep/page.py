"""The page of a sweep: a picture of what its runs gave, the table, and what failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files

from burnish.numbers import plural
from burnish.report.document import document
from burnish.report.markup import Markup, element, joined
from burnish.sweep.charts import (
    WIDTHS,
    curves,
    equally_large,
    marker,
    numbered,
    numeric_key,
    scatter,
    series_name,
    series_of,
    side_by_side,
)
from burnish.sweep.table import (
    COLUMNS,
    COST,
    GIVEN,
    Column,
    Result,
    Row,
    best,
    cell,
    gathered,
    labels,
    present,
    shown,
    state,
)

SINGLE_WIDTH = 960
TITLES = {
    "held_out_accuracy": "Unseen questions answered right, %",
    "held_out_loss": "Loss on held-out answers, nats",
    "prose_change": "Forgetting: change of the loss on prose, nats",
    "cloze_change": "Forgetting: change of known facts, points",
}


def sweep_page(title: str, base: str, overrides: Sequence[str], results: Sequence[Result]) -> str:
    """One file that needs nothing but a browser. The same results give the same bytes."""
    rows = gathered(results)
    facts = [base, *overrides, _count(results)]
    opening = element(
        "header",
        element("p", "burnish sweep", class_="brand"),
        element("h1", title),
        element("p", " · ".join(facts), class_="facts"),
    )
    body = element("body", opening, element("main", _pictures(rows), _tables(rows), _failures(results)))
    style = files(__package__).joinpath("sweep.css").read_text("utf-8")
    return document(f"burnish sweep: {title}", body, style)


def _count(results: Sequence[Result]) -> str:
    done = sum(result.state == "finished" for result in results)
    whole = plural(len(results), "run")
    return whole if done == len(results) else f"{done} of {whole} finished"


def _pictures(rows: Sequence[Row]) -> Markup | None:
    """What the runs gave and, beside it, what they forgot."""
    done = [row for row in rows if row.figures]
    columns = [
        c
        for keys in (("held_out_accuracy", "held_out_loss"), ("prose_change", "cloze_change"))
        for c in _first(done, keys)
    ]
    if len(done) < 2 or not columns:
        return None
    key, names = numeric_key(done), labels(list(rows[0].values))
    draw: Callable[[Sequence[Row], Column, int, str], Markup]
    if key:
        over, draw = names[key], partial(curves, key)
    elif equally_large(done):
        over, draw = ", ".join(names.values()), side_by_side
    else:
        over, draw = "trained weights", scatter
    widths = WIDTHS if len(columns) > 1 else (SINGLE_WIDTH, WIDTHS[1])
    panels = []
    for column in columns:
        words = _in_words(done, column)
        drawn = [draw(done, column, width, words) for width in widths]
        good = f"{column.better} is better" if column.better else None
        heading = element("h3", TITLES[column.key], element("small", good) if good else None)
        panels.append(
            element("div", heading, *drawn, element("p", over, class_="axis-name step"), class_="panel")
        )
    several = any(spread.count > 1 for row in done for spread in row.figures.values())
    words = "Whiskers reach from the lowest to the highest seed; the point is their mean. " if several else ""
    words += " ".join(_in_words(done, column) for column in columns)
    return element(
        "section",
        element("h2", "What was trained, and what it gave" if draw is scatter else f"Over {over}"),
        element(
            "figure",
            _legend(done, key) if key else _names(done),
            element("div", *panels, class_="panels"),
            element("figcaption", words),
            class_="chart",
        ),
        id="pictures",
    )


def _first(rows: Sequence[Row], keys: Sequence[str]) -> list[Column]:
    """The first of these columns that was measured."""
    found = {column.key: column for column in present(rows)}
    return [found[key] for key in keys if key in found][:1]


def _in_words(rows: Sequence[Row], column: Column) -> str:
    winners = [row for row, good in zip(rows, best(rows, column), strict=True) if good]
    if not winners:
        return f"{TITLES[column.key]}: no difference between the runs."
    mean, _ = cell(winners[0], column)
    title = TITLES[column.key].split(",")[0]
    names = " and ".join(series_name(row.values) for row in winners)
    return f"{title}: best with {names} ({mean}\N{NO-BREAK SPACE}{column.unit})."


def _legend(rows: Sequence[Row], key: str) -> Markup | None:
    names = list(series_of(rows, key))
    if len(names) < 2:
        return None
    keys = [
        element(
            "span",
            element("svg", marker(8, 7, number), viewBox="0 0 16 14", aria_hidden="true"),
            name,
        )
        for number, name in enumerate(names)
    ]
    return element("p", *keys, class_="legend")


def _names(rows: Sequence[Row]) -> Markup | None:
    """What the numbers at the points stand for."""
    if not numbered(rows):
        return None
    return element("ol", *[element("li", series_name(row.values)) for row in rows], class_="names")


def _tables(rows: Sequence[Row]) -> Markup:
    """Two, since one with all columns would be wider than most screens."""
    parts = [("What it gave", GIVEN), ("What it cost", COST)]
    return element(
        "section",
        *[
            element("div", element("h2", title), _table(rows, present(rows, columns)), class_="part")
            for title, columns in parts
        ],
        element(
            "p",
            "Means over the seeds, and under them the lowest and the highest. The best of a column is green "
            f"and bold. {_meanings(present(rows))}",
            class_="about",
        ),
        id="table",
    )


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> Markup:
    named = labels(list(rows[0].values))
    head = element(
        "tr",
        *[element("th", label, scope="col") for label in named.values()],
        element("th", "runs", scope="col"),
        *[
            element("th", column.title, element("small", column.unit), scope="col", class_="number")
            for column in columns
        ],
    )
    marks = {column.key: best(rows, column) for column in columns}
    body = [
        element(
            "tr",
            *[element("th", shown(row.values[key]), scope="row") for key in named],
            element("td", state(row), class_="failed" if row.failed else None),
            *[_cell(row, column, marks[column.key][number]) for column in columns],
        )
        for number, row in enumerate(rows)
    ]
    table = element("table", element("thead", head), element("tbody", *body), class_="sweep")
    return element("div", table, class_="sideways", tabindex="0")


def _cell(row: Row, column: Column, good: bool) -> Markup:
    mean, spread = cell(row, column)
    return element(
        "td",
        element("span", mean, class_="best" if good else None),
        element("small", spread) if spread else None,
        class_="number",
    )


def _meanings(columns: Sequence[Column]) -> str:
    meanings = {
        "held_out_accuracy": "Accuracy: unseen questions answered right.",
        "prose_change": "Prose loss and cloze: tuned less base, so what was forgotten.",
        "peak_memory": "Memory: the most that the process of a run had at once.",
    }
    there = [column.key for column in COLUMNS if column in columns]
    return " ".join(meanings[key] for key in there if key in meanings)


def _failures(results: Sequence[Result]) -> Markup | None:
    failed = [result for result in results if result.state == "failed"]
    if not failed:
        return None
    items = [
        joined(element("dt", result.name), element("dd", result.error, class_="reason")) for result in failed
    ]
    return element("section", element("h2", "Failed"), element("dl", *items), id="failed")
