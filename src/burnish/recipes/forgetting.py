"""Which text a run measures forgetting on."""

from __future__ import annotations

from pathlib import Path

from burnish.config import RunConfig
from burnish.errors import ConfigError
from burnish.evaluate.forgetting import Forgetting
from burnish.model.load import PEBBLE_FOLDER
from burnish.pebble import TALES, rows
from burnish.prepare.in_memory import InMemory

MOST_CHARACTERS = 400_000
"""Of a text file: more than the tokens that are measured need."""


def forgetting_of(config: RunConfig, in_memory: InMemory) -> Forgetting | None:
    """What ``evaluate.forgetting`` names; None where it says ``none``. ``auto`` is the embedded tales for
    pebble, which never saw them, else samples that the base writes. Raises ``ConfigError`` for a file that is
    not there or holds no text."""
    chosen = config.evaluate.forgetting
    if chosen == "none":
        return None
    before = config.adapter.before_text
    if chosen == "auto" and _is_pebble(config, in_memory):
        tales = tuple(row["text"] for row in rows(TALES))
        return Forgetting("tales that pebble never saw", tales, before_text=before)
    if chosen in ("auto", "samples"):
        return Forgetting("samples that the base wrote", seed=config.train.seed, before_text=before)
    return Forgetting(chosen, (_text_of(Path(chosen)),), before_text=before)


def _is_pebble(config: RunConfig, in_memory: InMemory) -> bool:
    name = config.model.name if in_memory.model is None else in_memory.base.name
    return name == "pebble" or Path(name).resolve() == PEBBLE_FOLDER.resolve()


def _text_of(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MOST_CHARACTERS)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"evaluate.forgetting: {path} cannot be read as text ({error})",
            why="Forgetting would not be measured.",
            fix="Give a text file in UTF-8, or auto, samples or none.",
        ) from error
    if not text.strip():
        raise ConfigError(
            f"evaluate.forgetting: {path} holds no text",
            why="Forgetting would not be measured.",
            fix="Give a file of some pages, or auto, samples or none.",
        )
    return text
