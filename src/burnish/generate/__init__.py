"""Prompts to answers of a model."""

from burnish.generate.answers import Answer, Sampling, answer_all, generate
from burnish.generate.serving import AdapterSet, open_adapter_set, open_model, parse_weights
from burnish.generate.session import ChatSession

__all__ = [
    "AdapterSet",
    "Answer",
    "ChatSession",
    "Sampling",
    "answer_all",
    "generate",
    "open_adapter_set",
    "open_model",
    "parse_weights",
]
