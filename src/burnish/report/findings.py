"""The findings, each with its evidence, cause and fix."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.diagnose import Finding
from burnish.report.markup import Markup, element

SIGNS = {"problem": "✗", "warning": "!", "good": "✓"}


def findings_section(findings: Sequence[Finding]) -> Markup | None:
    if not findings:
        return None
    return element(
        "section",
        element("h2", "Findings"),
        element("p", "Each follows from the run's own measurements; the worst come first.", class_="about"),
        *[_finding(finding) for finding in findings],
        id="findings",
    )


def _finding(finding: Finding) -> Markup:
    parts = [("Measured", finding.evidence), ("Why", finding.cause), ("What to do", finding.fix)]
    rows = [
        element("div", element("dt", name), element("dd", words, dir="auto"))
        for name, words in parts
        if words
    ]
    sign = element("span", SIGNS[finding.severity], class_="sign", aria_hidden="true")
    return element(
        "article",
        element(
            "h3",
            element("span", sign, finding.severity, class_=f"badge {finding.severity}"),
            element("span", finding.symptom),
        ),
        element("dl", *rows),
        class_=f"finding {finding.severity}",
    )
