"""Which entities the fine-tuning data may speak of, and which are kept for the test.

An entity falls into one half for all its relations, so that a question about a held-out entity asks
for something that fine-tuning never touched, neither as a question nor as an answer.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache

from burnish.pebble.conversations import hand_written
from burnish.pebble.phrasings import spoken
from burnish.pebble.relations import Relation

# An entity that so many facts answer with, or so many entities contain ("two" in sums), is common
# property: holding it out would take all of those facts out of the data set.
COMMON = 5

# How many entities may be kept together because one is the answer to a question about another.
LARGEST_GROUP = 4


@lru_cache(maxsize=64)
def _finder(entities: frozenset[str]) -> re.Pattern[str]:
    """Finds the longest entity at each place; the lookahead lets matches overlap.

    The names are grouped by their first two letters, so that few are tried at each word.
    """
    starts: defaultdict[str, list[str]] = defaultdict(list)
    for entity in sorted(entities, key=lambda entity: (-len(entity), entity)):
        starts[entity[:2]].append(re.escape(entity[2:]))
    # One letter alone goes last, after the longer names that begin with it.
    groups = sorted(starts.items(), key=lambda group: (-len(group[0]), group[0]))
    names = "|".join(f"{re.escape(start)}(?:{'|'.join(rests)})" for start, rests in groups)
    return re.compile(rf"(?<!\w)(?=({names})(?!\w))")


def mentions(text: str, entities: Collection[str]) -> frozenset[str]:
    """The entities (lower-cased strings) that stand in the text as whole words, in any case."""
    if not entities:
        return frozenset()
    names = entities if isinstance(entities, frozenset) else frozenset(entities)
    found: set[str] = set()
    for match in _finder(names).finditer(text.lower()):
        name = match.group(1)
        # Only the longest name was matched here; shorter ones that begin it stand here as well.
        ends = (end.start() for end in re.finditer(r"(?<=\w)(?!\w)", name))
        found.update({name, *(name[:end] for end in ends)} & names)
    return frozenset(found)


def entities_of(relations: Iterable[Relation]) -> frozenset[str]:
    """All entities, lower-cased."""
    return frozenset(entity.lower() for relation in relations for entity, _ in relation.table)


def hashed(text: str) -> int:
    """A number that is the same in every run and on every machine, unlike Python's ``hash``."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big")


def common(relations: Sequence[Relation], entities: frozenset[str]) -> frozenset[str]:
    """Entities that very many facts need, see :data:`COMMON`."""
    uses: Counter[str] = Counter()
    for entity in entities:
        uses.update(mentions(entity, entities) - {entity})
    for relation in relations:
        for _, answer in relation.table:
            uses.update(mentions(answer, entities))
    return frozenset(entity for entity, count in uses.items() if count >= COMMON)


def fixed_words(relation: Relation) -> str:
    """What the relation's questions and reply say about every entity alike."""
    return " ".join(re.sub(r"\{\w+\}", "|", text) for text in (*relation.questions, relation.reply))


def anchored(relations: Sequence[Relation], entities: frozenset[str]) -> frozenset[str]:
    """Entities that cannot be held out: the conversations or the templates say them anyway."""
    written = (text for rows in hand_written().values() for row in rows for _, text in row)
    texts = (*written, *spoken(), *(fixed_words(relation) for relation in relations))
    said: frozenset[str] = frozenset().union(*(mentions(text, entities) for text in texts))
    return said | common(relations, entities)


class _Groups:
    """Union-find over entities."""

    def __init__(self, entities: Iterable[str]) -> None:
        self.members: dict[str, frozenset[str]] = {name: frozenset({name}) for name in entities}

    def join(self, one: str, other: str, largest: int | None = None) -> None:
        union = self.members[one] | self.members[other]
        if largest is None or len(union) <= largest:
            for name in union:
                self.members[name] = union


def grouped(
    relations: Sequence[Relation], entities: frozenset[str], ignore: frozenset[str]
) -> tuple[frozenset[str], ...]:
    """Entities that must share a half, in the order of their hashes.

    One name within another always binds ("Guinea", "Papua New Guinea"). Question and answer bind
    too where both are entities ("hot", "cold"), in small groups: otherwise half of the trained
    facts could not be used, their answer being held out. ``ignore`` binds nothing: it is in the
    trained half already, and would bind too much ("two" all sums).
    """
    groups = _Groups(entities)
    for entity in sorted(entities):
        for part in sorted(mentions(entity, entities) - ignore - {entity}):
            groups.join(entity, part)
    for relation in relations:
        for entity, answer in relation.table:
            for other in sorted(mentions(answer, entities) - ignore):
                if entity.lower() not in ignore:
                    groups.join(entity.lower(), other, LARGEST_GROUP)
    return tuple(sorted(set(groups.members.values()), key=lambda group: hashed(min(group))))


def rows_by_entity(relations: Iterable[Relation]) -> Mapping[str, Counter[str]]:
    """How many rows each entity has in each relation."""
    rows: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for relation in relations:
        for entity, _ in relation.table:
            rows[entity.lower()][relation.name] += 1
    return rows


def trained_half(relations: Sequence[Relation]) -> frozenset[str]:
    """The entities that the fine-tuning data may speak of; the others are held out.

    Hashes put the groups in order; each then goes to the half that has had less of its relations so
    far, so that every relation, and the whole, comes out about even in spite of the anchored ones.
    """
    entities = entities_of(relations)
    anchors = anchored(relations, entities)
    rows = rows_by_entity(relations)
    sizes = {relation.name: len(relation.table) for relation in relations}
    lead: Counter[str] = Counter()  # by relation, rows trained less rows held out
    trained: set[str] = set()

    def put(group: frozenset[str], sign: int) -> None:
        for entity in group:
            for name, count in rows[entity].items():
                lead[name] += sign * count
        lead[""] += sign * len(group)

    groups = grouped(relations, entities, anchors)
    fixed = [group for group in groups if group & anchors]
    for group in fixed:
        put(group, 1)
        trained |= group
    for group in groups:
        if group & anchors:
            continue
        names = {name for entity in group for name in rows[entity]}
        ahead = sum(lead[name] / sizes[name] for name in sorted(names)) + lead[""] / len(entities)
        to_train = ahead < 0 or (ahead == 0 and hashed(min(group)) % 2 == 0)
        put(group, 1 if to_train else -1)
        if to_train:
            trained |= group
    return frozenset(trained)
