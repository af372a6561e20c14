"""burnish merge"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def merge(
    run: Annotated[str, typer.Argument(help="A run folder, or the folder of an adapter.")],
    out: Annotated[Path, typer.Option(help="The model folder to write; it must not exist.")],
    dtype: Annotated[
        str, typer.Option(help="Of the weights: bfloat16 or float32; auto: the base's own.")
    ] = "auto",
    base_model: Annotated[
        str | None, typer.Option(help="The base of an adapter, where its folder has moved.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A .jsonl of conversations to prove it on; else the run's own rows.")
    ] = None,
    limit: Annotated[
        float | None, typer.Option(help="The mean KL, nats a token, from which a merge has failed.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Keep the folder of a merge that failed.")] = False,
) -> None:
    """Add a run's adapter into its base: one plain model folder, proven against the adapter."""
    from typing import cast, get_args

    from burnish.cli.screen import TerminalScreen
    from burnish.errors import ConfigError
    from burnish.model.load import Dtype
    from burnish.recipes.merge import merge as recipe

    if dtype not in get_args(Dtype):
        raise ConfigError(
            f"--dtype {dtype}: no such type", fix=f"Choose one of {', '.join(get_args(Dtype))}."
        )
    screen = TerminalScreen()
    proof = recipe(
        run,
        out,
        dtype=cast(Dtype, dtype),
        base_model=base_model,
        data=data,
        limit=limit,
        force=force,
        screen=screen,
    )
    screen.say("\nThe merged model, read back, against the adapter as it was trained:")
    measured = (
        ("conversations", f"{proof.conversations:,}"),
        ("tokens of answers", f"{proof.positions:,}"),
        ("likeliest token the same", f"{proof.agreement:.2%}"),
        ("mean KL, nats a token", f"{proof.mean_kl:.2e}"),
        ("  its limit", f"{proof.limit:.2e}"),
        ("largest KL, nats", f"{proof.largest_kl:.2e}"),
    )
    screen.terminal.figures("", ("measured", "value"), measured)
    if not proof.passed:
        screen.warn(
            f"The merge failed its proof and is kept, since --force was given: {out}/burnish.json says so."
        )
    screen.say(f"Talk to it:  burnish chat {shlex.quote(str(out))}")
