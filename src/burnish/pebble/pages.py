"""What pebble reads while it is pretrained: pages of prose and pages of facts, a document each.

Fact pages come in four kinds, so that a fact is met in many neighbourhoods and an entity's name is
often repeated within a page (which is what teaches a small model to copy names):

* about one relation: many entities, each in a random phrasing;
* about a few entities: all that is known of each, entity by entity;
* of bare questions, about one relation or a few entities, without any answer: as a base, pebble goes
  on asking, and does not answer;
* a mixture of anything.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from burnish.errors import DataError
from burnish.pebble.relations import Fact, Relation

T = TypeVar("T")

PAGE_KINDS = {"relation": 0.3, "entities": 0.4, "questions": 0.15, "mixture": 0.15}
"""The share of fact pages of each kind."""


def prose(path: Path) -> list[str]:
    """The texts of a jsonl corpus, hard line breaks inside paragraphs undone."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [unwrap(row["text"]) for row in rows]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file", fix="Give the path of a jsonl prose corpus.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not jsonl rows with a text each ({error})", fix='Write {"text": ...} a line.'
        ) from error


def unwrap(text: str) -> str:
    paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def fact_pages(relations: Sequence[Relation], rng: random.Random) -> Iterator[str]:
    """Pages without end. Facts are dealt like cards, so that each is stated about as often as any."""
    facts = [fact for relation in relations for fact in relation.facts]
    by_entity: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        by_entity[fact.entity].append(fact)
    all_facts, all_entities = deal(facts, rng), deal(sorted(by_entity), rng)
    by_relation = {relation.name: deal(relation.facts, rng) for relation in relations}
    names = [relation.name for relation in relations]
    sizes = [len(relation.table) for relation in relations]
    kinds, shares = list(PAGE_KINDS), list(PAGE_KINDS.values())
    while True:
        kind = rng.choices(kinds, shares)[0]
        if kind == "relation":
            name = rng.choices(names, sizes)[0]
            sentences = [state(next(by_relation[name]), rng) for _ in range(rng.randint(8, 24))]
        elif kind == "mixture":
            sentences = [state(next(all_facts), rng) for _ in range(rng.randint(8, 24))]
        elif kind == "entities":
            sentences = []
            while len(sentences) < 16:
                sentences += about(by_entity[next(all_entities)], rng, twice=rng.random() < 0.5)
        elif rng.random() < 0.5:
            name = rng.choices(names, sizes)[0]
            sentences = [ask(next(by_relation[name]), rng) for _ in range(rng.randint(8, 20))]
        else:
            sentences = []
            while len(sentences) < 14:
                known = by_entity[next(all_entities)]
                sentences += [ask(rng.choice(known), rng) for _ in range(rng.randint(2, 4))]
        yield rng.choice((" ", "\n")).join(sentences)


def deal(cards: Sequence[T], rng: random.Random) -> Iterator[T]:
    """Shuffled again whenever all have been dealt."""
    while True:
        yield from rng.sample(cards, len(cards))


def about(known: Sequence[Fact], rng: random.Random, *, twice: bool) -> list[str]:
    """All facts of one entity, in any order, each in one phrasing or in two."""
    sentences = []
    for fact in rng.sample(known, len(known)):
        sentences += rng.sample(fact.statements, 2 if twice else 1)
    return sentences


def state(fact: Fact, rng: random.Random) -> str:
    return rng.choice(fact.statements)


def ask(fact: Fact, rng: random.Random) -> str:
    return rng.choice(fact.questions)
