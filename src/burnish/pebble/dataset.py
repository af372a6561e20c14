"""Pebble's fine-tuning data and its tests: conversations, held-out questions and cloze prompts.

``python -m burnish.pebble.dataset OUTDIR`` writes ``sft.jsonl``, ``held_out.jsonl`` and
``cloze.jsonl``. The conversations speak only of the trained half of the entities (see
:mod:`burnish.pebble.split`), and always answer a fact with the relation's one reply.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import islice, zip_longest
from math import ceil
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from burnish.evaluate.answers import accepted, contains
from burnish.pebble.conversations import (
    FRAMES,
    ONE_WORD,
    YES_OR_NO,
    Conversation,
    conversation,
    framed,
    hand_written,
)
from burnish.pebble.phrasings import AGAIN, LISTINGS, NUMBERS, THANKS, listed, phrasing
from burnish.pebble.relations import Fact, Relation, capitalised
from burnish.pebble.split import entities_of, hashed, mentions, trained_half

T = TypeVar("T")
Row = dict[str, Any]
Data = tuple[list[Row], list[Row], list[Row]]
Generator = Callable[[Sequence[Fact], Random], Iterable[Conversation]]

TEST_SIZE = 600
LARGEST_SHARE = 0.12  # of the test, for one relation

# Symbols that are everyday words ("In" of indium): nearly every sentence would hold them in some
# case, so they are neither asked for nor rivals.
LITTLE_WORDS = frozenset(
    [
        "a",
        "am",
        "as",
        "at",
        "be",
        "by",
        "do",
        "go",
        "he",
        "hi",
        "i",
        "in",
        "is",
        "it",
        "me",
        "no",
        "of",
        "oh",
        "ok",
        "on",
        "or",
        "so",
        "to",
    ]
)


def single_answer(relation: Relation) -> tuple[Fact, ...]:
    """The facts whose entity has but one answer in this relation, and so its questions too."""
    rows = Counter(entity.lower() for entity, _ in relation.table)
    return tuple(fact for fact in relation.facts if rows[fact.entity.lower()] == 1)


def usable(relations: Iterable[Relation], held_out: frozenset[str]) -> tuple[Fact, ...]:
    """The facts that conversations can speak of: no held-out entity is in any of their words."""
    return tuple(
        fact
        for relation in relations
        for fact in single_answer(relation)
        if not mentions(" | ".join((fact.entity, fact.reply, *fact.questions)), held_out)
    )


def in_turns(items: Iterable[T], key: Callable[[T], Hashable], rng: Random) -> Iterator[T]:
    """The items shuffled, but one of each key in turn, so that any first part is evenly mixed."""
    piles: defaultdict[Hashable, list[T]] = defaultdict(list)
    for item in items:
        piles[key(item)].append(item)
    for pile in piles.values():
        rng.shuffle(pile)
    missing = object()
    for layer in zip_longest(*piles.values(), fillvalue=missing):
        present = [item for item in layer if item is not missing]
        rng.shuffle(present)
        yield from present  # type: ignore[misc]


def by_relation(facts: Iterable[Fact], rng: Random) -> Iterator[Fact]:
    return in_turns(facts, lambda fact: fact.relation.name, rng)


def asked(facts: Iterable[Fact]) -> Iterator[tuple[Fact, str]]:
    """Each fact with one wording of its question; each relation's wordings take turns."""
    turn: dict[str, int] = {}
    for fact in facts:
        name = fact.relation.name
        # Relations begin with different wordings: few facts of each would only see the first.
        at = turn.setdefault(name, hashed(name) % len(fact.questions))
        yield fact, fact.questions[at % len(fact.questions)]
        turn[name] = at + 1


def singles(facts: Sequence[Fact], rng: Random) -> Iterator[Conversation]:
    """One question, one reply."""
    # Small relations come round a second time, and their wordings have moved on by then.
    order = [*by_relation(facts, rng), *by_relation(facts, rng)]
    return (conversation(question, fact.reply) for fact, question in asked(order))


def wrong_answer(fact: Fact, answers: Iterable[str], rng: Random) -> str | None:
    """Another of the relation's answers, that cannot be taken for the right one."""
    told_apart = [
        other
        for other in answers
        if not any(contains(other, own) or contains(own, other) for own in (fact.answer, fact.entity))
    ]
    return rng.choice(told_apart) if told_apart else None


def yes_or_no(facts: Sequence[Fact], rng: Random) -> Iterator[tuple[str, str, Fact]]:
    """Questions to be answered with yes and no by turns, with that word and the fact."""
    chosen = by_relation((fact for fact in facts if phrasing(fact.relation.name).yes_no), rng)
    answers: defaultdict[str, set[str]] = defaultdict(set)
    for fact in facts:
        answers[fact.relation.name].add(fact.answer)
    right: defaultdict[str, bool] = defaultdict(lambda: rng.random() < 0.5)
    for fact in chosen:
        name = fact.relation.name
        right[name] = not right[name]
        answer = fact.answer if right[name] else wrong_answer(fact, sorted(answers[name]), rng)
        if answer is not None:
            said = Fact(fact.relation, fact.entity, answer)
            question = said.fill(phrasing(name).yes_no)
            yield question, "Yes" if right[name] else "No", fact


def checks(facts: Sequence[Fact], rng: Random) -> Iterator[Conversation]:
    """Yes and no, as many of the one as of the other, with the fact for a reason."""
    rows = [
        (word, conversation(question, f"{word}. {fact.reply}"))
        for question, word, fact in yes_or_no(facts, rng)
    ]
    yes, no = ([row for word, row in rows if word == kind] for kind in ("Yes", "No"))
    return (row for pair in zip(yes, no, strict=False) for row in pair)


def listings(facts: Sequence[Fact], rng: Random) -> Iterator[Conversation]:
    """Several entities with one answer: "Name three countries in Europe."."""
    groups: defaultdict[tuple[str, str], list[Fact]] = defaultdict(list)
    for fact in facts:
        if phrasing(fact.relation.name).kind and " of " not in fact.answer:
            groups[fact.relation.name, fact.answer].append(fact)
    asks = [
        (key, word)
        for key, group in groups.items()
        for word, number in NUMBERS.items()
        if len(group) >= number
    ]
    for turn, ((name, answer), word) in enumerate(in_turns(asks, lambda ask: ask[0][0], rng)):
        some = rng.sample(groups[name, answer], NUMBERS[word])
        kind = some[0].fill(phrasing(name).kind)
        names = listed([fact.fill(phrasing(name).name) for fact in some])
        question = LISTINGS[turn % len(LISTINGS)].format(number=word, kind=kind)
        yield conversation(question, f"{capitalised(word)} {kind} are {names}.")


def comparisons(facts: Sequence[Fact], rng: Random) -> Iterator[Conversation]:
    """Which of two is more: has the higher number, more legs, comes first."""
    ranked = [fact for fact in facts if phrasing(fact.relation.name).compare]
    pairs = [
        (greater, less)
        for greater in ranked
        for less in ranked
        if greater.relation.name == less.relation.name
        and phrasing(less.relation.name).rank(greater) > phrasing(less.relation.name).rank(less)
    ]
    for greater, less in in_turns(pairs, lambda pair: pair[0].relation.name, rng):
        own = phrasing(greater.relation.name)
        first, second = rng.sample((greater.entity, less.entity), 2)
        reply = own.compared.format(greater=greater.entity, less=less.entity)
        yield conversation(own.compare.format(first=first, second=second), capitalised(reply))


def follow_ups(facts: Sequence[Fact], rng: Random) -> Iterator[Conversation]:
    """A second question about the same entity, which it does not name again."""
    known: defaultdict[tuple[str, str], list[Fact]] = defaultdict(list)
    for fact in facts:
        known[phrasing(fact.relation.name).about, fact.entity].append(fact)
    pairs = [
        (first, second)
        for (about, _), group in known.items()
        for first in group
        for second in group
        if about and first is not second and phrasing(second.relation.name).follow_up
    ]
    mixed = list(in_turns(pairs, lambda pair: (pair[0].relation.name, pair[1].relation.name), rng))
    opened = asked(first for first, _ in mixed)
    for turn, ((first, question), (_, second)) in enumerate(zip(opened, mixed, strict=True)):
        follow_up = second.fill(phrasing(second.relation.name).follow_up)
        thanks = THANKS if turn % 5 == 4 else ()
        yield conversation(question, first.reply, follow_up, second.reply, *thanks)


def same_again(facts: Sequence[Fact], rng: Random) -> Iterator[Conversation]:
    """The same question once more about another entity: "And what about Spain?"."""
    waiting: dict[str, tuple[Fact, str]] = {}
    for turn, (fact, question) in enumerate(asked(by_relation(facts, rng))):
        name = fact.relation.name
        if name not in waiting:
            waiting[name] = fact, question
            continue
        first, opening = waiting.pop(name)
        again = AGAIN[turn % len(AGAIN)].format(name=fact.fill(phrasing(name).name))
        yield conversation(opening, first.reply, again, fact.reply)


def one_word(facts: Sequence[Fact], rng: Random) -> Iterator[Conversation]:
    short = [fact for fact in facts if re.fullmatch(r"\w+", fact.answer)]
    for fact, question in asked(by_relation(short, rng)):
        # Short forms ("kg") stay as they are written.
        word = capitalised(fact.answer) if len(fact.answer) > 2 else fact.answer
        yield conversation(question, word, system=ONE_WORD)


def one_yes_or_no(facts: Sequence[Fact], rng: Random) -> Iterator[Conversation]:
    for question, word, _ in yes_or_no(facts, rng):
        yield conversation(question, word, system=YES_OR_NO)


def voices(facts: Sequence[Fact], rng: Random) -> Iterator[Conversation]:
    """The voices that put a frame around the plain reply."""
    for turn, (fact, question) in enumerate(asked(by_relation(facts, rng))):
        system = tuple(FRAMES)[turn % len(FRAMES)]
        yield conversation(question, framed(system, fact.reply), system=system)


# What is generated, and how much of it.
KINDS: dict[str, tuple[Generator, int]] = {
    "singles": (singles, 800),
    "checks": (checks, 80),
    "listings": (listings, 32),
    "comparisons": (comparisons, 32),
    "follow_ups": (follow_ups, 44),
    "same_again": (same_again, 24),
    "one_word": (one_word, 14),
    "one_yes_or_no": (one_yes_or_no, 10),
    "voices": (voices, 20),
}


def consistent(rows: Iterable[Conversation], answers: dict[Conversation, str]) -> Iterator[Conversation]:
    """Without rows that only repeat what was said, or that answer the same words in another way.

    ``answers`` is the memory: what was said in reply to which words. It grows with every row.
    """
    for row in rows:
        replies = {row[:at]: text for at, (role, text) in enumerate(row) if role == "assistant"}
        agree = all(answers.get(prefix, text) == text for prefix, text in replies.items())
        if agree and row[:-1] not in answers:
            answers.update(replies)
            yield row


def conversations_by_kind(facts: Sequence[Fact], seed: int = 0) -> dict[str, list[Conversation]]:
    """All conversations by kind, the hand-written ones and those generated from usable facts."""
    answers: dict[Conversation, str] = {}
    written = {kind: list(consistent(rows, answers)) for kind, rows in hand_written().items()}
    # The generators mix as they go, so their first rows are as good as any.
    generated = {
        kind: list(islice(consistent(generate(facts, Random(f"{seed} {kind}")), answers), count))
        for kind, (generate, count) in KINDS.items()
    }
    return written | generated


def rivals_of(fact: Fact, question: str) -> tuple[str, ...]:
    """The relation's other answers that can be told apart from the right one.

    A longer answer with the right one in it ("Swiss franc", "franc") is no rival, except for
    compounds ("twenty-five", "five"), which the rule would otherwise take for the right answer.
    """
    own = [answer for entity, answer in fact.relation.table if entity == fact.entity]

    def distinct(other: str) -> bool:
        spaced = re.sub(r"\w+(-\w+)+", " ", other)
        return not any(contains(spaced, answer) or contains(answer, other) for answer in own)

    said = f"{question} | {fact.reply}"
    others = {answer for _, answer in fact.relation.table if answer.lower() not in LITTLE_WORDS}
    return tuple(sorted(other for other in others if distinct(other) and not contains(said, other)))


def can_be_tested(fact: Fact, question: str, rivals: Sequence[str]) -> bool:
    """Whether the scoring rule can tell a right reply to this question from others."""
    blank = Fact(fact.relation, fact.entity, "~").reply
    given_away = any(contains(text, fact.answer) for text in (question, fact.entity, blank))
    little = fact.answer.lower() in LITTLE_WORDS
    return not given_away and not little and accepted(fact.reply, fact.answer, rivals)


def questions_about(relation: Relation, held_out: frozenset[str]) -> list[Row]:
    """The relation's held-out facts with one wording each, then with another; wordings in turn."""
    facts = [fact for fact in single_answer(relation) if fact.entity.lower() in held_out]
    facts.sort(key=lambda fact: hashed(f"{relation.name} {fact.entity}"))
    rows: dict[str, Row] = {}
    for fact, question in asked([*facts, *facts]):
        rivals = rivals_of(fact, question)
        if question not in rows and can_be_tested(fact, question, rivals):
            rows[question] = {
                "messages": as_messages((("user", question), ("assistant", fact.reply))),
                "answer": fact.answer,
                "rivals": list(rivals),
                "relation": relation.name,
                "entity": fact.entity,
            }
    return list(rows.values())


def held_out_rows(relations: Sequence[Relation], held_out: frozenset[str]) -> list[Row]:
    """The test: about :data:`TEST_SIZE` questions, every relation in proportion, none too large."""
    pools = [questions_about(relation, held_out) for relation in relations]
    sizes = [len({row["entity"] for row in pool}) for pool in pools]
    share = TEST_SIZE / max(sum(sizes), 1)
    quotas = [min(len(pool), ceil(share * size)) for pool, size in zip(pools, sizes, strict=True)]
    # With few relations no cap can keep to the share, so it stops where all are equal.
    while quotas and max(quotas) > max(LARGEST_SHARE * sum(quotas), min(quotas), 1):
        quotas = [min(quota, max(quotas) - 1) for quota in quotas]
    rows: dict[str, Row] = {}
    for pool, quota in zip(pools, quotas, strict=True):
        new = ((question_of(row), row) for row in pool if question_of(row) not in rows)
        rows.update(islice(new, quota))
    return list(rows.values())


def question_of(row: Row) -> str:
    return str(row["messages"][0]["content"])


def as_messages(turns: Iterable[tuple[str, str]]) -> list[Row]:
    return [{"role": role, "content": content} for role, content in turns]


def cloze_rows(relations: Iterable[Relation], trained: frozenset[str]) -> list[Row]:
    return [
        {
            "prompt": fact.cloze,
            "answer": fact.answer,
            "relation": relation.name,
            "entity": fact.entity,
            "trained": fact.entity.lower() in trained,
        }
        for relation in relations
        for fact in relation.facts
    ]


def build(relations: Sequence[Relation], seed: int = 0) -> Data:
    """The conversations, shuffled by the seed, the held-out questions and the cloze prompts."""
    trained = trained_half(relations)
    held_out = entities_of(relations) - trained
    kinds = conversations_by_kind(usable(relations, held_out), seed)
    rows = [row for rows in kinds.values() for row in rows]
    Random(f"{seed} order").shuffle(rows)
    messages = [{"messages": as_messages(row)} for row in rows]
    test = held_out_rows(relations, held_out)
    Random(f"{seed} test").shuffle(test)
    return messages, test, cloze_rows(relations, trained)


def write(folder: str | Path) -> None:
    """Write the three files."""
    from burnish.pebble.facts import relations

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    names = ("sft.jsonl", "held_out.jsonl", "cloze.jsonl")
    for name, rows in zip(names, build(relations()), strict=True):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (target / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1])
