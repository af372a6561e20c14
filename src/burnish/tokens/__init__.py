"""Turns to examples to flat batches."""

from burnish.tokens.batch import Batch, Segment, flatten, micro_batches
from burnish.tokens.encode import encode, token_ids
from burnish.tokens.example import Example
from burnish.tokens.order import Order
from burnish.tokens.table import TokenTable

__all__ = [
    "Batch",
    "Example",
    "Order",
    "Segment",
    "TokenTable",
    "encode",
    "flatten",
    "micro_batches",
    "token_ids",
]
