"""The final model of a run: weights, tokenizer, template, stop tokens and where they came from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from burnish.adapters.folder import METADATA
from burnish.files import STAGED, discard, flush, write_json
from burnish.template import ChatTemplate


def save_final(
    folder: Path,
    model: PreTrainedModel,
    save: Callable[[Path], None],
    template: ChatTemplate,
    metadata: dict[str, Any],
) -> None:
    """Write ``folder`` whole or not at all. ``save`` writes the weights: with an adapter, only that.

    Plain transformers load a whole model and stop where training stopped: the stop ids stand in
    ``generation_config.json``. Of an adapter's folder plain loaders do not read that; docs/adapters.md has
    the lines that say it.
    """
    staged = folder.with_name(f"{STAGED}{folder.name}")
    for leftover in (staged, folder):
        discard(leftover)
    save(staged)
    generation = model.generation_config
    assert generation is not None
    generation.eos_token_id = template.stop_ids
    pad = template.tokenizer.pad_token_id
    generation.pad_token_id = template.stop_ids[0] if pad is None else pad
    generation.save_pretrained(staged)
    template.tokenizer.chat_template = template.source  # with its remedies and options in it
    template.tokenizer.save_pretrained(staged)
    served = {
        "stop_tokens": list(template.stop_tokens),
        "template_options": template.options,
        "remedies": list(template.remedies),
        "typed_tokens": template.typed_tokens,
    }
    write_json(staged / METADATA, {**metadata, **served})
    for file in staged.iterdir():
        flush(file)
    staged.rename(folder)
    flush(folder.parent)
