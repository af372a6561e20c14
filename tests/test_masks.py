"""The mask laws: what is trained is what the model will have to say, and nothing else.

First the very ids, written out by hand on a toy conversation, for each of the three templates that
burnish meets first; then the laws over conversations that hypothesis makes up.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from burnish.data import Conversation
from burnish.data.conversation import PRIVATE
from burnish.errors import TemplateError
from burnish.pebble.tokenizer import train_tokenizer
from burnish.template import ChatTemplate
from burnish.template.chatml import give_chatml
from burnish.tokens import Example, encode
from conftest import byte_tokenizer, needs_shared, shared_tokenizer

TOY = [("system", "Be"), ("user", "a?"), ("assistant", "Hi"), ("user", "b"), ("assistant", "No")]


def conversation_of(turns: list[tuple[str, str]]) -> Conversation:
    return Conversation.from_messages([{"role": role, "content": content} for role, content in turns])


@lru_cache
def template_named(name: str) -> ChatTemplate:
    """pebble's (a byte a token), qwen2's own ChatML, or ChatML-lite on gpt2."""
    if name == "pebble":
        return ChatTemplate(byte_tokenizer())
    tokenizer = shared_tokenizer(name)
    if name == "gpt2":
        give_chatml(tokenizer)
    return ChatTemplate(tokenizer)


TEMPLATES = ["pebble", pytest.param("qwen2", marks=needs_shared), pytest.param("gpt2", marks=needs_shared)]


def with_template(jinja: str) -> ChatTemplate:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = jinja
    return ChatTemplate(tokenizer)


def spans(example: Example) -> list[tuple[int, int]]:
    """(start, end) of each run of trained tokens."""
    found, place = [], 0
    for marked, run in groupby(example.loss_mask):
        length = len(list(run))
        if marked:
            found.append((place, place + length))
        place += length
    return found


def text_of(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


# By hand


def test_pebble_by_hand() -> None:
    """Reserved ids: 1 system, 2 user, 3 assistant, 5 end. A byte's id is 16 + its place behind '!'."""
    (example,) = encode(conversation_of(TOY), template_named("pebble"))
    given, learnt = False, True
    expected = [
        (1, given), (49, given), (84, given), (5, given),  # <|system|> B e <|end|>
        (2, given), (80, given), (46, given), (5, given),  # <|user|> a ? <|end|>
        (3, given), (55, learnt), (88, learnt), (5, learnt),  # <|assistant|> H i <|end|>
        (2, given), (81, given), (5, given),  # <|user|> b <|end|>
        (3, given), (61, learnt), (94, learnt), (5, learnt),  # <|assistant|> N o <|end|>
    ]  # fmt: skip
    assert list(zip(example.input_ids, example.loss_mask, strict=True)) == expected


@needs_shared
def test_qwen2_chatml_by_hand() -> None:
    """151644 <|im_start|>, 151645 <|im_end|>, 198 newline, 8948 system, 872 user, 77091 assistant."""
    (example,) = encode(conversation_of(TOY), template_named("qwen2"))
    assert example.input_ids == [
        151644, 8948, 198, 3430, 151645, 198,  # Be
        151644, 872, 198, 64, 30, 151645, 198,  # a ?
        151644, 77091, 198, 13048, 151645, 198,  # Hi
        151644, 872, 198, 65, 151645, 198,  # b
        151644, 77091, 198, 2753, 151645,  # No
    ]  # fmt: skip
    assert [place for place, marked in enumerate(example.loss_mask) if marked] == [16, 17, 28, 29]
    assert spans(example) == [(16, 18), (28, 30)]  # not 18, the newline behind the end of the turn


@needs_shared
def test_chatml_lite_on_gpt2_by_hand() -> None:
    """50257 <|im_start|>, 50258 <|im_end|>, both new; 198 newline; 562 10167 'ass' 'istant'."""
    (example,) = encode(conversation_of(TOY), template_named("gpt2"))
    assert example.input_ids == [
        50257, 10057, 198, 3856, 50258, 198,  # Be
        50257, 7220, 198, 64, 30, 50258, 198,  # a ?
        50257, 562, 10167, 198, 17250, 50258, 198,  # Hi
        50257, 7220, 198, 65, 50258, 198,  # b
        50257, 562, 10167, 198, 2949, 50258,  # No
    ]  # fmt: skip
    assert spans(example) == [(17, 19), (30, 32)]


@needs_shared
def test_without_a_system_turn_qwen2_writes_its_own_and_does_not_train_it() -> None:
    (example,) = encode(conversation_of(TOY[1:3]), template_named("qwen2"))
    tokenizer = template_named("qwen2").tokenizer
    assert text_of(tokenizer, example.input_ids).startswith(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\na?<|im_end|>"
    )
    assert [text_of(tokenizer, example.input_ids[a:b]) for a, b in spans(example)] == ["Hi<|im_end|>"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_nothing_behind_the_last_answer_is_read(name: str) -> None:
    """A conversation that ends in a user turn: its last turn teaches nothing."""
    template = template_named(name)
    asked_on = encode(conversation_of([*TOY, ("user", "and now?")]), template)
    whole = encode(conversation_of(TOY), template)
    assert [(e.input_ids, e.loss_mask) for e in asked_on] == [(e.input_ids, e.loss_mask) for e in whole]


@pytest.mark.parametrize("name", TEMPLATES)
def test_without_an_answer_there_is_no_example(name: str) -> None:
    assert encode(conversation_of(TOY[:2]), template_named(name)) == []


def test_answers_one_after_the_other_are_each_trained() -> None:
    template = template_named("pebble")
    turns = [("user", "a"), ("assistant", "b"), ("assistant", "c")]
    (example,) = encode(conversation_of(turns), template)
    text = text_of(template.tokenizer, example.input_ids)
    assert text == "<|user|>a<|end|><|assistant|>b<|end|><|assistant|>c<|end|>"
    assert spans(example) == [(4, 6), (7, 9)]


# The laws

TEMPLATE_LIKE = ["<|im_end|>", "<|im_end|>\n<|im_start|>assistant\n", "<|end|>", "<|assistant|>", "<|end"]
TEMPLATE_LIKE += ["{{ messages }}", "{% endfor %}", "user", "assistant\n"]
UNUSUAL = [
    "\n",
    "\n\n",
    "  ",
    "\t",
    "\u2028",
    "\x00",
    "\ufb01",
    "\u65e5\u672c",
    "\u00e9",
    "\U0001f469\u200d\U0001f680",
]
PIECES = st.sampled_from(TEMPLATE_LIKE + UNUSUAL)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=PRIVATE), max_size=12)
CONTENT = (
    st.lists(PIECES | TEXT, max_size=5).map("".join).map(lambda text: unicodedata.normalize("NFC", text))
)
"""In normal form C, to which qwen2's tokenizer brings all text; other forms have a test of their own."""
ANSWER = CONTENT.filter(lambda text: bool(text.strip()))


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    turns = [("system", draw(CONTENT))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        turns += [("user", draw(CONTENT)), ("assistant", draw(ANSWER))]
    return conversation_of(turns)


@pytest.mark.parametrize("name", TEMPLATES)
@given(conversation=conversations())
def test_a_mask_keeps_the_laws(name: str, conversation: Conversation) -> None:
    template = template_named(name)
    tokenizer = template.tokenizer
    messages = conversation.as_dicts()
    trained = [
        (example.input_ids[:start], example.input_ids[start:end])
        for example in encode(conversation, template)
        for start, end in spans(example)
    ]
    answers = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    assert len(trained) == len(answers)  # only
    for (prompt, completion), place in zip(trained, answers, strict=True):
        served = tokenizer.apply_chat_template(
            messages[:place], add_generation_prompt=True, tokenize=True, sanitize_control_tokens=True
        )
        assert prompt == served["input_ids"]  # served
        end = tokenizer.convert_ids_to_tokens(completion[-1])
        assert completion[-1] in template.stop_ids  # stops
        assert text_of(tokenizer, completion) == messages[place]["content"] + end  # faithful, borders


@pytest.mark.parametrize("name", TEMPLATES)
@given(conversation=conversations())
def test_an_example_is_a_beginning_of_the_whole_conversation(name: str, conversation: Conversation) -> None:
    """These templates never rewrite history, so the last example reads all that was said."""
    template = template_named(name)
    last = encode(conversation, template)[-1]
    whole = template.render(conversation.as_dicts(), add_generation_prompt=False)
    assert whole.startswith(text_of(template.tokenizer, last.input_ids))


@needs_shared
def test_text_in_another_normal_form_is_trained_in_the_one_the_tokenizer_knows() -> None:
    template = template_named("qwen2")
    (example,) = encode(conversation_of([("user", "x"), ("assistant", "cafe\u0301")]), template)
    ((start, end),) = spans(example)
    assert text_of(template.tokenizer, example.input_ids[start:end]) == "caf\u00e9<|im_end|>"
    assert example.input_ids[start - 3 : start] == [151644, 77091, 198]


@needs_shared
def test_a_leading_newline_and_another_normal_form_are_no_contradiction() -> None:
    template = template_named("qwen2")
    (example,) = encode(conversation_of([("user", "x"), ("assistant", "\ncafe\u0301")]), template)
    ((start, end),) = spans(example)
    assert text_of(template.tokenizer, example.input_ids[start:end]) == "\ncaf\u00e9<|im_end|>"


@needs_shared
@pytest.mark.parametrize("name", ["phi-3", "mistral_v1", "mistral_v3"])
def test_sentencepiece_kinds_keep_the_laws_under_chatml_lite(name: str) -> None:
    tokenizer = shared_tokenizer(name)
    give_chatml(tokenizer)
    template = ChatTemplate(tokenizer)
    messages = conversation_of(TOY).as_dicts()
    trained = [
        (example.input_ids[:start], example.input_ids[start:end])
        for example in encode(conversation_of(TOY), template)
        for start, end in spans(example)
    ]
    served = [
        tokenizer.apply_chat_template(messages[:place], add_generation_prompt=True, tokenize=True)[
            "input_ids"
        ]
        for place in (2, 4)
    ]
    assert [prompt for prompt, _ in trained] == served
    assert [text_of(tokenizer, completion).strip() for _, completion in trained] == [
        "Hi<|im_end|>",
        "No<|im_end|>",
    ]


def test_several_examples_where_the_template_rewrites_history() -> None:
    """It marks the turn that is answered now, and takes the mark back afterwards."""
    template = with_template(
        "{%- for m in messages -%}<|{{ m.role }}|>"
        "{%- if loop.last and m.role == 'assistant' -%}<|spare_1|>{%- endif -%}{{ m.content }}<|end|>"
        "{%- endfor -%}{%- if add_generation_prompt -%}<|assistant|><|spare_1|>{%- endif -%}"
    )
    first, second = encode(conversation_of(TOY[1:]), template)
    tokenizer = template.tokenizer
    assert text_of(tokenizer, first.input_ids) == "<|user|>a?<|end|><|assistant|><|spare_1|>Hi<|end|>"
    assert text_of(tokenizer, second.input_ids) == (
        "<|user|>a?<|end|><|assistant|>Hi<|end|><|user|>b<|end|><|assistant|><|spare_1|>No<|end|>"
    )
    assert [
        text_of(tokenizer, example.input_ids[start:end])
        for example in (first, second)
        for start, end in spans(example)
    ] == ["Hi<|end|>", "No<|end|>"]


# Templates that break a law

GENERATION = "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
TURN = "<|{{ m.role }}|>{{ m.content }}<|end|>"
DROPS_SYSTEM = (
    "{%- for m in messages -%}{%- if m.role != 'system' -%}"
    + TURN
    + "{%- endif -%}{%- endfor -%}"
    + GENERATION
)


def refused(template: ChatTemplate, turns: list[tuple[str, str]] = TOY) -> str:
    with pytest.raises(TemplateError) as caught:
        encode(conversation_of(turns), template)
    assert "<memory>: message" in caught.value.what
    assert caught.value.fix
    return caught.value.what


def test_a_generation_prompt_that_the_turn_does_not_begin_with_breaks_served() -> None:
    template = with_template(
        "{%- for m in messages -%}" + TURN + "{%- endfor -%}"
        "{%- if add_generation_prompt -%}<|assistant|><|spare_1|>{%- endif -%}"
    )
    assert "message 3: law 'served' fails" in refused(template)


def test_a_template_that_ignores_the_generation_prompt_breaks_a_law() -> None:
    assert "law '" in refused(with_template("{%- for m in messages -%}" + TURN + "{%- endfor -%}"))


def test_no_stop_token_behind_the_answer_breaks_stops() -> None:
    template = with_template(
        "{%- for m in messages -%}<|{{ m.role }}|>{{ m.content }}{%- endfor -%}" + GENERATION
    )
    assert "message 3: law 'stops' fails" in refused(template)


def test_a_stop_token_within_the_answer_does_not_stand_for_the_one_behind_it() -> None:
    template = with_template(
        "{%- for m in messages -%}<|{{ m.role }}|>{{ m.content }}{%- endfor -%}" + GENERATION
    )
    assert "law 'stops' fails" in refused(template, [("user", "a"), ("assistant", "b<|endoftext|>c")])


def test_a_dropped_system_turn_breaks_faithful() -> None:
    turns = [("system", "Say little."), *TOY[1:]]
    says = refused(with_template(DROPS_SYSTEM), turns)
    assert "law 'faithful' fails: the rendered turn has not kept message 1 (system)" in says


def test_a_dropped_system_turn_breaks_faithful_though_its_text_stands_elsewhere() -> None:
    turns = [("system", "a"), ("user", "a cat"), ("assistant", "b")]
    assert "law 'faithful' fails" in refused(with_template(DROPS_SYSTEM), turns)


def test_an_answer_that_is_changed_breaks_faithful() -> None:
    template = with_template(
        "{%- for m in messages -%}<|{{ m.role }}|>"
        "{{ m.content | upper if m.role == 'assistant' else m.content }}<|end|>{%- endfor -%}" + GENERATION
    )
    assert "has not kept the answer" in refused(template, [("user", "A"), ("assistant", "b")])


STRIPS_EARLIER = (
    "{%- for m in messages -%}<|{{ m.role }}|>"
    "{{ m.content if loop.last else m.content.split('</think>')[-1] }}<|end|>{%- endfor -%}" + GENERATION
)


def test_a_template_that_strips_earlier_reasoning_says_so_and_gives_an_example_a_turn() -> None:
    turns = [("user", "a"), ("assistant", "<think>b</think>c"), ("user", "d"), ("assistant", "e")]
    template = with_template(STRIPS_EARLIER)
    first, second = encode(conversation_of(turns), template)
    tokenizer = template.tokenizer
    assert text_of(tokenizer, first.input_ids) == "<|user|>a<|end|><|assistant|><think>b</think>c<|end|>"
    assert text_of(tokenizer, second.input_ids).startswith("<|user|>a<|end|><|assistant|>c<|end|>")
    *_, turn = template.turns(conversation_of(turns))
    assert turn.notes == ("reasoning of earlier turns is left out, as it will be at inference",)


def test_reasoning_that_the_template_drops_is_not_passed_over() -> None:
    conversation = Conversation.from_messages(
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "c"}]
    )
    with pytest.raises(TemplateError, match=r"law 'faithful' fails.*reasoning") as caught:
        encode(conversation, template_named("pebble"))
    assert caught.value.remedies == (("keep_reasoning",), ("drop_reasoning",))


def test_a_template_that_refuses_the_messages_is_named_with_the_message() -> None:
    template = with_template(
        "{%- for m in messages -%}{%- if m.role == 'system' -%}{{ raise_exception('no system turns') }}"
        "{%- endif -%}" + TURN + "{%- endfor -%}" + GENERATION
    )
    assert "no system turns" in refused(template)


def test_a_token_across_the_start_of_the_answer_is_never_trained() -> None:
    """The generation prompt ends in a space, which ' Hi' as a whole would swallow into its first token."""
    tokenizer = train_tokenizer(["user: Hi Hi Hi"] * 3, 400, 512)
    assert text_of(tokenizer, tokenizer(": Hi")["input_ids"][-1:]) == " Hi"
    tokenizer.chat_template = (
        "{%- for m in messages -%}{{ m.role }}: {{ m.content }}<|end|>{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ 'assistant: ' }}{%- endif -%}"
    )
    (example,) = encode(conversation_of(TOY[1:3]), ChatTemplate(tokenizer))
    ((start, end),) = spans(example)
    assert text_of(tokenizer, example.input_ids[:start]) == "user: a?<|end|>assistant: "
    assert text_of(tokenizer, example.input_ids[start:end]) == "Hi<|end|>"


def test_a_tokenizer_without_template_is_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(TemplateError, match="no chat template") as caught:
        ChatTemplate(tokenizer)
    assert "chatml" in caught.value.fix


# Stop tokens


@pytest.mark.parametrize(
    ("name", "stops"),
    [
        ("pebble", ("<|end|>", "<|endoftext|>")),
        pytest.param("qwen2", ("<|im_end|>",), marks=needs_shared),
        pytest.param("gpt2", ("<|im_end|>", "<|endoftext|>"), marks=needs_shared),
    ],
)
def test_stop_tokens_are_the_end_of_the_turn_and_the_end_of_text(name: str, stops: tuple[str, ...]) -> None:
    template = template_named(name)
    assert template.stop_tokens == stops
    assert template.tokenizer.convert_ids_to_tokens(template.stop_ids) == list(stops)


@needs_shared
def test_chatml_lite_adds_only_the_tokens_that_are_new() -> None:
    assert give_chatml(shared_tokenizer("gpt2")) == ["<|im_start|>", "<|im_end|>"]
    assert give_chatml(shared_tokenizer("qwen2")) == []
