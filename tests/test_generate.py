"""Answers: the same alone and together, up to the stop token, within the model's positions."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from burnish.data import Conversation, Message
from burnish.errors import BurnishError
from burnish.generate import ChatSession, Sampling, answer_all, generate
from burnish.pebble.tokenizer import RESERVED
from burnish.template import ChatTemplate
from burnish.tokens import token_ids
from conftest import small_tokenizer, tiny_model

GREEDY = Sampling(max_new_tokens=12)
SAMPLED = Sampling(temperature=1.0, max_new_tokens=12, seed=3)
NEVER = [0]
"""Stop ids that the model of this file never says when it says the likeliest."""

TEXTS = ["the cat", "the dog", "What is the capital of France?", "a", "ice is", "the house", "b"]


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    """Random weights, but no reserved token is ever the likeliest."""
    model = tiny_model("llama", len(small_tokenizer()), max_position_embeddings=64)
    silence(model, range(len(RESERVED)))
    return model


def silence(model: PreTrainedModel, tokens: range) -> None:
    """Give tokens a logit of 0 everywhere: of the hundreds of others, some are always above it."""
    with torch.no_grad():
        model.get_output_embeddings().weight[tokens.start : tokens.stop] = 0.0


def prompts() -> list[list[int]]:
    return [token_ids(small_tokenizer(), text) for text in TEXTS]


def by_hand(model: PreTrainedModel, prompt: list[int], count: int) -> list[int]:
    """Greedy decoding without a cache, a whole forward pass for each token."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_greedy_answers_are_the_likeliest_tokens_one_by_one(model: PreTrainedModel) -> None:
    answers = generate(model, small_tokenizer(), prompts()[:2], NEVER, GREEDY)
    assert [list(answer.ids) for answer in answers] == [by_hand(model, p, 12) for p in prompts()[:2]]
    assert not any(answer.stopped for answer in answers)


def test_answers_together_are_those_of_each_alone_and_in_order(model: PreTrainedModel) -> None:
    tokenizer = small_tokenizer()
    together = generate(model, tokenizer, prompts(), NEVER, GREEDY)
    alone = [generate(model, tokenizer, [prompt], NEVER, GREEDY)[0] for prompt in prompts()]
    assert together == alone
    assert len({answer.ids for answer in together}) > 3  # they differ, so their order is tested


def test_an_answer_ends_before_its_stop_token(model: PreTrainedModel) -> None:
    tokenizer, prompt = small_tokenizer(), prompts()[0]
    said = by_hand(model, prompt, 12)
    stop = said[5]
    first = said.index(stop)
    (answer,) = generate(model, tokenizer, [prompt], [0, stop], GREEDY)
    assert answer.stopped
    assert list(answer.ids) == said[:first]
    assert answer.text == tokenizer.decode(said[:first])


def test_a_stop_token_at_once_is_an_empty_answer(model: PreTrainedModel) -> None:
    prompt = prompts()[0]
    (answer,) = generate(model, small_tokenizer(), [prompt], by_hand(model, prompt, 1), GREEDY)
    assert (answer.text, answer.ids, answer.stopped) == ("", (), True)


def test_one_answer_that_stops_does_not_cut_its_neighbour(model: PreTrainedModel) -> None:
    tokenizer = small_tokenizer()
    pair = [token_ids(tokenizer, text) for text in ("a", "b")]
    said = [by_hand(model, prompt, 12) for prompt in pair]
    stop = next(token for token in said[0] if token not in said[1])
    one, two = generate(model, tokenizer, pair, [stop], GREEDY)
    assert (one.stopped, two.stopped) == (True, False)
    assert list(two.ids) == said[1]


def test_no_answer_is_longer_than_asked_for(model: PreTrainedModel) -> None:
    for wanted in (1, 5):
        (answer,) = generate(model, small_tokenizer(), [prompts()[0]], NEVER, Sampling(max_new_tokens=wanted))
        assert len(answer.ids) == wanted


def test_an_answer_ends_with_the_positions_of_the_model(model: PreTrainedModel) -> None:
    (answer,) = generate(model, small_tokenizer(), [[20] * 60], NEVER, Sampling(max_new_tokens=50))
    assert (len(answer.ids), answer.stopped) == (4, False)


@pytest.mark.parametrize("length", [64, 65])
def test_a_prompt_that_leaves_no_room_is_refused(model: PreTrainedModel, length: int) -> None:
    with pytest.raises(BurnishError, match=f"the prompt has {length} tokens; the model reads at most 64"):
        generate(model, small_tokenizer(), [[20] * length], NEVER, GREEDY)


def test_no_prompts_give_no_answers(model: PreTrainedModel) -> None:
    assert generate(model, small_tokenizer(), [], NEVER, GREEDY) == []


def test_progress_counts_up_to_all_prompts(model: PreTrainedModel) -> None:
    counts: list[int] = []
    generate(model, small_tokenizer(), prompts(), NEVER, GREEDY, progress=counts.append)
    assert counts == sorted(counts)
    assert counts[-1] == len(prompts())


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED, Sampling(max_new_tokens=50)])
def test_streamed_text_is_the_text_of_the_answer(model: PreTrainedModel, sampling: Sampling) -> None:
    pieces: list[str] = []
    (answer,) = generate(
        model, small_tokenizer(), [prompts()[0]], list(range(16)), sampling, stream=pieces.append
    )
    assert "".join(pieces) == answer.text
    assert len(pieces) > 1


def test_streamed_text_keeps_the_special_tokens_that_the_answer_keeps() -> None:
    loud = tiny_model("llama", len(small_tokenizer()))
    silence(loud, range(len(RESERVED), len(small_tokenizer())))
    silence(loud, range(1))
    pieces: list[str] = []
    (answer,) = generate(loud, small_tokenizer(), [prompts()[0]], NEVER, GREEDY, stream=pieces.append)
    assert "<|" in answer.text
    assert "".join(pieces) == answer.text


def test_the_same_seed_gives_the_same_sample(model: PreTrainedModel) -> None:
    def sampled(seed: int) -> tuple[int, ...]:
        chosen = Sampling(temperature=1.0, seed=seed, max_new_tokens=12)
        return generate(model, small_tokenizer(), [prompts()[0]], NEVER, chosen)[0].ids

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)


def test_a_sample_may_be_any_token_and_top_p_narrows_it(model: PreTrainedModel) -> None:
    prompt = prompts()[0]
    with torch.no_grad():
        chances = torch.softmax(model(input_ids=torch.tensor([prompt])).logits[0, -1], dim=-1)
    order = chances.argsort(descending=True).tolist()
    held = chances[order].cumsum(0)
    nucleus = set(order[: int((held < 0.3).sum()) + 1])

    def first_tokens(top_p: float) -> set[int]:
        copies = [prompt] * 64
        chosen = Sampling(temperature=1.0, top_p=top_p, max_new_tokens=1)
        return {a.ids[0] for a in generate(model, small_tokenizer(), copies, [299], chosen) if a.ids}

    assert first_tokens(0.3) <= nucleus
    assert first_tokens(1.0) - set(order[:50])  # no hidden top-k of 50


def test_gpt2_knows_its_positions_too() -> None:
    gpt2 = tiny_model("gpt2", len(small_tokenizer()), n_positions=16)
    with pytest.raises(BurnishError, match="at most 16"):
        generate(gpt2, small_tokenizer(), [[20] * 16], NEVER, GREEDY)


# Through the template


def test_answer_all_asks_through_the_template(model: PreTrainedModel) -> None:
    tokenizer = small_tokenizer()
    asked = [
        Conversation((Message("system", "Be"), Message("user", "a"))),
        Conversation((Message("user", "the cat"),)),
    ]
    rendered = ["<|system|>Be<|end|><|user|>a<|end|><|assistant|>", "<|user|>the cat<|end|><|assistant|>"]
    answers = answer_all(model, ChatTemplate(tokenizer), asked, GREEDY)
    assert [list(answer.ids) for answer in answers] == [
        by_hand(model, token_ids(tokenizer, text), 12) for text in rendered
    ]


def session(model: PreTrainedModel, system: str | None = None) -> ChatSession:
    return ChatSession(model, ChatTemplate(small_tokenizer()), Sampling(max_new_tokens=5), system)


def test_a_session_reads_all_that_was_said(model: PreTrainedModel) -> None:
    chat, tokenizer = session(model, system="Be"), small_tokenizer()
    first = chat.say("the cat")
    second = chat.say("the dog")
    assert chat.messages == [
        Message("user", "the cat"),
        Message("assistant", first.text),
        Message("user", "the dog"),
        Message("assistant", second.text),
    ]
    read = "<|system|>Be<|end|><|user|>the cat<|end|><|assistant|>"
    assert list(first.ids) == by_hand(model, token_ids(tokenizer, read), 5)
    read += f"{first.text}<|end|><|user|>the dog<|end|><|assistant|>"
    assert list(second.ids) == by_hand(model, token_ids(tokenizer, read), 5)


def test_a_session_forgets(model: PreTrainedModel) -> None:
    chat = session(model)
    first = chat.say("the cat")
    chat.forget()
    assert chat.messages == []
    assert chat.say("the cat") == first


def test_a_turn_that_fails_leaves_no_trace(model: PreTrainedModel) -> None:
    chat = session(model)
    chat.say("the cat")
    before = list(chat.messages)
    with pytest.raises(BurnishError, match="reads at most 64"):
        chat.say("word " * 80)
    assert chat.messages == before

    def broken(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chat.say("the dog", stream=broken)
    assert chat.messages == before
    assert chat.say("the dog").ids
