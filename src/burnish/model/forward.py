"""What the loss reads of a model, from flat batches; padded batches for models that cannot have flat ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from burnish.errors import ModelError
from burnish.model.attention import FlatBatch, SegmentLike, flat_attention_over
from burnish.model.head import Features, head_of
from burnish.model.trial import (
    PIECE,
    Piece,
    Trial,
    as_documents,
    as_pieces,
    short_windows,
    unchanged_targets,
    with_ends_changed,
    with_neighbours_changed,
)
from burnish.model.virtual_tokens import virtual_count, virtual_of


class FlatInput(Protocol):
    """What a forward pass reads of a batch; shapes as in ``tokens.Batch``."""

    @property
    def input_ids(self) -> Tensor: ...
    @property
    def position_ids(self) -> Tensor: ...
    @property
    def segments(self) -> Sequence[SegmentLike]: ...
    @property
    def target_positions(self) -> Tensor: ...


Forward = Callable[[PreTrainedModel, FlatInput], Features]
"""(model, batch) -> what the head reads at the batch's N target positions, and the head."""


def flat(model: PreTrainedModel, batch: FlatInput) -> Features:
    """The batch as one row of T tokens. The head is left to the loss, which takes it in chunks."""
    with _head_left_out(model) as states:
        _flat_output(model, batch)
    head = head_of(model)  # only now: of a model that is split over ranks it is whole since it ran
    if head is None:
        raise NotImplementedError("its head is no plain linear layer")
    return head.with_hidden(states[0].flatten(0, -2))


def flat_with_head(model: PreTrainedModel, batch: FlatInput) -> Features:
    """The batch as one row of T tokens, logits by the model's own head."""
    return Features(_flat_output(model, batch)[0])


STEP = 128
"""On a CPU a flat batch is filled up to a multiple of this: as in attention, products of few shapes only."""


def _flat_output(model: PreTrainedModel, batch: FlatInput) -> Tensor:
    ids, positions, segments = batch.input_ids, batch.position_ids, batch.segments
    targets, virtual = batch.target_positions, virtual_of(model)
    base = model if virtual is None else model.get_base_model()
    stands = 0 if virtual is None or virtual.embeddings is None else virtual.count
    if missing := (-(len(ids) + stands) % STEP if ids.device.type == "cpu" else 0):
        segments = [*segments, Piece(len(ids), missing)]  # that nobody reads
        ids = torch.cat([ids, ids.new_zeros(missing)])
        positions = torch.cat([positions, positions.new_zeros(missing)])
    inputs: dict[str, Tensor] = {"input_ids": ids[None]}
    if virtual is not None:
        positions = positions + virtual.count
    if virtual is not None and virtual.embeddings is not None:
        embedded = base.get_input_embeddings()(ids)
        inputs = {"inputs_embeds": torch.cat([virtual.embeddings, embedded])[None]}
        positions = torch.cat([torch.arange(stands, device=ids.device), positions])
        segments = [Piece(0, stands), *(_behind(segment, stands) for segment in segments)]
        targets = targets + stands
    with flat_attention_over(base, FlatBatch(segments, None if virtual is None else virtual.prefix)):
        output = base(**inputs, position_ids=positions[None], logits_to_keep=targets, use_cache=False)
    logits: Tensor = output.logits
    return logits


def _behind(segment: SegmentLike, count: int) -> Piece:
    """The segment where so many tokens stand before it that belong to each document."""
    return Piece(segment.start + count, segment.length, 0 if segment.parent is None else segment.parent + 1)


def padded(model: PreTrainedModel, batch: FlatInput) -> Features:
    """The batch with a row a document, padded on the right behind every real token."""
    assert all(segment.parent is None for segment in batch.segments)
    device = batch.input_ids.device
    lengths = torch.tensor([segment.length for segment in batch.segments], device=device)
    rows = pad_sequence(list(batch.input_ids.split(lengths.tolist())), batch_first=True)
    real = torch.arange(rows.shape[1], device=device)[None] < lengths[:, None]
    logits: Tensor = model(input_ids=rows, attention_mask=real.long(), use_cache=False).logits
    logits = logits[:, -rows.shape[1] :]  # of virtual tokens there may be some too
    return Features(logits[real][batch.target_positions])


def rotary_reach(model: PreTrainedModel) -> int | None:
    """The length up to which a document's rotary angles are the same whatever else is in the batch; None
    where they always are. The kind ``longrope`` (Phi-3) takes others for all of a batch whose longest
    document is longer, which therefore needs a batch of its own; virtual tokens count too. The kind
    ``dynamic`` does so beyond the model's positions only, where no document gets.
    """
    given = getattr(model.config, "rope_parameters", None) or {}
    # Some models have a kind of their own for each type of layer.
    kinds = [given, *(kind for kind in given.values() if isinstance(kind, dict))]
    reach = [
        int(kind["original_max_position_embeddings"]) - virtual_count(model)
        for kind in kinds
        if kind.get("rope_type") == "longrope"
    ]
    return min(reach, default=None)


def shares_prefixes(model: PreTrainedModel, forward: Forward) -> bool:
    """Whether what documents begin with alike may stand once in this model's batches. With dropout it may
    not: each document would have to draw its own."""
    drops = any(module.p > 0 for module in model.modules() if isinstance(module, torch.nn.Dropout))
    return forward is not padded and not drops and not getattr(model.config, "attention_dropout", 0.0)


@contextmanager
def _head_left_out(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Within the block the model's head hands its input to the list and computes nothing."""
    head = model.get_output_embeddings()
    if head is None:
        raise NotImplementedError("it has no head")
    states: list[Tensor] = []

    def keep(hidden: Tensor) -> Tensor:
        states.append(hidden)
        return hidden[..., :1].clone()  # of a view a model that is split over ranks would warn

    head.forward = keep  # found before the method of the class
    try:
        yield states
    finally:
        del head.forward


@torch.no_grad()
def choose_forward(model: PreTrainedModel, batch: FlatInput) -> tuple[Forward, str]:
    """Choose the fastest pass whose logits are those that this model gives for each document by itself.

    Returns the pass and, where it is not ``flat``, why. Tried on a small batch of the first tokens of
    ``batch``, whose documents share beginnings and are longer than the model's windows, which are made short
    for the trial: the choice then holds for any other batch. Raises ``ModelError`` where a later token moves
    an earlier logit: such a model would be trained on the answers that it is shown.
    """
    model.eval()
    tokens = batch.input_ids
    changed = as_pieces(with_neighbours_changed(tokens))
    why = ""
    with short_windows(model):
        expected = padded(model, as_documents(tokens)).logits().float()
        _require_causal(model, as_documents(tokens), expected)
        for forward in (flat, flat_with_head):
            try:
                logits = forward(model, as_pieces(tokens)).logits().float()
                with_others = forward(model, changed).logits().float()
            except (NotImplementedError, TypeError, ValueError) as error:
                why = why or f"flat batches do not run on {type(model).__name__} ({error})"
                continue
            fault = _fault(logits, expected, with_others, torch.finfo(model.dtype).eps)
            if not fault:
                return forward, why
            why = why or fault
    return padded, why


def _require_causal(model: PreTrainedModel, documents: Trial, logits: Tensor) -> None:
    """Rounding may send a few tokens of a mixture to other experts, so the document that moves least counts:
    of a model that looks ahead every one moves."""
    changed, before = with_ends_changed(documents)
    moved = (padded(model, changed).logits().float() - logits).abs()
    least = min(float(moved[positions].max()) for positions in before)
    if least > max(8 * torch.finfo(model.dtype).eps, 1e-3) * float(logits.abs().max().clamp(min=1.0)):
        raise ModelError(
            f"{type(model).__name__} looks ahead: a later token moves earlier logits by {least:.2g}",
            why="Each token would be predicted from itself, so that the loss falls and nothing is learnt.",
            fix="Train a causal language model; of a config that has is_decoder, with is_decoder true.",
        )


def _fault(logits: Tensor, expected: Tensor, with_others: Tensor, eps: float) -> str:
    """What is wrong with packed logits, empty where nothing is; ``expected``: those of each document by
    itself; ``with_others``: packed ones with some documents changed.

    A document's logits do not change at all with its neighbours, so that a leak of one token shows in bf16
    too. They do differ from those of the document by itself, by rounding, and by far where that sends a few
    tokens to other experts: so half of a document's tokens must agree.
    """
    if logits.shape != expected.shape:
        return f"packed logits are of shape {tuple(logits.shape)} and not {tuple(expected.shape)}"
    largest = expected.abs().max().clamp(min=1.0)
    noticed = (with_others - logits).abs()[unchanged_targets()].max()
    if not noticed <= eps * largest:
        return f"packed logits differ by {noticed:.2g} when other documents change"
    allowed = max(8 * eps, 1e-3) * largest
    differences = (logits - expected).abs().amax(-1)
    worst = max(float(part.median()) for part in differences.split(PIECE))
    if not worst <= allowed:
        return f"packed logits differ by {worst:.2g} (rounding would explain {allowed:.2g})"
    return ""
