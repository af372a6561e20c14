"""The matrix products that an optimizer step cannot do without, and how long they take on their own.

Achieved time is judged by them: whatever a tool does besides (norms, softmax, the optimizer, copies) is what
is between it and the floor.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch

from benchmarks.machine import peak_flops, random_bf16, seconds_of
from benchmarks.material import Shape
from burnish.tokens import Batch, Segment

RANK = 16


@dataclass(frozen=True)
class Product:
    """``batch`` products (rows, inner) (inner, columns). A transposed side lies in memory the other way."""

    batch: int
    rows: int
    inner: int
    columns: int
    left_transposed: bool = False
    right_transposed: bool = False

    @property
    def flops(self) -> float:
        return 2.0 * self.batch * self.rows * self.inner * self.columns

    def seconds(self) -> float:
        left = _operand(self.batch, self.rows, self.inner, self.left_transposed)
        right = _operand(self.batch, self.inner, self.columns, self.right_transposed)
        if self.batch == 1:
            flat_left, flat_right, flat_out = left[0], right[0], random_bf16(self.rows, self.columns)
            return seconds_of(lambda: torch.mm(flat_left, flat_right, out=flat_out))
        out = random_bf16(self.batch, self.rows, self.columns)
        return seconds_of(lambda: torch.bmm(left, right, out=out))


def _operand(batch: int, rows: int, columns: int, transposed: bool) -> torch.Tensor:
    return random_bf16(batch, columns, rows).mT if transposed else random_bf16(batch, rows, columns)


@dataclass(frozen=True)
class Floor:
    """Seconds and floating-point operations of a step's products; ``peak``: operations a second in one large
    product."""

    seconds: float
    flops: float
    peak: float


def measure(needed: Mapping[Product, float]) -> Floor:
    seconds = sum(times * product.seconds() for product, times in needed.items())
    flops = sum(times * product.flops for product, times in needed.items())
    return Floor(seconds, flops, peak_flops())


def needed_products(shape: Shape, batches: Iterable[Batch], lora: bool) -> dict[Product, float]:
    """Each product with how often it is needed; with a share of 1 where only a part of it is (causal
    attention). One forward and one backward pass, nothing computed twice."""
    needed: defaultdict[Product, float] = defaultdict(float)

    def add(products: Iterable[Product]) -> None:
        for product in products:
            needed[product] += 1

    for batch in batches:
        tokens, targets = len(batch.input_ids), len(batch.target_positions)
        kv_width = shape.kv_heads * shape.head_width
        for layer in range(shape.layers):
            # With LoRA nothing below the first layer is trained, so that no gradient needs to go there.
            below = layer > 0 or not lora
            for inner, outer, by_input in (
                (shape.width, shape.width, below),  # queries
                (shape.width, kv_width, below),
                (shape.width, kv_width, below),
                (shape.width, shape.width, True),  # out of attention
                (shape.width, shape.mlp, True),
                (shape.width, shape.mlp, True),
                (shape.mlp, shape.width, True),
            ):
                add(_linear(tokens, inner, outer, by_input=by_input, by_weight=not lora))
                if lora:
                    add(_linear(tokens, inner, RANK, by_input=by_input, by_weight=True))
                    add(_linear(tokens, RANK, outer, by_input=True, by_weight=True))
        add(_linear(targets, shape.width, shape.vocabulary, by_input=True, by_weight=not lora))
        for segment in batch.segments:
            for product, share in _attention(shape, segment, _seen_before(batch.segments, segment)):
                needed[product] += shape.layers * share
    return needed


def _linear(tokens: int, inner: int, outer: int, *, by_input: bool, by_weight: bool) -> Iterator[Product]:
    yield Product(1, tokens, inner, outer, right_transposed=True)  # weights lie as (outer, inner)
    if by_input:
        yield Product(1, tokens, outer, inner)
    if by_weight:
        yield Product(1, outer, tokens, inner, left_transposed=True)


def _attention(shape: Shape, segment: Segment, before: int) -> Iterator[tuple[Product, float]]:
    """The products of one segment and layer, and the share of each that is needed: queries see what is before
    the segment wholly, and of the segment itself the causal half. The heads of a group read the same keys."""
    keys, width = before + segment.length, shape.head_width
    queries = segment.length * shape.heads // shape.kv_heads
    share = (before + (segment.length + 1) / 2) / keys
    groups = shape.kv_heads
    yield Product(groups, queries, width, keys, right_transposed=True), 2 * share  # scores, and their slopes
    yield Product(groups, queries, keys, width), 2 * share  # what is attended to; slopes by queries
    yield Product(groups, keys, queries, width, left_transposed=True), 2 * share  # slopes by keys and values


def _seen_before(segments: tuple[Segment, ...], segment: Segment) -> int:
    """Tokens of a segment's parents."""
    if segment.parent is None:
        return 0
    parent = segments[segment.parent]
    return parent.length + _seen_before(segments, parent)
