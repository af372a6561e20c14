"""The sections on what went in: the data's ledger, the config, the provenance, the command."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from burnish.diagnose import Measured
from burnish.diagnose.finding import percent
from burnish.numbers import duration, plural
from burnish.report.markup import Markup, element

MOST_ROWS = 200
"""Exceptional rows that are listed; of the others there is only the count."""

MOST_KEYS = 20
"""Unread keys that are named."""

MEANINGS = {
    "read": "rows in the data files",
    "trained": "rows that were trained on",
    "held out": "kept for measuring, never trained on",
    "also trained": "named as held out, but trained too: not measured",
    "too long": "did not fit into the longest allowed sequence",
    "rejected": "could not be read as a conversation",
    "shortened": "the earliest exchanges left out, so that the rest fits",
    "split": "several examples of whole exchanges, so that each fits",
    "cut": "cut off at the longest allowed sequence",
    "nothing to learn": "no turn in them is to be learnt",
    "duplicate": "the same as an earlier row",
}


def ledger_section(measured: Measured) -> Markup | None:
    """What became of the rows: counts, then every row that was not trained as it stands."""
    if not measured.ledger:
        return None
    lines = [row for row in measured.ledger if row["fate"] != "summary"]
    return element(
        "section",
        element("h2", "The data"),
        _counts(measured),
        _tokens(measured.summary),
        _unread(measured.summary),
        _exceptions(lines) if lines else None,
        id="data",
    )


def _counts(measured: Measured) -> Markup | None:
    counts, read = measured.counts, measured.counts.get("read", 0)
    if not counts:
        return None
    names = [name for name in MEANINGS if name in counts] + [n for n in counts if n not in MEANINGS]
    head = element(
        "tr",
        element("th", "Rows", scope="col"),
        element("th", "Count", scope="col", class_="number"),
        element("th", "Share", scope="col", class_="number"),
        element("th", "Meaning", scope="col", class_="meaning"),
    )
    body = [
        element(
            "tr",
            element("th", name, scope="row"),
            element("td", f"{counts[name]:,}", class_="number"),
            element("td", percent(counts[name] / read) if read else "", class_="number"),
            element("td", MEANINGS.get(name, ""), class_="meaning"),
        )
        for name in names
    ]
    return element("table", element("thead", head), element("tbody", *body), class_="counts")


def _tokens(summary: dict[str, Any]) -> Markup | None:
    tokens, trained = summary.get("tokens"), summary.get("trained_tokens")
    if not tokens or trained is None:
        return None
    words = (
        f"An epoch has {tokens:,} tokens; {trained:,} of them ({percent(trained / tokens)}) are trained, "
        "the others are only read."
    )
    if lost := summary.get("lost_tokens"):
        words += (
            f" The limit on their length cost {lost:,} more, {summary.get('lost_trained_tokens', 0):,} of "
            "them to be learnt."
        )
    return element("p", words)


def _unread(summary: dict[str, Any]) -> Markup | None:
    """The keys of rows and messages that nothing read."""
    keys = summary.get("not_read") or {}
    if not keys:
        return None
    named = [f"{key} ({plural(count, 'row')})" for key, count in list(keys.items())[:MOST_KEYS]]
    more = f" and {len(keys) - MOST_KEYS:,} more" if len(keys) > MOST_KEYS else ""
    return element("p", f"Not read: {', '.join(named)}{more}.")


def _exceptions(lines: list[dict[str, Any]]) -> Markup:
    rest = len(lines) - MOST_ROWS
    columns = ("Fate", "Row", "Reason")
    rows = [
        element(
            "tr",
            element("td", row["fate"], class_="nowrap"),
            element("td", f"{row.get('path', '')}:{row.get('row', '')}", class_="source"),
            element("td", str(row.get("reason") or "")),
        )
        for row in lines[:MOST_ROWS]
    ]
    return element(
        "details",
        element("summary", f"{plural(len(lines), 'row')} not trained as they stand"),
        element(
            "div",
            element(
                "table",
                element("thead", element("tr", *[element("th", name, scope="col") for name in columns])),
                element("tbody", *rows),
                class_="exceptions",
            ),
            class_="scroll",
            tabindex="0",
        ),
        element("p", f"and {rest:,} more, in ledger.jsonl", class_="about") if rest > 0 else None,
    )


def config_section(config: str) -> Markup | None:
    if not config.strip():
        return None
    return element(
        "section",
        element("h2", "Configuration"),
        element(
            "details",
            element("summary", "The resolved config, config.yaml"),
            element("pre", config, tabindex="0"),
        ),
        id="config",
    )


def provenance_section(provenance: dict[str, Any]) -> Markup | None:
    """Versions, times and hashes."""
    rows = [
        element("tr", element("th", name, scope="row"), element("td", value, class_=class_))
        for name, value, class_ in _facts(provenance)
        if value
    ]
    if not rows:
        return None
    return element(
        "section",
        element("h2", "Where it came from"),
        element("table", element("tbody", *rows), class_="provenance"),
        id="provenance",
    )


def _facts(provenance: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    """(name, value, CSS class)"""
    base = provenance.get("base") or {}
    yield "Base", " ".join(str(base[key]) for key in ("name", "revision") if base.get(key)), ""
    yield "Base, sha256", base.get("sha256") or "", "hash"
    for file in provenance.get("data") or []:
        rows = f" ({plural(file['rows'], 'row')})" if file.get("rows") is not None else ""
        yield "Data", f"{file.get('path', '')}{rows}", "source"
        yield "Data, sha256", file.get("sha256") or "", "hash"
    yield "Chat template, sha256", provenance.get("template_sha256") or "", "hash"
    yield "Config, sha256", provenance.get("config_sha256") or "", "hash"
    parameters = provenance.get("parameters") or {}
    if parameters.get("total"):
        share = percent(parameters.get("trainable", 0) / parameters["total"])
        words = f"{parameters.get('trainable', 0):,} of {parameters['total']:,} trained ({share})"
        yield "Parameters", words, "number-left"
    yield "Seed", "" if provenance.get("seed") is None else str(provenance["seed"]), "number-left"
    yield "Started", _time(provenance.get("started")), "number-left"
    yield "Finished", _time(provenance.get("finished")), "number-left"
    yield "Took", _took(provenance), "number-left"
    if provenance.get("tokens_per_second"):
        yield "Speed", f"{provenance['tokens_per_second']:,.0f} tokens a second in training", "number-left"
    versions = {"burnish": provenance.get("burnish"), "Python": provenance.get("python")}
    versions |= provenance.get("packages") or {}
    yield "Versions", ", ".join(f"{name} {v}" for name, v in versions.items() if v), ""
    yield "Machine", provenance.get("platform") or "", ""


def _took(provenance: dict[str, Any]) -> str:
    if provenance.get("seconds") is None:
        return ""
    training = provenance.get("training_seconds")
    within = f", {duration(training)} of it in training steps" if training is not None else ""
    return duration(provenance["seconds"]) + within


def _time(iso: str | None) -> str:
    """``2026-11-21T02:46:03+00:00`` -> ``2026-11-21 02:46:03 UTC``"""
    return (iso or "").replace("T", " ").replace("+00:00", " UTC")


def command_section(provenance: dict[str, Any]) -> Markup | None:
    if not provenance.get("command"):
        return None
    return element(
        "section",
        element("h2", "Do it again"),
        element("pre", provenance["command"], class_="command", tabindex="0"),
        element(
            "p",
            "With the same data, base and versions. Give another --out: a run is never written over.",
            class_="about",
        ),
        id="command",
    )
