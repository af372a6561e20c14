"""The combinations of values of a sweep, each checked before the first one runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from burnish.config import RunConfig, load_config
from burnish.config.load import parse_value, read_yaml
from burnish.errors import ConfigError, DataError, RunError
from burnish.files import read_json, sha256
from burnish.recipes.quickstart import quickstart_config
from burnish.run.folder import RunFolder
from burnish.sweep.table import labels, shown

QUICKSTART = "quickstart"
LONGEST_NAME = 120


@dataclass(frozen=True)
class Combination:
    """A run of the sweep. ``begin_arguments`` and ``resume_arguments``: what follows ``burnish`` to start it,
    and to resume it."""

    name: str
    values: dict[str, Any]
    config: RunConfig
    begin_arguments: tuple[str, ...]
    resume_arguments: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """A sweep as it was asked for. ``base``: a YAML file, or the word quickstart. ``data``: the hash of each
    file."""

    base: str
    folder: Path
    overrides: tuple[str, ...]
    keys: tuple[str, ...]
    combinations: tuple[Combination, ...]
    data: dict[str, str]

    @property
    def table(self) -> Path:
        return self.folder / "sweep.json"

    @property
    def page(self) -> Path:
        return self.folder / "sweep.html"

    @property
    def base_file(self) -> Path:
        return self.folder / "base.yaml"

    def run(self, combination: Combination) -> RunFolder:
        return RunFolder(self.folder / combination.name)

    def log(self, combination: Combination) -> Path:
        return self.folder / f"{combination.name}.log"


def plan_sweep(base: str, over: Sequence[str], overrides: Sequence[str], folder: Path) -> Sweep:
    """The sweep, with every combination's config built and checked; nothing is written. ``over``: each
    ``key=value,value``. Raises a ``BurnishError`` for what can be known to fail, and where ``folder`` holds
    another sweep."""
    axes = _axes(over, overrides)
    table = folder / "sweep.json"
    before = read_json(table) if table.is_file() else None
    if before and set(before["keys"]) == set(axes):
        axes = {key: axes[key] for key in before["keys"]}  # the order does not matter, but names follow it
    combinations = []
    for texts in product(*axes.values()):
        setting = dict(zip(axes, texts, strict=True))
        combinations.append(_combination(base, setting, overrides, folder))
    _require_different(combinations)
    sweep = Sweep(base, folder, tuple(overrides), tuple(axes), tuple(combinations), _data(combinations))
    if before:
        _require_same(sweep, before)
    return sweep


def _axes(over: Sequence[str], overrides: Sequence[str]) -> dict[str, list[str]]:
    """Each key with the texts of its values."""
    axes: dict[str, list[str]] = {}
    fixed = {override.partition("=")[0].strip() for override in overrides}
    for text in over:
        key, separator, rest = text.partition("=")
        key, values = key.strip(), split_values(rest)
        if not separator or not key:
            raise ConfigError(f"--over {text}: no key and '='", fix="Write --over train.seed=0,1,2.")
        if not all(values):
            raise ConfigError(f"--over {text}: a value is empty", fix="Write --over train.seed=0,1,2.")
        if key in axes:
            raise ConfigError(f"--over {key} is given twice", fix="Give all of its values in one list.")
        if key in fixed:
            raise ConfigError(f"{key} is given by --set and by --over", fix="Leave one of them out.")
        if key == "out":
            raise ConfigError("--over out: each run has its own folder already", fix="Sweep another key.")
        axes[key] = values
    if not axes:
        raise ConfigError("a sweep without --over has nothing to vary", fix="Add --over train.seed=0,1,2.")
    return axes


def split_values(text: str) -> list[str]:
    """At its commas, but for those in brackets or quotes: ``[a,b],auto`` -> ``[a,b]``, ``auto``."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if letter == "," and not depth and not quote:
            parts.append("")
            continue
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and (depth or not parts[-1].strip()):
            quote = letter
        else:
            depth += (letter in "[{") - (letter in "]}")
        parts[-1] += letter
    return [part.strip() for part in parts]


def _combination(base: str, setting: dict[str, str], overrides: Sequence[str], folder: Path) -> Combination:
    values = {key: parse_value(text) for key, text in setting.items()}
    name = run_name(values)
    out = str(folder / name)
    pairs = [*overrides, *[f"{key}={text}" for key, text in setting.items()]]
    try:
        if base == QUICKSTART:
            config = quickstart_config(out, full=False, seed=0, overrides=pairs)
            verb = [QUICKSTART]
        else:
            config = load_config(Path(base), pairs, out=out)
            verb = ["train", str(folder / "base.yaml")]
    except ConfigError as error:
        raise ConfigError(f"{name}: {error.what}", why=error.why, fix=error.fix) from error
    sets = [argument for pair in pairs for argument in ("--set", pair)]
    resumed = (verb[0], "--resume", out)
    return Combination(name, values, config, (*verb, "--out", out, *sets), resumed)


def run_name(values: dict[str, Any]) -> str:
    """``kind=lora,seed=0``. What a file name should not hold is replaced, and a hash keeps the name
    unique."""
    texts = {label: shown(values[key]) for key, label in labels(list(values)).items()}
    name = ",".join(f"{label}={text}" for label, text in texts.items())
    if len(name) <= LONGEST_NAME and all(re.fullmatch(r"[\w.-]+", t, re.ASCII) for t in texts.values()):
        return name
    safe = re.sub(r"[^\w.,=+-]+", "-", name, flags=re.ASCII)[: LONGEST_NAME - 7]
    exact = json.dumps(values, sort_keys=True, default=str)
    return f"{safe}~{hashlib.sha256(exact.encode()).hexdigest()[:6]}"


def _require_different(combinations: Sequence[Combination]) -> None:
    seen: dict[str, str] = {}
    for combination in combinations:
        config = combination.config.model_dump_json(exclude={"out"})
        if config in seen:
            raise ConfigError(
                f"{combination.name} is asked for twice"
                + (f": it is the same run as {seen[config]}" if seen[config] != combination.name else ""),
                why="The same run would count as two.",
                fix="Leave out one of the values.",
            )
        seen[config] = combination.name


def _data(combinations: Sequence[Combination]) -> dict[str, str]:
    """The hash of every file that a run reads."""
    hashes: dict[str, str] = {}
    for combination in combinations:
        data = combination.config.data
        if not data.train:
            raise ConfigError(
                "data.train names no file", fix="Set it in the config, or with --set or --over."
            )
        for path in (*data.train, *data.held_out):
            if path not in hashes:
                try:
                    hashes[path] = sha256(Path(path))
                except OSError as error:
                    raise DataError(
                        f"{combination.name}: {path} cannot be read: {error.strerror}",
                        fix="Give the path of a file of rows that can be read.",
                    ) from error
    return hashes


def _require_same(sweep: Sweep, before: dict[str, Any]) -> None:
    """A sweep goes on only with the base, the data and the keys that it began with, and all of its values."""
    changed = []
    if before["base"] != sweep.base and QUICKSTART in (before["base"], sweep.base):
        changed.append(f"the base, which was {before['base']}")
    elif sweep.base != QUICKSTART and read_yaml(Path(sweep.base)) != read_yaml(sweep.base_file):
        changed.append(f"the config, which was that of {sweep.base_file}")
    if before["set"] != list(sweep.overrides):
        changed.append(f"--set, which was {' '.join(before['set']) or 'not given'}")
    if set(before["keys"]) != set(sweep.keys):
        changed.append(f"the keys of --over, which were {', '.join(before['keys'])}")
    else:
        asked = {combination.name for combination in sweep.combinations}
        gone = [row["name"] for row in before["runs"] if row["name"] not in asked]
        if gone:
            changed.append(f"the values of --over, which now leave out {', '.join(gone)}")
    changed += [path for path, sha in before["data"].items() if sweep.data.get(path, sha) != sha]
    if changed:
        raise RunError(
            f"{sweep.folder} holds another sweep; changed since: {'; '.join(changed)}",
            why="Its runs would stand in one table with runs that do not compare.",
            fix="Put back what was changed (more values may be added), or choose another --out.",
        )
    for combination in sweep.combinations:
        run = sweep.run(combination)
        if run.config.is_file():
            began = load_config(run.config)
            if began.model_copy(update={"out": combination.config.out}) != combination.config:
                raise RunError(
                    f"{run.path} holds a run of another config", fix="Remove the folder, or move it away."
                )
