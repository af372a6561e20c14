"""A text that was rendered of invented parts, and where the real ones stand in the real text.

    outline    <|im_start|>user⏎ burnishaaaatext <|im_end|>⏎<|im_start|>assistant⏎
    real       <|im_start|>user⏎ Hi              <|im_end|>⏎<|im_start|>assistant⏎

Where the real text is the outline with the real parts in it, character for character, each part stands where
the outline has it: nothing is looked for, so nothing is found by chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from burnish.template.parts import NAMES, Part


@dataclass(frozen=True)
class Place:
    """The characters ``start`` to ``end`` are what the invented ``name`` stands for."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class Outline:
    """``pieces``: what the template writes and invented names, by turns, beginning and ending with the
    former."""

    text: str
    pieces: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Outline:
        pieces, end = [], 0
        for found in NAMES.finditer(text):
            pieces += [text[end : found.start()], found[0]]
            end = found.end()
        return cls(text, (*pieces, text[end:]))

    def count(self, part: Part) -> int:
        # A part that keeps its tags is several names.
        return self._counts.get(part.shown) or self.text.count(part.shown)

    @cached_property
    def _counts(self) -> Counter[str]:
        return Counter(self.pieces[1::2])

    @property
    def template_text(self) -> str:
        """What the template writes, without the parts."""
        return "\0".join(self.pieces[::2])

    def places(self, real: str, forms: Mapping[str, tuple[str, ...]]) -> list[Place] | None:
        """Where the parts stand in ``real``, in its order; None where it is something else than the outline
        with one of its ``forms`` in the place of each name."""
        pieces = self.pieces
        if not real.startswith(pieces[0]):
            return None
        places: list[Place] = []
        tried = [0] * len(pieces)
        number, at = 1, len(pieces[0])
        while True:
            if number == len(pieces):
                if at == len(real):
                    return places
            else:
                name, behind = pieces[number], pieces[number + 1]
                ways = forms.get(name, (name,))
                while tried[number] < len(ways):
                    form = ways[tried[number]]
                    tried[number] += 1
                    end = at + len(form)
                    if real.startswith(form, at) and real.startswith(behind, end):
                        places.append(Place(name, at, end))
                        number, at = number + 2, end + len(behind)
                        break
                else:
                    tried[number] = 0
                    if not places:
                        return None
                    number -= 2
                    at = places.pop().start
                continue
            if not places:
                return None
            number -= 2
            at = places.pop().start
