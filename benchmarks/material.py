"""What every peer trains on: weights in a folder, and token ids with what of them is learnt.

Weights are random and drawn from a seed. Rows are Alpaca's in the prompt that it was published with, or,
where that data set is not at hand, pebble's text cut to rows of like lengths.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from benchmarks.machine import describe
from burnish.model.load import PEBBLE_FOLDER
from burnish.pebble import CONVERSATIONS
from burnish.pebble import rows as rows_of
from burnish.tokens import TokenTable

SHARED = Path(__file__).parents[2] / "shared" / "data"
ALPACA = SHARED / "sft" / "alpaca_en_demo.json"
LONGEST = 1024
"""Tokens of an Alpaca row; longer ones are cut."""
PREFIX = 1000
"""Tokens of the system prompt with which each row of the second data set begins."""

PROMPT = (
    "Below is an instruction that describes a task{input}. Write a response that appropriately completes the "
    "request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
)


@dataclass(frozen=True)
class Shape:
    """A Llama shape with tied embeddings, and the tokenizer whose ids fit its vocabulary."""

    layers: int
    width: int
    mlp: int
    heads: int
    kv_heads: int
    vocabulary: int
    tokenizer: str

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def config(self) -> LlamaConfig:
        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            intermediate_size=self.mlp,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            max_position_embeddings=2 * LONGEST,
            tie_word_embeddings=True,
        )


SHAPES = {
    "tiny": Shape(2, 64, 176, 4, 2, 4096, "pebble"),
    "39m": Shape(8, 512, 1408, 8, 8, 32_000, "mistral_v1"),
    "135m": Shape(30, 576, 1536, 9, 3, 49_152, "mistral_v3"),
}
"""``tiny`` is there to try the benchmarks, not to measure with."""


def make_material(folder: str, shape: str, rows: int, data: str) -> dict[str, Any]:
    """Write the weights, in bf16, the tokenizer and so many rows of ``data``: alpaca or prefix. Gives what is
    to be known of them."""
    chosen, place = SHAPES[shape], Path(folder)
    tokenizer = _tokenizer(chosen.tokenizer)
    torch.manual_seed(0)
    model = LlamaForCausalLM(chosen.config()).to(torch.bfloat16)
    model.save_pretrained(base_of(place))
    tokenizer.save_pretrained(base_of(place))
    documents = islice(cycle(_questions(tokenizer, data)), rows)
    table = TokenTable.from_documents(_with_weights(question, answer) for question, answer in documents)
    assert table.ids.max() < chosen.vocabulary
    np.savez(place / "rows.npz", ids=table.ids, weights=table.weights, offsets=table.offsets)
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "rows": rows,
        "tokens": table.tokens,
        "trained_tokens": table.trained_tokens,
        "text": "Alpaca's" if ALPACA.is_file() else "pebble's",
        "machine": describe(),
    }


def base_of(folder: Path) -> Path:
    return folder / "base"


def table_of(folder: Path) -> TokenTable:
    with np.load(folder / "rows.npz") as arrays:
        return TokenTable(**arrays)


def _tokenizer(name: str) -> PreTrainedTokenizerBase:
    folder = SHARED / "tokenizers" / name
    return AutoTokenizer.from_pretrained(folder if folder.is_dir() else PEBBLE_FOLDER)


def _with_weights(question: list[int], answer: list[int]) -> tuple[list[int], list[float]]:
    return question + answer, [0.0] * len(question) + [1.0] * len(answer)


def _questions(tokenizer: PreTrainedTokenizerBase, data: str) -> Iterator[tuple[list[int], list[int]]]:
    """Each row as the tokens of what is asked and those of what is learnt."""
    asked = _alpaca(tokenizer) if ALPACA.is_file() else _of_like_lengths(tokenizer)
    if data == "prefix":
        # The system prompt is the set's own text; questions and answers are what a short chat has.
        text = [token for _, answer in islice(asked, 20) for token in answer]
        system = list(islice(cycle(text), PREFIX))
        return ((system + question[-30:], answer[:40]) for question, answer in asked)
    return ((question, answer[: max(1, LONGEST - len(question))]) for question, answer in asked)


def _alpaca(tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[list[int], list[int]]]:
    for row in json.loads(ALPACA.read_text("utf-8")):
        given = f"\n\n### Input:\n{row['input']}" if row["input"] else ""
        explained = ", paired with an input that provides further context" if given else ""
        question = PROMPT.format(input=explained, instruction=row["instruction"] + given)
        answer = tokenizer(row["output"], add_special_tokens=False)["input_ids"]
        yield tokenizer(question)["input_ids"], [*answer, tokenizer.eos_token_id]


def _of_like_lengths(tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[list[int], list[int]]]:
    """The logarithms of Alpaca's lengths have these means and deviations under a 32,000 vocabulary."""
    draw = np.random.default_rng(0)
    said = (message["content"] for row in cycle(rows_of(CONVERSATIONS)) for message in row["messages"])
    tokens = (token for text in said for token in tokenizer(text)["input_ids"])
    opening = list(islice(tokens, 30))  # as Alpaca's rows begin with one sentence
    for _ in range(1000):
        asked, learnt = np.exp(draw.normal((3.1, 4.5), (0.5, 1.3))).astype(int)
        yield opening + list(islice(tokens, asked)), list(islice(tokens, min(max(1, learnt), 660)))
