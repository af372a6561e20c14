"""The laws of the split into rows to train on and rows to hold out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from burnish.curate import split
from burnish.data import Conversation, Source

PROMPTS = st.sampled_from(["a", "A ", "b", "c", "d", "e?", "f g", "h"])
ANSWERS = st.sampled_from(["yes", "no", "maybe"])
SHARES = st.floats(0.0, 0.95)


@st.composite
def many(draw: st.DrawFn) -> list[Conversation]:
    """Conversations whose prompts repeat, some with a system turn, some with a second round."""
    conversations = []
    for number in range(draw(st.integers(0, 30))):
        messages = [{"role": "user", "content": draw(PROMPTS)}]
        messages += [{"role": "assistant", "content": draw(ANSWERS)}]
        if draw(st.booleans()):
            messages.insert(0, {"role": "system", "content": draw(st.sampled_from(["kind", "short"]))})
        if draw(st.booleans()):
            messages += [{"role": "user", "content": draw(PROMPTS)}]
        conversations.append(Conversation.from_messages(messages, source=Source("rows.jsonl", number + 1)))
    return conversations


def prompt_of(conversation: Conversation) -> tuple[tuple[str, str], ...]:
    """What comes before the first answer, as a person would compare it."""
    found = []
    for message in conversation.messages:
        if message.role == "assistant":
            break
        found.append((message.role, message.content.strip().lower()))
    return tuple(found)


def rows_of(conversations: list[Conversation]) -> list[int]:
    return [conversation.source.row for conversation in conversations]


@given(many(), SHARES, st.integers(0, 5))
def test_every_row_is_on_exactly_one_side_and_in_order(
    conversations: list[Conversation], share: float, seed: int
) -> None:
    train, held_out = split(conversations, share, seed)
    assert sorted(rows_of(train) + rows_of(held_out)) == rows_of(conversations)
    assert rows_of(train) == sorted(rows_of(train))
    assert rows_of(held_out) == sorted(rows_of(held_out))


@given(many(), SHARES, st.integers(0, 5))
def test_no_prompt_is_on_both_sides(conversations: list[Conversation], share: float, seed: int) -> None:
    train, held_out = split(conversations, share, seed)
    assert not {*map(prompt_of, train)} & {*map(prompt_of, held_out)}


@given(many(), SHARES, st.integers(0, 5))
def test_the_same_seed_gives_the_same_split(
    conversations: list[Conversation], share: float, seed: int
) -> None:
    assert split(conversations, share, seed) == split(list(conversations), share, seed)


@given(many(), SHARES, st.integers(0, 5))
def test_the_share_is_met_to_within_one_prompt(
    conversations: list[Conversation], share: float, seed: int
) -> None:
    _, held_out = split(conversations, share, seed)
    prompts = [prompt_of(conversation) for conversation in conversations]
    largest = max((prompts.count(prompt) for prompt in prompts), default=0)
    wanted = max(1, round(share * len(conversations))) if share and len(set(prompts)) > 1 else 0
    # Never more than one prompt's rows too many; fewer only where one prompt is all that is left to train.
    assert len(held_out) < wanted + max(largest, 1)
    assert len(held_out) >= wanted or len(set(prompts) - {prompt_of(c) for c in held_out}) == 1


def distinct(count: int) -> list[Conversation]:
    return [
        Conversation.from_messages(
            [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": "yes"}],
            source=Source("rows.jsonl", n + 1),
        )
        for n in range(count)
    ]


def test_the_share_is_exact_where_no_prompt_repeats() -> None:
    train, held_out = split(distinct(200), 0.05, seed=0)
    assert (len(train), len(held_out)) == (190, 10)


def test_a_share_of_nothing_holds_nothing_out() -> None:
    assert split(distinct(20), 0.0, seed=0)[1] == []


def test_a_small_share_still_holds_one_row_out() -> None:
    assert len(split(distinct(5), 0.01, seed=0)[1]) == 1


def test_one_prompt_alone_is_trained() -> None:
    train, held_out = split(distinct(1) * 6, 0.5, seed=0)
    assert (len(train), len(held_out)) == (6, 0)


def test_another_seed_holds_out_other_rows() -> None:
    assert rows_of(split(distinct(100), 0.2, seed=0)[1]) != rows_of(split(distinct(100), 0.2, seed=1)[1])


def test_what_is_held_out_depends_on_the_prompts_and_not_on_their_place() -> None:
    forward, backward = distinct(50), distinct(50)[::-1]
    held_out = [sorted(rows_of(split(rows, 0.2, seed=3)[1])) for rows in (forward, backward)]
    assert held_out[0] == held_out[1]


def test_the_system_turn_belongs_to_the_prompt() -> None:
    """The same question under two system turns is two prompts, and may be on both sides."""
    question = {"role": "user", "content": "q"}
    rows = [
        Conversation.from_messages([{"role": "system", "content": s}, question], source=Source("r.jsonl", n))
        for n, s in enumerate(("kind", "short"), 1)
    ]
    train, held_out = split(rows, 0.5, seed=0)
    assert (len(train), len(held_out)) == (1, 1)
