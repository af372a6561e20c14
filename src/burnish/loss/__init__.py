"""Losses: pure functions on tensors that return a sum and a count.

The division happens once per optimizer step, by the count of the whole global batch, so that neither
micro-batch sizes nor ranks change the gradient.
"""

from burnish.loss.cross_entropy import cross_entropy

__all__ = ["cross_entropy"]
