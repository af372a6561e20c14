"""The loss curves, with what they show in words for those who cannot see them."""

from __future__ import annotations

from burnish.diagnose import Measured
from burnish.numbers import plural
from burnish.report.curves import loss_chart, rate_chart, smoothed, window
from burnish.report.markup import Markup, element

WIDTHS = (960, 340)
"""For a desktop and for a phone; the style sheet shows one of them."""


def losses_section(measured: Measured) -> Markup | None:
    train, held_out = measured.train, measured.held_out
    if len(train) + len(held_out) < 2:
        return None
    words, rates = _in_words(measured), _rate_in_words(measured)
    return element(
        "section",
        element("h2", "Loss"),
        _legend(measured),
        element(
            "figure",
            *[loss_chart(train, held_out, width, words) for width in WIDTHS],
            element("p", "Learning rate", class_="axis-name") if train else None,
            *[rate_chart(train, held_out, width, rates) for width in WIDTHS if train],
            element("p", "Step", class_="axis-name step"),
            element("figcaption", words),
            class_="chart",
        ),
        id="losses",
    )


def _legend(measured: Measured) -> Markup:
    steps = window(len(measured.train))
    train = f"training, mean of {steps} steps (faint: each step)" if steps > 1 else "training, each step"
    return element(
        "p",
        "Nats a trained token. ",
        element("span", element("span", class_="key train"), train) if measured.train else None,
        element("span", element("span", class_="key held-out"), "held out") if measured.held_out else None,
        class_="legend",
    )


def _in_words(measured: Measured) -> str:
    parts = []
    if measured.train:
        curve = smoothed([(row["step"], row["loss"]) for row in measured.train])
        went = f"from {curve[0][1]:.2f} to {curve[-1][1]:.2f}"
        parts.append(f"Training loss went {went} over {plural(len(curve), 'step')}.")
    if measured.held_out:
        points = measured.held_out
        best = min(points, key=lambda row: row["loss"])
        went = f"from {points[0]['loss']:.2f} to {points[-1]['loss']:.2f}"
        where = f"step {best['step']:,}" if best["step"] else "step 0, before training"
        parts.append(f"Held-out loss went {went}; it was lowest at {where} ({best['loss']:.2f}).")
    return " ".join(parts)


def _rate_in_words(measured: Measured) -> str:
    rates = [row["learning_rate"] for row in measured.train]
    return f"Learning rate: at most {max(rates):g}, {rates[-1]:g} at the end." if rates else ""
