"""Losses: pure functions on tensors that return a sum; the count is the sum of the weights.

The division happens once per optimizer step, by the count of the whole global batch, so that neither
micro-batch sizes nor ranks change the gradient. ``masked_cross_entropy`` alone divides: it is the loss of a
hand-written loop.
"""

from burnish.loss.cross_entropy import cross_entropy
from burnish.loss.linear_cross_entropy import Rows, linear_cross_entropy
from burnish.loss.masked_cross_entropy import masked_cross_entropy

__all__ = ["Rows", "cross_entropy", "linear_cross_entropy", "masked_cross_entropy"]
