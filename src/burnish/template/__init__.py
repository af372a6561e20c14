"""Conversations to turns: what the model is served, and what it is to learn to say."""

from burnish.template.chat_template import ChatTemplate
from burnish.template.turn import Turn

__all__ = ["ChatTemplate", "Turn"]
