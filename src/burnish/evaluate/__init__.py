"""Answers and models to figures: answers that are right, facts that are known, losses."""

from burnish.evaluate.answers import accepted, contains, first_sentence
from burnish.evaluate.cloze import cloze_correct
from burnish.evaluate.interval import wilson

__all__ = ["accepted", "cloze_correct", "contains", "first_sentence", "wilson"]
