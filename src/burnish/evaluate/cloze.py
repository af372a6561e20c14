"""Facts that a model knows, tested as continuations of plain text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from burnish.model.forward import Forward
from burnish.tokens import TokenTable, flatten, token_ids


@torch.no_grad()
def cloze_correct(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[tuple[str, str]],
    forward: Forward,
    budget: int,
) -> list[bool]:
    """For each (text, answer): would the likeliest continuation of the text be a space and the answer?

    Greedy decoding gives the answer exactly when each of its tokens is the likeliest one behind the
    text and the tokens before it, so a single forward pass tells. ``budget``: tokens in a pass.
    """
    model.eval()
    table = TokenTable.from_documents(_document(tokenizer, text, answer) for text, answer in prompts)
    correct: list[bool] = []
    rows: list[int] = []
    for row in range(len(table)):
        rows.append(row)
        full = row + 1 == len(table) or sum(map(table.length, rows)) + table.length(row + 1) > budget
        if full:
            correct += _rows_correct(model, table, rows, forward)
            rows = []
    return correct


def _rows_correct(
    model: PreTrainedModel, table: TokenTable, rows: Sequence[int], forward: Forward
) -> list[bool]:
    batch = flatten([table.document(row) for row in rows]).to(model.device)
    right = forward(model, batch).logits().argmax(dim=-1) == batch.target_ids
    counts = [int(np.count_nonzero(table.document(row)[1])) for row in rows]
    return [bool(piece.all()) for piece in right.split(counts)]


def _document(tokenizer: PreTrainedTokenizerBase, text: str, answer: str) -> tuple[np.ndarray, np.ndarray]:
    prompt, continuation = token_ids(tokenizer, text), token_ids(tokenizer, f" {answer}")
    weights = np.zeros(len(prompt) + len(continuation), np.float32)
    weights[len(prompt) :] = 1
    return np.array(prompt + continuation, np.int32), weights
