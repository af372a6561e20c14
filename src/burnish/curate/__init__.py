"""Conversations to fewer, better ones: here, the split into training and held-out rows."""

from burnish.curate.split import split

__all__ = ["split"]
