"""Encoding by words and rendering by frames give what whole texts and the template itself give."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from burnish.data import Conversation
from burnish.errors import TemplateError
from burnish.template import ChatTemplate
from burnish.template.chatml import TEMPLATE, give_chatml
from burnish.template.frame import frame_of
from burnish.tokens import encode, encode_all
from burnish.tokens.ids import batch_encode
from burnish.tokens.words import WordEncoder, encodes_by_words
from conftest import byte_tokenizer, shared_tokenizer, small_tokenizer
from templates import assistant, sources, system, tokenizer_with, user

CHARACTERS = [
    *"abcXYZ  \n\n\t\r123.,;:'\"!?-_()[]{}<>/\\|",
    *"é\u0301\u0300ß\u0627חह漢字🙂\u200d\u0085\u00a0\u1680\u180e\u2003\u200b\u2028\u2581\u3000\x1c\x00",
]
UNITS = [*CHARACTERS, "'s", "'LL", " 's", "\n\n", " \n", "\r\n", "  ", "...", " the", " a", "ing", "\n- "]
"""What texts are made of that tokenizers cut in ways of their own."""

CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def like_gpt4() -> PreTrainedTokenizerBase:
    """Pebble's kind of tokenizer, cutting texts as GPT-4's and Llama 3's do."""
    return cutting_by(CL100K)


def cutting_by(pattern: str, invert: bool = False) -> PreTrainedTokenizerBase:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer().backend_tokenizer)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated", invert),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "pebble's kind": small_tokenizer,
    "GPT-4's kind": like_gpt4,
    "gpt2": partial(shared_tokenizer, "gpt2"),
    "qwen2": partial(shared_tokenizer, "qwen2"),
}


def random_texts(random_: random.Random, units: list[str], count: int) -> list[str]:
    texts = ["".join(random_.choices(units, k=random_.randint(0, 40))) for _ in range(count)]
    for _ in range(count):
        short = ["".join(random_.choices(units, k=random_.randint(0, 5))) for _ in range(10)]
        texts.append(random_.choice(" \n").join(short))
    return texts


@pytest.mark.parametrize("name", TOKENIZERS)
def test_ids_by_words_are_those_of_whole_texts(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    assert encodes_by_words(tokenizer)
    units = [*UNITS, *list(tokenizer.get_added_vocab())[:6]]
    random_ = random.Random(0)
    by_words = WordEncoder(partial(batch_encode, tokenizer))
    for _ in range(8):
        texts = random_texts(random_, units, 400)
        for text, found, wanted in zip(texts, by_words(texts), batch_encode(tokenizer, texts), strict=True):
            assert found == wanted, repr(text)
    assert len(by_words.words) > 1000


@given(st.lists(st.text(st.one_of(st.sampled_from(CHARACTERS), st.characters(codec="utf-8"))), max_size=5))
def test_ids_by_words_are_those_of_any_texts(texts: list[str]) -> None:
    for tokenizer in (small_tokenizer(), like_gpt4()):
        assert WordEncoder(partial(batch_encode, tokenizer))(texts) == batch_encode(tokenizer, texts)


def test_words_are_encoded_once_and_not_kept_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burnish.tokens.words.MOST", 4)
    asked: list[str] = []

    def encode_each(texts: list[str]) -> list[list[int]]:
        asked.extend(texts)
        return [[len(text)] for text in texts]

    by_words = WordEncoder(encode_each)
    assert by_words(["the cat\nthe cat  sat", "the cat"]) == [[3, 5, 3, 9], [3, 4]]
    assert sorted(asked) == [" cat", " cat\n", " cat  sat", "the"]
    asked.clear()
    assert by_words(["the cat", f"the {'x' * 41}"]) == [[3, 4], [3, 42]]
    assert asked == [" " + "x" * 41]
    asked.clear()
    by_words([f"the {'x' * 41}"])
    assert asked == [" " + "x" * 41]
    by_words(["a b c d e f"])
    assert not by_words.words
    asked.clear()
    assert by_words(["the cat"]) == [[3, 4]]
    assert asked == [" cat"]


def with_added(content: str, **flags: bool) -> PreTrainedTokenizerBase:
    from transformers import AddedToken

    tokenizer = like_gpt4()
    tokenizer.add_tokens([AddedToken(content, **flags)], special_tokens=True)
    return tokenizer


def test_what_cannot_be_proven_gets_whole_texts() -> None:
    assert encodes_by_words(with_added("<|x|>"))
    assert not encodes_by_words(with_added("<|x y|>"))
    for flag in ("lstrip", "rstrip", "single_word"):
        assert not encodes_by_words(with_added("<|x|>", **{flag: True}))
    assert not encodes_by_words(cutting_by(CL100K.removesuffix(r"|\s+")))
    assert not encodes_by_words(cutting_by(CL100K + r"|.+"))
    assert not encodes_by_words(cutting_by(CL100K, invert=True))
    assert not encodes_by_words(cutting_by(r"\p{L}+ \p{L}+|\s+"))
    spaced = like_gpt4()
    spaced.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert not encodes_by_words(spaced)


@pytest.mark.parametrize("name", ["phi-3", "mistral_v1", "mistral_v3"])
def test_sentencepiece_gets_whole_texts(name: str) -> None:
    assert not encodes_by_words(shared_tokenizer(name))


def conversations(count: int) -> list[Conversation]:
    random_ = random.Random(1)
    made = []
    for number in range(count):
        said = [text.strip() or "x" for text in random_texts(random_, [*UNITS, "<|im_end|>", "word"], 3)]
        messages = [user(said[0]), assistant(said[1])]
        if number % 3 == 0:
            messages = [system(said[2]), *messages, user(said[3]), assistant(said[4])]
        made.append(Conversation.from_messages(messages))
    return made


def test_many_rows_become_what_each_becomes_by_itself() -> None:
    """Behind the first 512 rows words and frames are used; alone, a row gets neither."""
    tokenizer = like_gpt4()
    give_chatml(tokenizer)
    rows = conversations(1100)
    many = list(encode_all(rows, ChatTemplate(tokenizer)))
    assert not any(encoded.error for encoded in many)
    for row, encoded in list(zip(rows, many, strict=True))[::7]:
        alone = encode(row, ChatTemplate(tokenizer))
        assert list(encoded.examples) == alone


# Frames

CONTENTS = [
    *UNITS,
    *("<think>", "</think>", "<|im_end|>", "[INST]", "</s>", "<|eot_id|>", "<tool_response>", "{{ x }}"),
    *("tool", "'function'", "/no_think", "json", "True", "None", "0", "word"),
]
KINDS = [
    ("user",),
    ("system", "user"),
    ("user", "assistant"),
    ("system", "user", "assistant"),
    ("user", "assistant", "user", "assistant"),
    ("system", "user", "assistant", "user"),
]


def frames(source: str) -> dict[tuple[bool, tuple[str, ...]], object]:
    template = ChatTemplate(tokenizer_with(source))
    return {(p, roles): template.renderer._frame((p, *roles)) for roles in KINDS for p in (False, True)}


@pytest.mark.parametrize("name", ["ChatML-lite", *sources()])
def test_a_filled_frame_is_what_the_template_renders(name: str) -> None:
    """Of templates for which there is none, nothing is asked."""
    source = {"ChatML-lite": TEMPLATE, **sources()}[name]
    template = ChatTemplate(tokenizer_with(source))
    random_ = random.Random(name)
    for roles in KINDS:
        for prompted in (False, True):
            frame = template.renderer._frame((prompted, *roles))
            for _ in range(12 if frame else 0):
                contents = ["".join(random_.choices(CONTENTS, k=random_.randint(1, 6))) for _ in roles]
                filled = frame.filled(contents)
                if filled is not None:
                    messages = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)]
                    assert filled == template.renderer._rendered(messages, (), prompted)


@pytest.mark.skipif("trl/llama3" not in sources(), reason="TRL's templates are not here")
def test_well_known_templates_have_frames() -> None:
    found = {"ChatML-lite": TEMPLATE, **sources()}
    for name in ("ChatML-lite", "trl/llama3", "trl/qwen2_5", "trl/qwen3", "trl/phi3", "trl/deepseekv3"):
        assert all(frames(found[name]).values()), name


SAYS = "{% for m in messages %}{{ '[' + m['role'] + ']' + m['content'] }}{% endfor %}"
LOOKS = {
    "length": "{% if m.content | length > 5 %}L{% endif %}",
    "sequence": "{% if m.content is sequence %}S{% endif %}",
    "iterable": "{% if m.content is iterable %}S{% endif %}",
    "number": "{% if m.content | int > 5 %}N{% endif %}",
    "fraction": "{% if m.content | float > 5 %}N{% endif %}",
    "first": "{{ m.content[0] }}",
    "upper": "{{ m.content | upper }}",
    "method": "{{ m.content.upper() }}",
    "json": "{{ m.content | tojson }}",
    "indented json": "{{ {'a': m.content} | tojson(indent=2) }}",
    "row": "{{ m }}",
    "word": "{{ m.content.split()[0] }}",
    "within": "{% if m.content in 'a word or two' %}W{% endif %}",
    "equal": "{% if m.content == messages[0].content %}E{% endif %}",
    "macro": "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(m.content) | upper }}",
    "block": "{% set x %}{{ m.content }}{% endset %}{{ x | upper }}",
    "filter": "{% filter upper %}{{ m.content }}{% endfilter %}",
    "joined": "{{ [m.content, 'a'] | join('-') | upper }}",
    "joined and looked at": "{% if 'a' in m.content + 'b' %}A{% endif %}",
    "joined and trimmed": "{{ ('  ' + m.content) | trim }}",
    "format": "{{ '%s' % m.content }}",
    "sorted": "{{ messages | map(attribute='content') | sort | first }}",
    "key": "{{ {'a': 1}[m.content] }}",
    "reversed": "{{ m.content | reverse }}",
    "time": "{{ strftime_now('%Y') }}{{ m.content }}",
    "chance": "{{ [1, 2] | random }}{{ m.content }}",
}


@pytest.mark.parametrize("look", LOOKS)
def test_there_is_no_frame_where_a_template_looks_into_contents(look: str) -> None:
    assert frame_of(SAYS, ("user",)) is not None
    source = "{% for m in messages %}" + LOOKS[look] + "{% endfor %}"
    assert frame_of(source, ("user", "assistant")) is None


def test_what_a_template_asks_of_contents_becomes_a_condition() -> None:
    source = (
        "{% for m in messages %}{% if '</think>' in m.content %}{{ m.content.split('</think>')[-1] }}"
        "{% elif m.content.startswith('<t>') or m.content == 'no' %}T{% elif m.content != '' %}"
        "{{ m.role ~ ': ' ~ (m.content | trim) ~ 1 }}{% endif %}{% endfor %}"
    )
    frame = frame_of(source, ("user", "assistant"))
    assert frame is not None
    assert frame.pieces == ("user: ", 0, "1assistant: ", 1, "1")
    assert frame.lacks == ("</think>", "<t>", "no")
    assert frame.filled(["a", "b"]) == "user: a1assistant: b1"
    for bad in ("", " a", "a\n", "x</think>y", "<t>", "a no"):
        assert frame.filled([bad, "b"]) is None
        assert frame.filled(["a", bad]) is None


def test_rows_are_rendered_by_the_template_where_no_frame_holds() -> None:
    template = ChatTemplate(tokenizer_with(TEMPLATE))
    for number in range(20):
        for content in (f"a{number}", f" {number}\n", ""):
            text = template.render([{"role": "user", "content": content}], add_generation_prompt=True)
            assert text == f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
    assert len(template.renderer._frames) == 1


def test_a_template_that_refuses_refuses_each_time() -> None:
    source = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + SAYS
    template = ChatTemplate(tokenizer_with(source))
    for _ in range(20):
        with pytest.raises(TemplateError, match="no"):
            template.render([system("a")], add_generation_prompt=False)
