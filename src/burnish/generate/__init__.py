"""Prompts to answers."""

from burnish.generate.answers import Answer, Sampling, answer_all, generate
from burnish.generate.serving import Several, open_model, open_several, parse_weights
from burnish.generate.session import ChatSession

__all__ = [
    "Answer",
    "ChatSession",
    "Sampling",
    "Several",
    "answer_all",
    "generate",
    "open_model",
    "open_several",
    "parse_weights",
]
