"""Files to conversations."""

from burnish.data.conversation import Conversation, Message, Source, Span
from burnish.data.read import read

__all__ = ["Conversation", "Message", "Source", "Span", "read"]
