"""Answers from a model, one at a time or many together, each up to its stop token."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation.streamers import TextStreamer

from burnish.data import Conversation
from burnish.errors import BurnishError
from burnish.model.virtual_tokens import virtual_count
from burnish.template import ChatTemplate
from burnish.tokens import token_ids

LARGEST_BATCH = 64
"""Prompts of one length that are answered in one batch."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: the likeliest one at temperature 0, else at random.

    ``top_p``: only from the likeliest tokens that together hold this share of the probability.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    max_new_tokens: int = 256


@dataclass(frozen=True)
class Answer:
    """An answer of the model: ``ids`` without the stop token; ``stopped``: by itself, not by the limit."""

    text: str
    ids: tuple[int, ...]
    stopped: bool


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    stop_ids: Sequence[int],
    sampling: Sampling = Sampling(),
    *,
    stream: Callable[[str], None] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Answer]:
    """Answers to prompts of token ids, in their order.

    Prompts of one length go together, so that nothing is padded and no answer depends on its
    neighbours' lengths. ``stream`` gets the text of a single prompt's answer piece by piece;
    ``progress`` the number of prompts answered so far.
    """
    assert stream is None or len(prompts) == 1
    model.eval()
    torch.manual_seed(sampling.seed)
    by_length: dict[int, list[int]] = defaultdict(list)
    for number, prompt in enumerate(prompts):
        by_length[len(prompt)].append(number)
    answers: dict[int, Answer] = {}
    for length, numbers in sorted(by_length.items()):
        room = _room_left(model, length, sampling.max_new_tokens)
        for first in range(0, len(numbers), LARGEST_BATCH):
            group = numbers[first : first + LARGEST_BATCH]
            ids = torch.tensor([list(prompts[number]) for number in group], device=model.device)
            with _generation_of_ours(model), _told_of_broken_logits():
                output = model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=room,
                    eos_token_id=list(stop_ids),
                    pad_token_id=stop_ids[0],
                    do_sample=sampling.temperature > 0,
                    temperature=sampling.temperature or None,
                    top_p=sampling.top_p if sampling.temperature > 0 else None,
                    top_k=None,
                    streamer=_Streamer(tokenizer, stream, stop_ids) if stream else None,
                )
            for number, row in zip(group, output[:, length:].tolist(), strict=True):
                answers[number] = _answer(tokenizer, row, stop_ids)
            progress(len(answers))
    return [answers[number] for number in range(len(prompts))]


@contextmanager
def _told_of_broken_logits() -> Iterator[None]:
    """torch draws no token where logits are no numbers, and says so in words of its own."""
    try:
        yield
    except RuntimeError as error:
        if "probability tensor" not in str(error):
            raise
        raise BurnishError(
            "the model's logits are no numbers",
            why="Some of its weights are broken; no token can be drawn.",
            fix="Load it from a whole copy of its files.",
        ) from error


def answer_all(
    model: PreTrainedModel,
    template: ChatTemplate,
    conversations: Sequence[Conversation],
    sampling: Sampling = Sampling(),
    progress: Callable[[int], None] = lambda done: None,
) -> list[Answer]:
    """The model's next turn in each conversation, through the chat template."""
    prompts = [token_ids(template.tokenizer, template.prompt(c)) for c in conversations]
    return generate(model, template.tokenizer, prompts, template.stop_ids, sampling, progress=progress)


@contextmanager
def _generation_of_ours(model: PreTrainedModel) -> Iterator[None]:
    """Within the block the model has no generation config of its own: a penalty for repetitions, forbidden
    tokens or a time limit in it would join what ``Sampling`` says."""
    found = [(part, getattr(part, "generation_config", None)) for part in model.modules()]
    owners = [(part, own) for part, own in found if isinstance(own, GenerationConfig)]
    for part, _ in owners:
        part.generation_config = GenerationConfig()
    try:
        yield
    finally:
        for part, own in owners:
            part.generation_config = own


def _answer(tokenizer: PreTrainedTokenizerBase, row: list[int], stop_ids: Sequence[int]) -> Answer:
    end = next((place for place, token in enumerate(row) if token in stop_ids), None)
    ids = row[:end]
    text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return Answer(text, tuple(ids), end is not None)


def _room_left(model: PreTrainedModel, length: int, wanted: int) -> int:
    positions: int | None = getattr(model.config, "max_position_embeddings", None)
    if not positions:
        return wanted
    positions -= virtual_count(model)
    if length >= positions:
        raise BurnishError(
            f"the prompt has {length} tokens; the model reads at most {positions}",
            fix="Shorten the conversation, or begin a new one.",
        )
    return min(wanted, positions - length)


class _Streamer(TextStreamer):  # type: ignore[misc]  # transformers is not typed
    """Hands each finished piece of the answer, without its stop token, to a function."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stream: Callable[[str], None], stop_ids: Sequence[int]
    ) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=False)
        self.stream, self.stop_ids = stream, frozenset(stop_ids)

    def put(self, value: torch.Tensor) -> None:
        if self.next_tokens_are_prompt or int(value.flatten()[0]) not in self.stop_ids:
            super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.stream(text)
