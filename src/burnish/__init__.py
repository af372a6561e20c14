"""burnish: fine-tuning that can be trusted.

What is listed in ``__all__`` is the public surface. Each name is imported when it is first used, so
that ``import burnish`` costs nothing. ``burnish.generate`` and ``burnish.diagnose`` are rooms; their main
functions have the same names and are imported from there. ``burnish.__version__`` is that of the installed
package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from burnish.adapters.load import load_model
    from burnish.config import RunConfig, load_config
    from burnish.data import Conversation, Message, read
    from burnish.errors import BurnishError
    from burnish.loss import masked_cross_entropy
    from burnish.prepare.dataset import SFTDataset
    from burnish.recipes.sft import sft
    from burnish.template import ChatTemplate, Turn
    from burnish.tokens import Example, collate, encode, encode_plain

_HOMES = {
    "BurnishError": "errors",
    "ChatTemplate": "template",
    "Conversation": "data",
    "Example": "tokens",
    "Message": "data",
    "RunConfig": "config",
    "SFTDataset": "prepare.dataset",
    "Turn": "template",
    "collate": "tokens",
    "encode": "tokens",
    "encode_plain": "tokens",
    "load_config": "config",
    "load_model": "adapters.load",
    "masked_cross_entropy": "loss",
    "read": "data",
    "sft": "recipes.sft",
}

__all__ = [
    "BurnishError",
    "ChatTemplate",
    "Conversation",
    "Example",
    "Message",
    "RunConfig",
    "SFTDataset",
    "Turn",
    "collate",
    "encode",
    "encode_plain",
    "load_config",
    "load_model",
    "masked_cross_entropy",
    "read",
    "sft",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("burnish")
    if name not in _HOMES:
        raise AttributeError(f"module 'burnish' has no attribute {name!r}")
    return getattr(import_module(f"burnish.{_HOMES[name]}"), name)
