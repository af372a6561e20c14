"""Options that several verbs have, and the config that they make."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from burnish.config import RunConfig

File = Annotated[Path | None, typer.Argument(help="A file of rows, .jsonl; or a run's config, .yaml.")]
Data = Annotated[list[str] | None, typer.Option("--data", metavar="FILE", help="A file of rows; repeatable.")]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="A model folder, a run folder, a Hub id, or pebble."),
]
Adapter = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        metavar="KIND",
        help="lora, dora, ia3, prompt, prefix, bottleneck, or none to train all weights.",
    ),
]
Epochs = Annotated[
    float | None, typer.Option("--epochs", metavar="N", help="How often every row is trained.")
]
Rate = Annotated[float | None, typer.Option("--lr", metavar="RATE", help="The highest learning rate.")]
Rank = Annotated[int | None, typer.Option("--rank", metavar="N", help="Of lora and dora.")]
Seed = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="Of the split and the order of the rows.")
]
MaxLength = Annotated[
    int | None, typer.Option("--max-length", metavar="N", help="The most tokens in an example.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Any key of the config, as train.batch_size=8; repeatable."
    ),
]

KEYS = {
    "model": "model.name",
    "adapter": "adapter.kind",
    "epochs": "train.epochs",
    "lr": "train.learning_rate",
    "rank": "adapter.rank",
    "seed": "train.seed",
    "max_length": "tokens.max_length",
    "track": "track",
    "out": "out",
}
"""The key of the config that an option sets."""


def config_of(
    file: Path | None, data: Sequence[str] | None, settings: Sequence[str] | None, **given: Any
) -> RunConfig:
    """The config that is typed: that of ``file`` or its rows, then the options ``given`` by their names in
    ``KEYS``, then ``--set``. Raises ``ConfigError``."""
    from burnish.config import load_config

    typed = {KEYS[name]: value for name, value in given.items() if value not in (None, [])}
    rows = list(data or ())
    if file and not is_config(file):
        _require_no_run(file)
        rows.insert(0, str(file))
    if rows:
        typed["data.train"] = rows
    return load_config(file if file and is_config(file) else None, settings or (), **typed)


def is_config(file: Path) -> bool:
    """Whether a file that is typed is a config, and no file of rows."""
    return file.suffix in (".yaml", ".yml")


def _require_no_run(folder: Path) -> None:
    from burnish.errors import ConfigError
    from burnish.run.folder import RunFolder

    if RunFolder(folder).config.is_file():
        resumed = shlex.join(["burnish", "train", "--resume", str(folder)])
        raise ConfigError(
            f"{folder} is a run folder, and no file of rows",
            fix=f"Give a file of rows or a config; or go on with the run: {resumed}",
        )
