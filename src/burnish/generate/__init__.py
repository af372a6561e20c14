"""Prompts to answers."""

from burnish.generate.answers import Answer, Sampling, answer_all, generate
from burnish.generate.serving import open_model
from burnish.generate.session import ChatSession

__all__ = ["Answer", "ChatSession", "Sampling", "answer_all", "generate", "open_model"]
