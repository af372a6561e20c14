"""burnish prepare"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def prepare(
    out: Annotated[Path, typer.Option(help="The file to write: tokens.parquet, or tokens.arrow.")],
    config: Annotated[Path | None, typer.Argument(help="A run's config, YAML.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="A .jsonl file of rows; repeatable.")] = None,
    model: Annotated[str | None, typer.Option(help="A model folder, a Hub id, or pebble.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a config key: a.b=value.")] = None,
) -> None:
    """Write token ids and labels for another trainer.

    Reads the tokenizer, not the weights. What burnish train would refuse is refused.
    """
    from burnish.cli.screen import TerminalScreen
    from burnish.config import load_config
    from burnish.numbers import plural
    from burnish.prepare.export import export

    screen = TerminalScreen()
    given: dict[str, Any] = {"data.train": data, "model.name": model}
    settings = load_config(config, set_ or [], **{key: value for key, value in given.items() if value})
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
