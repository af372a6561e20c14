"""From a config to a template."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from burnish.config import TemplateConfig
from burnish.template.chat_template import ChatTemplate
from burnish.template.chatml import give_chatml


def build_template(
    tokenizer: PreTrainedTokenizerBase, config: TemplateConfig, base_stop_ids: Sequence[int] = ()
) -> tuple[ChatTemplate, list[str]]:
    """The template that a config asks for, and the special tokens that were new to the tokenizer, which is
    changed only for ChatML-lite. ``base_stop_ids``: where the base stops by itself."""
    new: list[str] = []
    if config.kind == "chatml" or not tokenizer.chat_template:
        new = give_chatml(tokenizer)
    template = ChatTemplate(
        tokenizer,
        remedies=config.remedies,
        typed_tokens=config.typed_tokens,
        base_stop_ids=base_stop_ids,
        **config.options,
    )
    return template, new
