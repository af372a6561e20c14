"""The final model of a run, made from its base and a checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from burnish.config import RunConfig
from burnish.files import STAGED, writing
from burnish.model.borrow import DTYPE_NAMES
from burnish.prepare.in_memory import NOTHING, InMemory
from burnish.prepare.model import prepare_model, set_weights
from burnish.run.artifact import save_final
from burnish.run.screen import SilentScreen
from burnish.train import checkpoint


def write_final(
    folder: Path,
    config: RunConfig,
    saved: checkpoint.Checkpoint,
    provenance: dict[str, Any],
    in_memory: InMemory = NOTHING,
) -> None:
    """Make the model anew, from its base and the weights that were ``saved``, and write it into ``folder``
    whole or not at all, with the type that they were trained in. The base is the model ``in_memory``, where
    there is one. Raises ``RunError`` where the disk is full."""
    prepared = prepare_model(config, SilentScreen(), device="cpu", in_memory=in_memory)
    set_weights(prepared.model, checkpoint.weights_of(saved))
    metadata = provenance | {"step": saved.step, "dtype": DTYPE_NAMES[prepared.model.dtype]}
    try:
        with writing(str(folder)):
            save_final(folder, prepared.model, prepared.save, prepared.template, metadata)
    finally:
        shutil.rmtree(folder.with_name(f"{STAGED}{folder.name}"), ignore_errors=True)
