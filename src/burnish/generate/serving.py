"""A model ready to answer, as it was trained to."""

from __future__ import annotations

from transformers import PreTrainedModel

from burnish.model.load import load_model
from burnish.template import ChatTemplate
from burnish.template.chatml import give_chatml


def open_model(name: str, *, base: bool = False) -> tuple[PreTrainedModel, ChatTemplate]:
    """A run, a model folder, a Hub id or pebble, with the template (and its options) of its training.

    ``base``: the base that a run started from, behind the run's template. A model without a template
    is given ChatML-lite, which it never learned: it will answer as a base answers.
    """
    loaded = load_model(name, base=base)
    if not loaded.tokenizer.chat_template:
        give_chatml(loaded.tokenizer)
        if len(loaded.tokenizer) > loaded.model.get_input_embeddings().weight.shape[0]:
            loaded.model.resize_token_embeddings(len(loaded.tokenizer), mean_resizing=False)
    return loaded.model, ChatTemplate(loaded.tokenizer, typed_tokens=loaded.typed_tokens)
