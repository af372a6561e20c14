"""Examples to one padded batch, as transformers and hand-written loops want it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from burnish.errors import DataError
from burnish.tokens.example import Example

IGNORED = -100
"""The label of a token that is not trained, as torch's cross-entropy has it."""


def collate(
    examples: Sequence[Example | Mapping[str, Any]],
    pad_id: int,
    max_length: int | None = None,
    *,
    loss_weights: bool = False,
) -> dict[str, Tensor]:
    """A batch of B examples, padded on the right to the longest, of T tokens.

    ``input_ids``, ``attention_mask`` and ``labels``, each (B, T) int64. Labels are not shifted: the label of
    a trained token is its own id, at its own place, and -100 everywhere else. What is trained is decided by
    the example and never by the id, so ``pad_id`` may be the id of a token that ends answers. Two examples,
    the last tokens of each to learn, with 6 as stop token and as ``pad_id``::

        input_ids       7  8  9  6    attention_mask  1  1  1  1    labels  -100 -100    9    6
                        7  6  6  6                    1  1  0  0            -100    6 -100 -100

    ``examples``: what ``encode`` returns, or rows of a file that ``burnish prepare`` wrote. The first token
    of an example is never trained: nothing stands before it to predict it from.

    ``max_length`` cuts what stands behind so many tokens, in the middle of an answer if it comes so; without
    it nothing is cut. (``SFTDataset`` with a ``max_length`` leaves out whole exchanges instead.)
    ``loss_weights`` adds (B, T) fp32 weights under that name, for examples whose tokens count differently;
    without it such examples are refused, since labels cannot say how much a token counts.

    Raises ``DataError`` for an empty list, a ``pad_id`` that is no id, an example that labels cannot
    describe, and an example of which the cut leaves nothing to learn.
    """
    if not examples:
        raise DataError("there is no example to collate", fix="Give at least one.")
    if type(pad_id) is not int or pad_id < 0:
        raise DataError(
            f"pad_id is {pad_id!r}, not a token id",
            why="The tokenizer may have no pad token.",
            fix="Give any id of its vocabulary, such as tokenizer.eos_token_id: padding is never trained.",
        )
    if max_length is not None and max_length < 2:
        raise DataError(
            f"max_length is {max_length}", why="The first token is never trained.", fix="Give 2 or more."
        )
    rows = [_cut(*row, max_length) for row in _rows(examples, loss_weights)]
    shape = (len(rows), max(len(ids) for _, ids, _ in rows))
    batch = {
        "input_ids": torch.full(shape, pad_id),
        "attention_mask": torch.zeros(shape, dtype=torch.int64),
        "labels": torch.full(shape, IGNORED),
    }
    if loss_weights:
        batch["loss_weights"] = torch.zeros(shape)
    for number, (_, ids, weights) in enumerate(rows):
        row = slice(len(ids))
        batch["input_ids"][number, row] = ids
        batch["attention_mask"][number, row] = 1
        batch["labels"][number, row] = torch.where(weights > 0, ids, IGNORED)
        if loss_weights:
            batch["loss_weights"][number, row] = weights
    return batch


Row = tuple[str, Tensor, Tensor]
"""Where an example comes from, its (length,) int64 ids and its (length,) fp32 weights."""


def _rows(examples: Sequence[Example | Mapping[str, Any]], loss_weights: bool) -> Iterator[Row]:
    for number, example in enumerate(examples, 1):
        name, ids, weights = (
            _of_example(example) if isinstance(example, Example) else _of_row(example, number)
        )
        if not len(ids):
            raise DataError(f"{name} has no tokens", fix="Take it out.")
        weights[0] = 0.0
        if not loss_weights and bool(((weights != 0) & (weights != 1)).any()):
            raise DataError(
                f"{name} has tokens that count neither 0 nor 1 in the loss",
                why="Labels say whether a token is trained, not how much it counts.",
                fix="Take the weights out of the row, or call collate with loss_weights=True and weight the "
                "loss: masked_cross_entropy(logits, labels, loss_weights).",
            )
        yield name, ids, weights


def _of_example(example: Example) -> Row:
    ids = torch.tensor(example.input_ids, dtype=torch.int64)
    return str(example.source), ids, torch.tensor(example.weights, dtype=torch.float32)


def _of_row(row: Mapping[str, Any], number: int) -> Row:
    """Of a prepared file. The weights of its tokens stand in its labels, or in a column of their own."""
    name = str(row.get("source", f"example {number}"))
    if "input_ids" not in row or "labels" not in row:
        raise DataError(
            f"{name} has no input_ids or no labels (its keys: {', '.join(map(repr, row)) or 'none'})",
            fix="Give what encode returns, or rows of a file that burnish prepare wrote.",
        )
    ids, labels = (_column(name, row, key, torch.int64) for key in ("input_ids", "labels"))
    trained, weighted = labels != IGNORED, row.get("loss_weights") is not None
    weights = _column(name, row, "loss_weights", torch.float32) if weighted else trained.float()
    if not ids.shape == labels.shape == weights.shape or bool((trained & (labels != ids)).any()):
        raise DataError(
            f"{name}: its labels do not fit its input_ids",
            why="A label is the id at the same place, or -100.",
            fix="Leave labels as they were written: transformers shifts them itself.",
        )
    return name, ids, weights


def _column(name: str, row: Mapping[str, Any], key: str, dtype: torch.dtype) -> Tensor:
    """A tensor of its own: what a data set hands out may be read-only."""
    values = row[key]
    if isinstance(values, Tensor):
        return values.to(dtype, copy=True)
    try:
        return torch.tensor(values, dtype=dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{name}: its {key} are no list of numbers ({error})") from error


def _cut(name: str, ids: Tensor, weights: Tensor, max_length: int | None) -> Row:
    if max_length is None or len(ids) <= max_length:
        return name, ids, weights
    if bool((weights > 0).any()) and not bool((weights[:max_length] > 0).any()):
        first = int((weights > 0).nonzero()[0])
        raise DataError(
            f"{name} has {len(ids)} tokens; cut to {max_length} it has nothing to learn",
            why=f"What is given before the first trained token has {first}.",
            fix="Raise max_length, or shorten the row: SFTDataset(..., max_length=...) leaves out the "
            "earliest exchanges.",
        )
    return name, ids[:max_length], weights[:max_length]
