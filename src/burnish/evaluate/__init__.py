"""Measurements of a model: answers that are right, facts that are known, prose that is expected."""

from burnish.evaluate.answers import accepted, first_sentence, holds
from burnish.evaluate.cloze import cloze_correct
from burnish.evaluate.interval import wilson

__all__ = ["accepted", "cloze_correct", "first_sentence", "holds", "wilson"]
