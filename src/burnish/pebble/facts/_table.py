"""Small readers which turn compact strings into the tables and templates of a relation."""

from __future__ import annotations

from burnish.pebble.relations import Relation

Table = tuple[tuple[str, str], ...]


def pairs(text: str) -> Table:
    """Rows written as ``entity: answer; entity: answer``."""
    rows = []
    for item in " ".join(text.split()).strip("; ").split(";"):
        entity, answer = item.split(":")
        rows.append((entity.strip(), answer.strip()))
    return tuple(rows)


def grouped(text: str) -> Table:
    """Rows written as ``answer: entity, entity; answer: entity``."""
    return tuple((entity.strip(), answer) for answer, names in pairs(text) for entity in names.split(","))


def lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


def relation(
    name: str,
    table: Table,
    phrase: str,
    statements: str,
    questions: str,
    slot: str = "{answer}",
    answer_first: str = "",
) -> Relation:
    """A relation whose answer is ``phrase`` ("the capital of {entity}").

    Four statements and six questions come from the phrase; the others are given, one a line.
    ``slot`` is how the answer stands in a sentence: ``{answer}``, ``the {answer}`` or
    ``{an_answer}``; ``answer_first`` replaces the
    second statement where the answer may be plural ("feathers is ..." will not do).
    """
    at_start = slot[0].upper() + slot[1:] if slot[0] != "{" else slot.replace("{a", "{A")
    title = phrase[0].upper() + phrase[1:]
    return Relation(
        name=name,
        table=table,
        statements=(
            f"{title} is {slot}.",
            answer_first or f"{at_start} is {phrase}.",
            f"We learned that {phrase} is {slot}.",
            f"If someone asks for {phrase}, the answer is {slot}.",
            *lines(statements),
        ),
        questions=(
            f"What is {phrase}?",
            f"Can you tell me {phrase}?",
            f"Please tell me {phrase}.",
            f"I would like to know {phrase}. What is it?",
            f"Do you know {phrase}?",
            f"{phrase.removeprefix('the ')}?",
            *lines(questions),
        ),
        reply=f"{title} is {slot}.",
    )
