"""ChatML-lite: the template for base models that carry none, and the last remedy for the others."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from burnish.template.remedies import jinja

START, END = "<|im_start|>", "<|im_end|>"

TEMPLATE = jinja("tools_as_text") + jinja("chatml")
"""The layout of OpenAI's Chat Markup Language without a default system turn: what the person wrote
and nothing else. Tools are described in the system turn, calls and results stand in tags."""


def give_chatml(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Put ChatML-lite on a tokenizer, in place. Gives the special tokens that were new to it."""
    known = tokenizer.get_vocab()
    new = [token for token in (START, END) if token not in known]
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [START, END]}, replace_extra_special_tokens=False
    )
    tokenizer.chat_template = TEMPLATE
    return new
