"""When an answer counts, how sure a share is, and what a model knows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from burnish.evaluate import accepted, cloze_correct, contains, first_sentence, wilson
from burnish.model.forward import flat, padded
from burnish.tokens import flatten, token_ids
from conftest import small_tokenizer, tiny_model


@pytest.mark.parametrize(
    ("text", "phrase", "there"),
    [
        ("The capital is Paris.", "Paris", True),
        ("the capital is PARIS", "paris", True),
        ("Parisian food", "Paris", False),
        ("It is 15.", "5", False),
        ("It is 5.", "5", True),
        ("New York City", "New York", True),
        ("C++ is a language", "C++", True),
        ("Is it a.b?", "a.b", True),
        ("Is it aXb?", "a.b", False),
        ("São Paulo", "são paulo", True),
        ("éParis", "Paris", False),
        ("", "Paris", False),
        ("snake_case", "snake", False),
    ],
)
def test_a_phrase_is_held_as_whole_words_in_any_case(text: str, phrase: str, there: bool) -> None:
    assert contains(text, phrase) is there


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One. Two.", "One."),
        ("Really? Yes.", "Really?"),
        ("No stop at all", "No stop at all"),
        ("  Leading white space. And more", "Leading white space."),
        ("A line\nanother line", "A line"),
        ("Pi is 3.14 or so. Yes.", "Pi is 3.14 or so."),
        ("", ""),
    ],
)
def test_a_first_sentence_ends_at_its_stop_or_its_line(text: str, first: str) -> None:
    assert first_sentence(text) == first


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("The capital of France is Paris.", True),
        ("paris", True),
        ("It is Rome.", False),
        ("It is Paris or Rome.", False),
        ("It is Paris. Rome is in Italy.", True),
        ("I do not know. Paris?", False),
        ("", False),
    ],
)
def test_an_answer_counts_where_its_first_sentence_holds_it_and_no_rival(answer: str, right: bool) -> None:
    assert accepted(answer, "Paris", ["Rome", "Madrid"]) is right


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962), (1, 1, 0.2065, 1.0)],
)
def test_wilson_by_known_values(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_wilson_of_nothing_knows_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_is_symmetric_within_bounds_and_narrows() -> None:
    for successes in range(21):
        low, high = wilson(successes, 20)
        assert 0 <= low <= successes / 20 <= high <= 1
        assert wilson(20 - successes, 20) == pytest.approx((1 - high, 1 - low))
        more = wilson(10 * successes, 200)
        assert more[1] - more[0] < high - low


FACTS = [
    ("The cat sat on the", "mat"),
    ("The capital of France is", "Paris"),
    ("Ice is water that is", "cold"),
    ("The dog ran to the", "red house"),
]
WRONG = [
    ("The cat sat on the", "house"),
    ("The capital of France is", "Paris and Rome"),
    ("Ice is water that is", "colder"),
    ("The dog ran to the", "red mat"),
    ("Some words it never saw", "mat"),
]


@pytest.fixture(scope="module")
def knowing() -> PreTrainedModel:
    """A tiny model that has learnt FACTS by heart."""
    tokenizer = small_tokenizer()
    model = tiny_model("llama", len(tokenizer), initializer_range=0.05).train()
    adam = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rows = [np.array(token_ids(tokenizer, f"{text} {answer}.")) for text, answer in FACTS]
    batch = flatten([(row, np.ones(len(row), np.float32)) for row in rows])
    for _ in range(40):
        functional.cross_entropy(flat(model, batch).logits(), batch.target_ids).backward()
        adam.step()
        adam.zero_grad()
    return model.eval()


def greedily_said(model: PreTrainedModel, text: str, answer: str) -> bool:
    tokenizer = small_tokenizer()
    prompt, wanted = token_ids(tokenizer, text), token_ids(tokenizer, f" {answer}")
    ids = torch.tensor([prompt])
    said = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=len(wanted), do_sample=False
    )
    return bool(said[0, len(prompt) :].tolist() == wanted)


@pytest.mark.parametrize("budget", [1, 40, 10_000])
@pytest.mark.parametrize("forward", [flat, padded])
def test_cloze_is_what_greedy_decoding_says(knowing: PreTrainedModel, forward: object, budget: int) -> None:
    prompts = [question for pair in zip(WRONG, [*FACTS, FACTS[0]], strict=True) for question in pair]
    found = cloze_correct(knowing, small_tokenizer(), prompts, forward, budget)
    assert found == [greedily_said(knowing, text, answer) for text, answer in prompts]
    assert found == [prompt in FACTS for prompt in prompts]


def test_a_cloze_is_right_only_with_all_of_its_tokens(knowing: PreTrainedModel) -> None:
    """'red house' begins as learnt and 'red mat' too; only the first goes on so."""
    prompts = [("The dog ran to the", answer) for answer in ("red", "red house", "red mat")]
    assert cloze_correct(knowing, small_tokenizer(), prompts, flat, 100) == [True, True, False]


def test_no_prompts_give_no_verdicts(knowing: PreTrainedModel) -> None:
    assert cloze_correct(knowing, small_tokenizer(), [], flat, 100) == []
