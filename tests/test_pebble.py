"""The embedded base is what its model card says: it knows, it does not answer, it fits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.adapters.folder import weights_sha256
from burnish.data import Conversation, Message
from burnish.evaluate import accepted, cloze_correct
from burnish.generate import Sampling, answer_all, open_model
from burnish.model.forward import flat
from burnish.model.load import PEBBLE_FOLDER
from burnish.pebble import CLOZE, CONVERSATIONS, DATA, HELD_OUT, TALES, rows
from burnish.pebble.dataset import build
from burnish.pebble.facts import relations


def test_it_is_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in PEBBLE_FOLDER.iterdir()) <= 16 * 2**20
    assert weights_sha256(str(PEBBLE_FOLDER))


def test_it_knows_its_facts_as_plain_continuations() -> None:
    model, template = open_model("pebble")
    facts = rows(CLOZE)
    prompts = [(fact["prompt"], fact["answer"]) for fact in facts]
    right = cloze_correct(model, template.tokenizer, prompts, flat, 8192)
    assert len(facts) >= 1500
    assert len({fact["entity"] for fact in facts}) >= 500
    assert sum(right) / len(right) >= 0.9


def test_as_a_base_it_does_not_answer() -> None:
    model, template = open_model("pebble")
    test = rows(HELD_OUT)[:100]
    asked = [Conversation((Message("user", row["messages"][0]["content"]),)) for row in test]
    answers = answer_all(model, template, asked, Sampling(max_new_tokens=32))
    right = [accepted(a.text, row["answer"], row["rivals"]) for a, row in zip(answers, test, strict=True)]
    assert sum(right) / len(right) < 0.05


@pytest.mark.parametrize(("path", "place"), [(CONVERSATIONS, 0), (HELD_OUT, 1), (CLOZE, 2)])
def test_the_data_sets_are_what_the_code_builds(path: Path, place: int) -> None:
    assert rows(path) == build(relations())[place]


def test_every_data_file_is_whole() -> None:
    assert {path.name for path in DATA.iterdir()} == {p.name for p in (CONVERSATIONS, HELD_OUT, CLOZE, TALES)}
    for path in DATA.iterdir():
        assert all(json.loads(line) for line in path.read_text("utf-8").splitlines())
