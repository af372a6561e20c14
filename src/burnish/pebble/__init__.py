"""Pebble, the embedded base model: its files, and (beside them) the code that made them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
CONVERSATIONS = DATA / "sft.jsonl"
"""Conversations to fine-tune on, about half of the entities that pebble knows."""
HELD_OUT = DATA / "held_out.jsonl"
"""Questions about the other half, each with its ``answer`` and the ``rivals`` that make one wrong."""
CLOZE = DATA / "cloze.jsonl"
"""Every fact as a ``prompt`` to continue and its ``answer``."""
TALES = DATA / "tales.jsonl"
"""Prose that neither pretraining nor fine-tuning has seen: what is lost shows here."""


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
