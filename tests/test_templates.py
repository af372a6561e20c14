"""Every template at hand times every kind of conversation: what burnish calls proven is put to the oracle.

The oracle (``tests/oracle.py``) shares no code with the proof. ``make test`` puts a sample of the pairs to
it, ``make test-slow`` all. Then: the marks that some templates carry, and the laws by token ids on real
tokenizers.
"""

from __future__ import annotations

import gc
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging
from transformers.utils.chat_template_utils import render_jinja_template

from burnish.data import Conversation
from burnish.data.conversation import PRIVATE
from burnish.errors import TemplateError
from burnish.template import ChatTemplate
from burnish.template.chatml import give_chatml
from burnish.tokens import Example, encode
from conftest import needs_shared, shared_tokenizer
from oracle import (
    PROVEN,
    REFUSED,
    REMEDY,
    conversation_of_row,
    faults,
    faults_of,
    outcome,
    outcome_of,
    template_named,
)
from own_templates import OWN, WITH_MARKERS
from templates import SUITE, sources
from test_masks import TEMPLATE_LIKE, UNUSUAL, conversation_of, spans, text_of

LAWS = ("", "served", "faithful", "stops", "borders", "only")


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """Compiling thousands of templates makes millions of small objects, and each collection walks through
    all that torch and transformers have loaded: a fifth of this file's time."""
    logging.set_verbosity_error()
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    yield
    gc.set_threshold(*before)
    gc.unfreeze()
    logging.set_verbosity_warning()


def sampled(name: str, more: int = 1) -> list[str]:
    """Some of the kinds for a template, others for the next: each kind meets templates of all families.
    ``more``: so many times as many."""
    place, kinds = [*sources()].index(name), [*SUITE]
    step = (13 if name.startswith("own/") else 41 if name.endswith("_training") else 23) // more
    return kinds[place % step :: step]


@pytest.mark.parametrize("name", sources())
def test_every_turn_is_proven_rightly_or_refused_with_a_law(name: str) -> None:
    _require_right(name, sampled(name))


def families() -> list[Any]:
    """Names of templates, those that ask the same advice in one process (``--dist loadgroup``)."""
    return [
        pytest.param(name, marks=pytest.mark.xdist_group(name.removesuffix("_training")))
        for name in sources()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", families())
def test_every_turn_of_more_kinds_is_proven_rightly_or_refused_with_a_law(name: str) -> None:
    """Of every kind: ``python tests/oracle.py``, which takes hours."""
    _require_right(name, sampled(name, 4))


def _require_right(name: str, kinds: list[str]) -> None:
    assert {outcome(name, kind).law for kind in kinds} <= {*LAWS}
    found = {kind: faults(name, kind) for kind in kinds}
    assert not {kind: words for kind, words in found.items() if words}


def test_nine_in_ten_pairs_that_can_be_rendered_are_proven() -> None:
    """Of the sample, on the templates of others. Each with its own text or with remedies; ChatML-lite in its
    stead does not count. Special tokens in names are refused on purpose."""
    names = [name for name in sources() if not name.startswith("own/")]
    if not names:
        pytest.skip("no template of others is here")
    pairs = [(n, k) for n in names for k in sampled(n) if k != "special tokens in names"]
    total = Counter(outcome(*pair).column for pair in pairs)
    print(total)
    for pair in pairs:
        if outcome(*pair).column == REFUSED:
            print("refused: {}, {}: law {}".format(*pair, outcome(*pair).law))
    proven = total[PROVEN] + total[REMEDY]
    assert proven >= 0.9 * (proven + total[REFUSED])


# Marks that templates carry themselves

LINE_BREAK = ("\n", "", "the marks go on over the line break behind the stop token, which is never asked for")
END_OF_TEXT = (
    "\n</s>",
    "",
    "the marks cover the token that ends the conversation, behind the end of the turn",
)
NO_RESPONSE = ("", "<|tool_response>", "the marks leave out the token at which the model stops for a result")
EXPLAINED: dict[str, set[tuple[str, str, str]]] = {
    "trl/diffusion_gemma_training": {LINE_BREAK, NO_RESPONSE},
    "trl/phi3_5_training": {END_OF_TEXT},
    "trl/phi3_training": {END_OF_TEXT},
    **{
        f"trl/{name}": {LINE_BREAK}
        for name in (
            "gemma3_training gemma_training lfm2_2_5 lfm2_2_5_v2 lfm2_2_5_vl lfm2_training lfm2_v2_training "
            "nemotron_3_5_lightning_training nemotron_3_nano_training nemotron_3_super_training "
            "nemotron_3_ultra_training qwen2_5_training qwen2_5_vl_training qwen3_5_nothink_training "
            "qwen3_5_think_training qwen3_6_training qwen3_8_training qwen3_instruct_2507_training "
            "qwen3_training qwen3_vl_training"
        ).split()
    },
}
"""Template -> (marked and not trained, trained and not marked, why)."""

MARKED = [name for name, text in sources().items() if re.search(r"{%-?\s*generation\s*-?%}", text)]

MARKED_KINDS = (
    "one turn",
    "white space at edges",
    "system, several turns",
    "reasoning",
    "reasoning in content",
    "parallel calls",
    "reasoning with a call",
    "result of function",
)


@pytest.mark.parametrize("name", MARKED)
def test_the_trained_characters_are_those_that_the_template_marks(name: str) -> None:
    """On what is proven without remedies. Marks of earlier turns are compared where these are last."""
    found, compared, template = set(), 0, template_named(name)
    for kind in MARKED_KINDS:
        if outcome(name, kind).column != PROVEN:
            continue
        conversation = conversation_of_row(SUITE[kind])
        messages, tools = conversation.as_dicts(), SUITE[kind][1]
        for turn in template.turns(conversation):
            (text,), (marks,) = render_jinja_template(
                [messages[: turn.index + 1]],
                tools=tools,
                chat_template=sources()[name],
                return_assistant_tokens_mask=True,
                **template.tokenizer.special_tokens_map,
            )
            start, end = len(turn.prompt), len(turn.prompt + turn.completion)
            marked = {place for a, b in marks for place in range(a, b) if place >= start}
            trained = {*range(start, end)}
            more = "".join(text[place] for place in sorted(marked - trained))
            less = "".join(text[place] for place in sorted(trained - marked))
            found |= {(more, less)} - {("", "")}
            compared += 1
    if not compared and name not in EXPLAINED:
        pytest.skip("nothing is proven without remedies")
    assert found == {(more, less) for more, less, _ in EXPLAINED.get(name, ())}


# Stop tokens

PUBLISHED = {
    "axolotl/llama4": {"<|eot|>"},
    "chat_templates/granite-3.0-instruct": {"<|end_of_text|>"},
    "chat_templates/openchat-3.5": {"<|end_of_turn|>"},
    "chat_templates/phi-3": {"<|end|>"},
    "mistral-common/v3": set(),
    "trl/cohere2": {"<|END_OF_TURN_TOKEN|>"},
    "trl/deepseekv3": {"<\uff5cend\u2581of\u2581sentence\uff5c>"},
    "trl/gemma3": {"<end_of_turn>"},
    "trl/gptoss": {"<|return|>", "<|call|>"},
    "trl/lfm2": {"<|im_end|>"},
    "trl/llama3_1": {"<|eot_id|>"},
    "trl/qwen3": {"<|im_end|>"},
}
"""Where the published models stop, by their generation configs, beside the tokenizer's end of sequence."""


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name in sources()])
def test_stop_tokens_are_those_of_the_published_model(name: str) -> None:
    assert {*template_named(name).stop_tokens} - {"</s>"} == PUBLISHED[name]


def last_trained(example: Example, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The last token of each trained span."""
    return tokenizer.convert_ids_to_tokens([example.input_ids[end - 1] for _, end in spans(example)])


ENDS_WITH_EOS = (
    "{%- for m in messages -%}{{ m.role + ':\n' + m.content }}"
    "{{ eos_token if m.role == 'assistant' else '\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'assistant:\n' }}{%- endif -%}"
)
SEVERAL = conversation_of([("user", "a?"), ("assistant", "Hi"), ("user", "b"), ("assistant", "No")])


@needs_shared
@pytest.mark.parametrize("name", ["gpt2", "qwen2", "mistral_v1", "mistral_v3", "phi-3"])
def test_the_stop_token_is_trained_though_padding_is_the_same_token(name: str) -> None:
    tokenizer = shared_tokenizer(name)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template = ENDS_WITH_EOS
    (example,) = encode(SEVERAL, ChatTemplate(tokenizer))
    assert last_trained(example, tokenizer) == [tokenizer.pad_token] * 2


@needs_shared
def test_the_end_of_a_turn_is_trained_where_it_is_not_the_end_of_sequence() -> None:
    tokenizer = shared_tokenizer("phi-3")
    assert tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>"
    template = ChatTemplate(tokenizer)
    (example,) = encode(SEVERAL, template)
    assert template.stop_tokens == ("<|end|>", "<|endoftext|>")
    assert last_trained(example, tokenizer) == ["<|end|>"] * 2
    assert tokenizer.eos_token_id not in example.input_ids


@pytest.mark.skipif("trl/gptoss" not in sources(), reason="TRL's templates are not here")
def test_a_call_and_an_answer_end_each_in_their_own_stop_token() -> None:
    template = template_named("trl/gptoss")
    examples = encode(conversation_of_row(SUITE["call and result"]), template)
    ends = [end for example in examples for end in last_trained(example, template.tokenizer)]
    assert ends == ["<|call|>", "<|return|>"]


# Real tokenizers

MISTRAL = [
    ("mistral_v1", "mistral-common/v1"),
    ("mistral_v1", "mistral-common/v1_spm"),
    ("mistral_v1", "axolotl/mistral_v1"),
    ("mistral_v3", "mistral-common/v3"),
    ("mistral_v3", "mistral-common/v3_spm"),
    ("mistral_v3", "axolotl/mistral_v2v3"),
]


@needs_shared
@pytest.mark.parametrize(("name", "own"), MISTRAL)
@pytest.mark.parametrize("kind", ["one turn", "several turns", "ends in a question", "empty question"])
def test_exactly_one_token_begins_a_mistral_example(name: str, own: str, kind: str) -> None:
    tokenizer = shared_tokenizer(name)
    tokenizer.chat_template = sources()[own]
    for example in encode(conversation_of_row(SUITE[kind]), ChatTemplate(tokenizer)):
        assert example.input_ids[0] == tokenizer.bos_token_id
        assert example.input_ids.count(tokenizer.bos_token_id) == 1


@needs_shared
def test_a_token_that_begins_texts_can_be_asked_for_and_is_never_doubled() -> None:
    tokenizer = shared_tokenizer("mistral_v3")
    give_chatml(tokenizer)
    (plain,) = encode(SEVERAL, ChatTemplate(tokenizer))
    (begun,) = encode(SEVERAL, ChatTemplate(tokenizer, remedies=("add_bos",)))
    assert begun.input_ids.count(tokenizer.bos_token_id) == 1
    assert text_of(tokenizer, begun.input_ids) == f"<s>{text_of(tokenizer, plain.input_ids)}"
    tokenizer.chat_template = sources()["mistral-common/v3"]
    with pytest.raises(TemplateError) as caught:
        encode(SEVERAL, ChatTemplate(tokenizer, remedies=("add_bos",)))
    assert caught.value.law == "served"


VICUNA = (
    "{{ bos_token or '' }}{%- for m in messages -%}"
    "{%- if m.role == 'assistant' -%}{{ ' ASSISTANT: ' + m.content + eos_token }}"
    "{%- elif m.role == 'user' -%}{{ ('' if loop.first else ' ') + 'USER: ' + m.content }}"
    "{%- else -%}{{ m.content }}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ ' ASSISTANT:' }}{%- endif -%}"
)
"""``USER: x ASSISTANT: y</s>``: no special token stands where the answer begins."""
VICUNA_SPACE = VICUNA.replace("' ASSISTANT:' }}", "' ASSISTANT: ' }}")
"""The same with the space in the prompt, which SentencePiece kinds would join with the answer."""

REAL = [
    ("qwen2", "chatml"),
    ("qwen2", "own"),
    ("qwen2", "vicuna"),
    ("gpt2", "chatml"),
    ("gpt2", "vicuna_space"),
    ("mistral_v1", "chatml"),
    ("mistral_v1", "mistral-common/v1_spm"),
    ("mistral_v1", "vicuna"),
    ("mistral_v1", "vicuna_space"),
    ("mistral_v3", "chatml"),
    ("mistral_v3", "mistral-common/v3_spm"),
    ("mistral_v3", "vicuna"),
    ("phi-3", "chatml"),
    ("phi-3", "own"),
    ("phi-3", "vicuna"),
    ("phi-3", "vicuna_space"),
]
SENTENCEPIECE = ("mistral_v1", "mistral_v3", "phi-3")
CHATML = (
    "{%- for m in messages -%}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)

TYPED = [
    *TEMPLATE_LIKE,
    "<s>",
    "<unk>",
    "[INST]",
    "[/INST]",
    "<|endoftext|>",
    " ASSISTANT:",
    " a",
    "b ",
    " ",
    "\n ",
]
# Left out: lone surrogates, which are no text; the character that SentencePiece writes for a space, and on
# phi-3 "</s>", of which a test below says what becomes of them.
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters=["\u2581", *PRIVATE])


@st.composite
def conversations(draw: st.DrawFn, typed: list[str], with_system: bool) -> Conversation:
    pieces = st.sampled_from([*TYPED, *typed, *UNUSUAL]) | st.text(CHARACTERS, max_size=12)
    content = st.lists(pieces, max_size=5).map("".join).map(lambda text: unicodedata.normalize("NFC", text))
    answer = content.filter(lambda text: bool(text.strip()))
    turns = [("system", draw(content))] if with_system and draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        turns += [("user", draw(content)), ("assistant", draw(answer))]
    return conversation_of(turns)


def real_template(name: str, template: str) -> ChatTemplate:
    tokenizer = shared_tokenizer(name)
    if template == "chatml":
        give_chatml(tokenizer)
    elif template != "own":
        given = {"vicuna": VICUNA, "vicuna_space": VICUNA_SPACE}
        tokenizer.chat_template = given.get(template) or sources()[template]
    return ChatTemplate(tokenizer)


@needs_shared
@pytest.mark.parametrize(("name", "template"), REAL)
def test_the_laws_hold_by_token_ids_on_real_tokenizers(name: str, template: str) -> None:
    chat = real_template(name, template)
    with_system = (name, template) not in (("phi-3", "own"), ("mistral_v1", "mistral-common/v1_spm"))
    typed = ["</s>"] if name != "phi-3" else []
    tried, refused = 0, 0

    @given(conversations(typed, with_system))
    def laws_hold(conversation: Conversation) -> None:
        nonlocal tried, refused
        tried += 1
        try:
            examples = encode(conversation, chat)
        except TemplateError as error:
            assert error.law == "borders" and name in SENTENCEPIECE
            refused += 1
            return
        _laws_by_ids(chat, conversation, examples)

    laws_hold()
    print(f"{name}, {template}: {refused} of {tried} refused")
    assert refused <= 0.05 * tried


def _laws_by_ids(chat: ChatTemplate, conversation: Conversation, examples: list[Example]) -> None:
    tokenizer, messages = chat.tokenizer, conversation.as_dicts()
    trained = [(e.input_ids[:start], e.input_ids[start:end]) for e in examples for start, end in spans(e)]
    answers = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    assert len(trained) == len(answers)  # only
    for (prompt, completion), place in zip(trained, answers, strict=True):
        served = tokenizer.apply_chat_template(
            messages[:place], add_generation_prompt=True, tokenize=True, sanitize_control_tokens=True
        )
        assert prompt == served["input_ids"]  # served
        assert completion[-1] in chat.stop_ids  # stops
        assert not {*completion[:-1]} & {*chat.stop_ids}
        # Read in its place: SentencePiece kinds drop a space at the beginning of what they decode. They also
        # put one behind each special token, so that where the template writes one too there are two.
        said = text_of(tokenizer, prompt + completion).removeprefix(text_of(tokenizer, prompt))
        stop = tokenizer.convert_ids_to_tokens(completion[-1])
        lead, content, behind = said.rpartition(messages[place]["content"] + stop)
        assert content and lead in ("", " ", "  ") and not behind  # faithful, borders


@needs_shared
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("name", SENTENCEPIECE)
@pytest.mark.parametrize("shape", ["chatml", "glm-4.5"])
def test_markers_that_were_merely_added_are_trained_as_one_id_or_refused(
    shape: str, name: str, normalized: bool
) -> None:
    _require_whole_markers(shape, name, normalized, ["several turns", "reasoning within the answer"])


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("name", SENTENCEPIECE)
@pytest.mark.parametrize("shape", ["chatml", *WITH_MARKERS])
def test_added_markers_of_every_shape_are_trained_as_one_id_or_refused(
    shape: str, name: str, normalized: bool
) -> None:
    kinds = ["one turn", "several turns", "reasoning within the answer", "call and result", "parallel calls"]
    _require_whole_markers(shape, name, normalized, kinds)


def _require_whole_markers(shape: str, name: str, normalized: bool, kinds: list[str]) -> None:
    tokenizer = shared_tokenizer(name)
    tokenizer.chat_template = CHATML if shape == "chatml" else OWN[shape]
    markers = sorted({*re.findall(r"<\|\w+\|>|\[gMASK\]|<sop>", tokenizer.chat_template), "<|user|>"})
    tokenizer.add_tokens([AddedToken(marker, special=False, normalized=normalized) for marker in markers])
    template = ChatTemplate(tokenizer)
    found = {kind: faults_of(outcome_of(template, SUITE[kind]), SUITE[kind]) for kind in kinds}
    assert not {kind: words for kind, words in found.items() if words}


@needs_shared
@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("phi-3", "a</s>b"),  # an added token that is not special, behind which the tokenizer puts a space
        ("mistral_v1", "a\u2581b"),  # the character that SentencePiece writes for a space
    ],
)
def test_what_a_tokenizer_cannot_write_is_refused_or_written(name: str, answer: str) -> None:
    template = real_template(name, "chatml")
    try:
        (example,) = encode(conversation_of([("user", "x"), ("assistant", answer)]), template)
    except TemplateError as error:
        assert error.law == "faithful"
        return
    assert answer in text_of(template.tokenizer, example.input_ids)
