"""Turns to examples to flat batches."""

from burnish.tokens.batch import Batch, Segment, flatten, micro_batches
from burnish.tokens.collate import collate
from burnish.tokens.encode import encode
from burnish.tokens.encoding import Encoded, encode_all
from burnish.tokens.example import Example
from burnish.tokens.ids import token_ids
from burnish.tokens.length import Fitted, fit
from burnish.tokens.order import Order
from burnish.tokens.plain import encode_plain
from burnish.tokens.table import TokenTable

__all__ = [
    "Batch",
    "Encoded",
    "Example",
    "Fitted",
    "Order",
    "Segment",
    "TokenTable",
    "collate",
    "encode",
    "encode_all",
    "encode_plain",
    "fit",
    "flatten",
    "micro_batches",
    "token_ids",
]
