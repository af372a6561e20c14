"""The laws of pebble's fine-tuning data."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from burnish.evaluate import accepted, contains, first_sentence
from burnish.pebble.conversations import hand_written
from burnish.pebble.dataset import Data, build, question_of, write
from burnish.pebble.facts import relations
from burnish.pebble.relations import Fact, Relation
from burnish.pebble.split import entities_of, mentions, trained_half

RELATIONS = relations()


@pytest.fixture(scope="module")
def data() -> Data:
    return build(RELATIONS)


@pytest.fixture(scope="module")
def held_out() -> frozenset[str]:
    return entities_of(RELATIONS) - trained_half(RELATIONS)


@pytest.fixture(scope="module")
def by_name() -> dict[str, Relation]:
    return {relation.name: relation for relation in RELATIONS}


def talks(data: Data) -> list[list[tuple[str, str]]]:
    return [[(turn["role"], turn["content"]) for turn in row["messages"]] for row in data[0]]


def test_halves_are_even(held_out: frozenset[str]) -> None:
    assert 0.45 <= len(held_out) / len(entities_of(RELATIONS)) <= 0.55


def test_every_relation_has_both_halves(held_out: frozenset[str]) -> None:
    for relation in RELATIONS:
        out = sum(entity.lower() in held_out for entity, _ in relation.table)
        if len(relation.table) >= 6:
            assert 0 < out < len(relation.table), relation.name


def test_no_held_out_entity_in_any_conversation(data: Data, held_out: frozenset[str]) -> None:
    for talk in talks(data):
        text = " | ".join(content for _, content in talk)
        assert not mentions(text, held_out), text


def test_there_is_enough(data: Data) -> None:
    conversations, questions, cloze = data
    assert len(conversations) >= 700
    assert len(questions) >= 400
    assert len(cloze) == sum(len(relation.table) for relation in RELATIONS)
    assert sum(map(len, hand_written().values())) >= 150


def test_turns_alternate(data: Data) -> None:
    for talk in talks(data):
        roles = [role for role, _ in talk if role != "system"]
        assert talk[0][0] in ("system", "user")
        assert [role for role, _ in talk][1:].count("system") == 0
        assert roles == ["user", "assistant"] * (len(roles) // 2) and roles
        assert all(content and content == content.strip() for _, content in talk)


def test_no_prompt_has_two_answers(data: Data) -> None:
    answers: dict[tuple[tuple[str, str], ...], str] = {}
    for talk in talks(data):
        for at, (role, content) in enumerate(talk):
            if role == "assistant":
                assert answers.setdefault(tuple(talk[:at]), content) == content
    assert len({tuple(talk) for talk in talks(data)}) == len(data[0])


def test_every_relation_is_taught(data: Data, held_out: frozenset[str]) -> None:
    replies = {content for talk in talks(data) for role, content in talk if role == "assistant"}
    for relation in RELATIONS:
        assert any(fact.reply in replies for fact in relation.facts), relation.name


def test_building_is_deterministic(data: Data) -> None:
    assert build(RELATIONS) == data
    assert build(RELATIONS, seed=1)[0] != data[0]


def test_questions_ask_for_held_out_entities_only(data: Data, held_out: frozenset[str]) -> None:
    asked = [question_of(row) for row in data[1]]
    assert len(set(asked)) == len(asked)
    prompts = {content for talk in talks(data) for role, content in talk if role == "user"}
    assert not prompts & set(asked)
    assert all(row["entity"].lower() in held_out for row in data[1])
    assert max(Counter(row["relation"] for row in data[1]).values()) <= 0.12 * len(asked)


def test_right_replies_are_accepted_and_rival_ones_refused(data: Data, by_name: dict[str, Relation]) -> None:
    for row in data[1]:
        relation, answer, rivals = by_name[row["relation"]], row["answer"], row["rivals"]
        assert not contains(question_of(row), answer), row
        assert accepted(Fact(relation, row["entity"], answer).reply, answer, rivals), row
        assert rivals and rivals == sorted(set(rivals)), row
        for rival in rivals:
            assert not accepted(Fact(relation, row["entity"], rival).reply, answer, rivals), row


def test_only_the_first_sentence_counts() -> None:
    assert first_sentence("It is Rome. Not Paris.") == "It is Rome."
    assert accepted("It is rome. Not Paris.", "Rome", ["Paris"])
    assert not accepted("It is Rome or Paris.", "Rome", ["Paris"])
    assert not accepted("It is Romeo.", "Rome", ["Paris"])


def test_mentions_whole_words_in_any_case() -> None:
    names = frozenset({"guinea", "papua new guinea", "new mexico", "mexico", "gold", "2 plus 3"})
    assert mentions("From Papua New Guinea.", names) == {"papua new guinea", "guinea"}
    assert mentions("New Mexico, GOLD", names) == {"new mexico", "mexico", "gold"}
    assert mentions("golden 12 plus 3, 2 plus 34", names) == frozenset()


def test_names_within_names_share_a_half() -> None:
    def toy(name: str, *entities: str) -> Relation:
        table = tuple((entity, f"x{place}") for place, entity in enumerate(entities))
        return Relation(name, table, ("{entity} is {answer}.",), ("{entity}?",), "{answer}.")

    for suffix in range(20):
        inner, outer = f"zorblat{suffix}", f"new zorblat{suffix}"
        others = (f"quux{number}{suffix}" for number in range(8))
        trained = trained_half((toy("toy", inner, outer, *others),))
        assert (inner in trained) == (outer in trained)


def test_files_are_written(tmp_path: Path, data: Data) -> None:
    write(tmp_path)
    for name, rows in zip(("sft", "held_out", "cloze"), data, strict=True):
        lines = (tmp_path / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in lines] == rows
