"""burnish train"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from burnish.config import RunConfig


def train(
    config: Annotated[Path | None, typer.Argument(help="A run's config, YAML.")] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="A .jsonl file of messages rows; repeatable.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A model folder, a Hub id, or pebble.")] = None,
    adapter: Annotated[
        str | None,
        typer.Option(help="lora, dora, ia3, prompt, prefix, bottleneck, or none to train all weights."),
    ] = None,
    out: Annotated[str | None, typer.Option(help="The run folder to write.")] = None,
    track: Annotated[
        list[str] | None, typer.Option(help="trackio, wandb or tensorboard; repeatable.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a config key: a.b=value.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
) -> None:
    """Fine-tune a model on conversations.

    Either burnish train run.yaml, or burnish train --data rows.jsonl --model NAME. On several devices:
    torchrun --nproc-per-node 2 -m burnish train ...
    """
    from burnish.cli.outcome import show_outcome
    from burnish.cli.rank import rank
    from burnish.cli.screen import TerminalScreen
    from burnish.config import load_config
    from burnish.errors import ConfigError
    from burnish.recipes.sft import sft
    from burnish.run.folder import RunFolder

    screen = TerminalScreen()
    command = " ".join(["burnish", *sys.argv[1:]])
    if resume is not None:
        if config or data or model or adapter or out or track or set_:
            raise ConfigError(
                "--resume goes with no other option",
                why="A run goes on exactly as it began; a change would make it another run.",
                fix=f"Type: burnish train --resume {resume}",
            )
        again = load_config(RunFolder(resume).require_run().config, out=str(resume))
        run = sft(again, screen=screen, resume=True, command=command).folder
    else:
        settings = _settings(
            config,
            set_ or [],
            {"data.train": data, "model.name": model, "adapter.kind": adapter, "track": track, "out": out},
        )
        run = sft(settings, screen=screen, command=command).folder
    if rank() == 0:
        show_outcome(run, screen.console)


def _settings(config: Path | None, overrides: list[str], given: dict[str, Any]) -> RunConfig:
    from burnish.config import load_config

    settings = load_config(config, overrides, **{key: value for key, value in given.items() if value})
    if settings.out is None:
        return settings.model_copy(update={"out": f"runs/{config.stem if config else 'train'}"})
    return settings
