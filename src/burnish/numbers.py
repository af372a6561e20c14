"""Numbers as a reader wants them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

MINUS = "\N{MINUS SIGN}"


def signed(value: float, digits: int) -> str:
    """``+0.043``, with a true minus sign. What rounds to nothing has no sign."""
    shown = f"{abs(value):.{digits}f}"
    if not float(shown):
        return f"\N{PLUS-MINUS SIGN}{shown}"
    return ("+" if value > 0 else MINUS) + shown


def duration(seconds: float) -> str:
    """``93.1`` -> ``1 min 33 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def ranges(whole: Sequence[int], most: int = 4) -> str:
    """``[1, 2, 3, 7]`` -> ``1-3, 7``; of many parts the first ones. The numbers rise."""
    parts: list[tuple[int, int]] = []
    for number in whole:
        if parts and number == parts[-1][1] + 1:
            parts[-1] = (parts[-1][0], number)
        else:
            parts.append((number, number))
    shown = [f"{low:,}-{high:,}" if high > low else f"{low:,}" for low, high in parts[:most]]
    return ", ".join([*shown, *(["..."] if len(parts) > most else [])])


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from ``low`` to ``high``.

    ``about`` is how many are wanted; there may be somewhat more or fewer.
    """
    if not high > low:
        return [low]
    rough = (high - low) / max(1, about)
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= 0.7 * rough)
    return list(_multiples(step, low, high))


def _multiples(step: float, low: float, high: float) -> Iterator[float]:
    digits = max(0, -math.floor(math.log10(step)))
    for count in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1):
        yield round(count * step, digits)
