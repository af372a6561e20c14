"""Plain prompts and responses: what is served is given, the response and its end are learnt."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from burnish import Conversation, encode_plain
from burnish.data import Source
from burnish.errors import DataError, TemplateError
from burnish.model.load import PEBBLE_FOLDER
from burnish.tokens import plain
from conftest import TOKENIZER_OF, byte_tokenizer, needs_shared, shared_tokenizer, small_tokenizer


def test_a_toy_id_by_id() -> None:
    """16 reserved tokens, then the bytes from '!' on; 0 ends texts."""
    example = encode_plain("a", "bc", byte_tokenizer(), source=Source("rows.jsonl", 7))
    a = 16 + ord("a") - ord("!")
    assert example.input_ids == [a, a + 1, a + 2, 0]
    assert example.loss_mask == [False, True, True, True]
    assert str(example.source) == "rows.jsonl:7"


def test_what_the_docstring_shows() -> None:
    names = {"encode_plain": encode_plain, "tokenizer": AutoTokenizer.from_pretrained(PEBBLE_FOLDER)}
    found = doctest.DocTestParser().get_doctest(encode_plain.__doc__ or "", names, "plain", plain.__file__, 0)
    assert found.examples
    report: list[str] = []
    doctest.DocTestRunner().run(found, out=report.append)
    assert not report, "".join(report)


PAIRS = (
    ("Where is Rome?\n", "In Italy."),
    ("1 + 1 =", " 2"),
    ("Übersetze: sea", "\nMeer ☃"),
    ("x", " <s> </s>"),
)


@needs_shared
@pytest.mark.parametrize("family", sorted(TOKENIZER_OF))
@pytest.mark.parametrize("pair", PAIRS)
def test_the_prompt_is_what_inference_feeds_and_the_response_comes_back(
    family: str, pair: tuple[str, str]
) -> None:
    tokenizer = shared_tokenizer(TOKENIZER_OF[family])
    prompt, response = pair
    example = encode_plain(prompt, response, tokenizer)
    served = tokenizer(prompt)["input_ids"]
    assert example.input_ids[: len(served)] == served
    assert example.loss_mask == [False] * len(served) + [True] * (len(example.input_ids) - len(served))
    assert example.input_ids[-1] == tokenizer.eos_token_id
    learnt = example.input_ids[len(served) : -1]
    assert tokenizer.eos_token_id not in learnt
    assert tokenizer.decode(learnt).strip() == response.strip()
    whole = tokenizer.decode([*served, *learnt], skip_special_tokens=False)
    assert whole.endswith(prompt + response)


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Co")), min_size=1, max_size=20)


@given(TEXTS.filter(str.strip), TEXTS.filter(str.strip))
def test_any_text_comes_back_and_only_the_response_is_learnt(prompt: str, response: str) -> None:
    tokenizer = small_tokenizer()
    example = encode_plain(prompt, response, tokenizer)
    given_ids, learnt = (
        [i for i, mask in zip(example.input_ids, example.loss_mask, strict=True) if mask is wanted]
        for wanted in (False, True)
    )
    assert learnt.pop() == tokenizer.eos_token_id
    assert tokenizer.decode(given_ids) == prompt
    assert tokenizer.decode(learnt) == response


@pytest.mark.parametrize(("prompt", "response", "what"), [("", "a", "prompt"), ("a", " \n", "response")])
def test_an_empty_text_is_refused(prompt: str, response: str, what: str) -> None:
    with pytest.raises(DataError, match=f"rows.jsonl:7: its {what} is"):
        encode_plain(prompt, response, small_tokenizer(), source=Source("rows.jsonl", 7))


def test_a_tokenizer_without_an_end_is_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(TemplateError, match="no token that ends texts") as refused:
        encode_plain("a", "b", tokenizer)
    assert refused.value.law == "stops"


def test_a_prompt_and_a_response_make_a_conversation() -> None:
    source = Source("rows.jsonl", 7)
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    assert Conversation.from_prompt("Hi", "Hello.", source=source) == Conversation.from_messages(
        turns, source=source
    )
    with_system = Conversation.from_prompt("Hi", "Hello.", system="Be kind.")
    assert with_system.as_dicts() == [{"role": "system", "content": "Be kind."}, *turns]
    with pytest.raises(DataError, match=r"rows\.jsonl:7: message 2 is an empty assistant turn"):
        Conversation.from_prompt("Hi", " ", source=source)
