"""burnish prepare"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.options import Data, File, MaxLength, Model, Settings, config_of


def prepare(
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The file to write: tokens.parquet, or tokens.arrow.")
    ],
    file: File = None,
    data: Data = None,
    model: Model = None,
    max_length: MaxLength = None,
    set_: Settings = None,
) -> None:
    """Write token ids and labels for another trainer.

    Reads the tokenizer, not the weights. What burnish train would refuse is refused.
    """
    from burnish.cli.screen import TerminalScreen
    from burnish.numbers import plural
    from burnish.prepare.export import export

    screen = TerminalScreen()
    settings = config_of(file, data, set_, model=model, max_length=max_length)
    made = export(settings, out, screen)
    screen.say(
        f"{made.path}: {plural(made.examples, 'example')}, {made.trained_tokens:,} of "
        f"{plural(made.tokens, 'token')} trained. {made.ledger_path} says what became of the rest."
    )
    if made.weighted:
        screen.warn(
            "Some tokens count neither 0 nor 1, which labels cannot say: a trainer that does not read the "
            "column loss_weights trains each of them in full."
        )
    if made.tokenizer:
        screen.say(
            f"Train and serve with the tokenizer in {made.tokenizer}: its template is the one used here."
        )
    if made.new_tokens:
        screen.warn(
            f"The model has no embedding for {' '.join(made.new_tokens)}: "
            "model.resize_token_embeddings(len(tokenizer)), and train them."
        )
