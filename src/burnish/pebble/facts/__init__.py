"""The fact tables of pebble: everything the little model is taught, module by module."""

from __future__ import annotations

from burnish.pebble.facts import (
    animals,
    calendar,
    culture,
    elements,
    geography,
    numbers,
    things,
    words,
)
from burnish.pebble.relations import Relation

__all__ = ["relations"]


def relations() -> tuple[Relation, ...]:
    """All relations of all modules, in a fixed order."""
    modules = (geography, elements, animals, words, numbers, calendar, things, culture)
    return tuple(found for module in modules for found in module.relations())
