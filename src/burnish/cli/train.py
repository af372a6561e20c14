"""burnish train"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.options import (
    Adapter,
    Data,
    Epochs,
    File,
    MaxLength,
    Model,
    Rank,
    Rate,
    Seed,
    Settings,
    config_of,
    is_config,
)


def train(
    file: File = None,
    data: Data = None,
    model: Model = None,
    adapter: Adapter = None,
    epochs: Epochs = None,
    lr: Rate = None,
    rank: Rank = None,
    seed: Seed = None,
    max_length: MaxLength = None,
    out: Annotated[str | None, typer.Option(metavar="FOLDER", help="The run folder to write.")] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="trackio, wandb or tensorboard; repeatable."),
    ] = None,
    set_: Settings = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Go on with the run in this folder.")
    ] = None,
) -> None:
    """Fine-tune a model on conversations.

    burnish train run.yaml, or burnish train rows.jsonl --model NAME. On several devices: torchrun
    --nproc-per-node 2 -m burnish train ...
    """
    from burnish.cli.outcome import show_outcome
    from burnish.cli.rank import rank as rank_of_process
    from burnish.cli.screen import TerminalScreen
    from burnish.config import load_config
    from burnish.errors import ConfigError
    from burnish.recipes.sft import sft
    from burnish.run.folder import RunFolder

    screen = TerminalScreen()
    command = shlex.join(["burnish", *sys.argv[1:]])
    given = {
        "model": model,
        "adapter": adapter,
        "epochs": epochs,
        "lr": lr,
        "rank": rank,
        "seed": seed,
        "max_length": max_length,
        "track": track,
        "out": out,
    }
    if resume is None:
        config = config_of(file, data, set_, **given)
        if config.out is None:
            name = file.stem if file and is_config(file) else "train"
            config = config.model_copy(update={"out": f"runs/{name}"})
    else:
        if file or data or set_ or any(value not in (None, []) for value in given.values()):
            raise ConfigError(
                "--resume goes with no other option",
                why="A run goes on exactly as it began; a change would make it another run.",
                fix=f"Type: {shlex.join(['burnish', 'train', '--resume', str(resume)])}",
            )
        config = load_config(RunFolder(resume).require_run().config, out=str(resume))
    run = sft(config, screen=screen, resume=resume is not None, command=command).folder
    if rank_of_process() == 0:
        show_outcome(run, screen.terminal)
