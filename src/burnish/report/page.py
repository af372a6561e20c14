"""The report of a run: its opening and its sections, in order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish.diagnose import Finding, Measured, findings_of, verdict
from burnish.diagnose.measured import read_object
from burnish.files import write_whole
from burnish.numbers import duration, plural
from burnish.report.answers import answers_section
from burnish.report.document import document
from burnish.report.examples import examples_section
from burnish.report.figures import figures_section
from burnish.report.findings import findings_section
from burnish.report.inputs import command_section, config_section, ledger_section, provenance_section
from burnish.report.losses import losses_section
from burnish.report.markup import Markup, element, joined
from burnish.run.folder import RunFolder


def write_report(run: RunFolder) -> Path:
    """Write ``run.report``, one file that needs nothing else, and return its path.

    Parts of the run that are missing are left out. The same folder gives the same bytes. Raises
    ``RunError`` where a file of the run is no JSON.
    """
    config = run.config.read_text(encoding="utf-8", errors="replace") if run.config.is_file() else ""
    html = page(Measured.of(run), config, read_object(run.provenance))
    # A half of a surrogate pair, which JSON can hold and UTF-8 cannot, becomes "?".
    write_whole(run.report, html.encode("utf-8", "replace"))
    return run.report


def page(measured: Measured, config: str, provenance: dict[str, Any]) -> str:
    found = findings_of(measured)
    sections = [
        figures_section(measured),
        losses_section(measured),
        answers_section(measured),
        findings_section(found),
        examples_section(measured),
        ledger_section(measured),
        config_section(config),
        provenance_section(provenance),
        command_section(provenance),
    ]
    title = f"{_base_name(provenance)}, fine-tuned"
    body = element(
        "body",
        _opening(title, measured, provenance, found),
        element("main", *sections),
        element("footer", element("p", f"Written by burnish {provenance.get('burnish', '')}".rstrip() + ".")),
    )
    return document(f"burnish: {title}", body)


def _opening(title: str, measured: Measured, provenance: dict[str, Any], found: Sequence[Finding]) -> Markup:
    return element(
        "header",
        element("p", "burnish", class_="brand"),
        element("h1", title),
        element("p", verdict(found, measured.evaluation), class_="verdict", id="verdict"),
        element("p", " · ".join(_facts(measured, provenance)), class_="facts"),
        _count_of(found),
    )


def _facts(measured: Measured, provenance: dict[str, Any]) -> list[str]:
    """The run in a line."""
    trained, train = measured.counts.get("trained"), measured.train
    facts = [str(provenance["started"])[:10]] if provenance.get("started") else []
    if trained:
        facts.append(f"{plural(trained, 'row')} trained on")
    if train:
        facts.append(f"{plural(train[-1]['step'], 'step')}, {train[-1]['epoch']:.3g} epochs")
    if provenance.get("seconds") is not None:
        facts.append(duration(provenance["seconds"]))
    return facts


def _count_of(found: Sequence[Finding]) -> Markup | None:
    """How many findings of each kind, leading to them."""
    names = {"problem": "problem", "warning": "warning", "good": "good sign"}
    badges = [
        element("a", plural(count, name), href="#findings", class_=f"badge {severity}")
        for severity, name in names.items()
        if (count := sum(finding.severity == severity for finding in found))
    ]
    return element("p", joined(*badges), class_="badges") if badges else None


def _base_name(provenance: dict[str, Any]) -> str:
    name = str((provenance.get("base") or {}).get("name") or "A model")
    return name.rstrip("/").rsplit("/", 1)[-1] or name
