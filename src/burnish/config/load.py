"""YAML and command-line overrides to a checked config; every mistake named with the nearest right key."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from burnish.config.meant import MEANT, MEANT_KEYS
from burnish.config.sections import RunConfig
from burnish.errors import ConfigError

Config = TypeVar("Config", bound=BaseModel)

LEARNING_RATES = {
    "lora": 2e-4,
    "dora": 2e-4,
    "ia3": 3e-3,
    "prompt": 1e-2,
    "prefix": 1e-2,
    "bottleneck": 5e-4,
    "none": 2e-5,
}
"""Peaks that serve as a start for each kind of training, where the config names none."""

MOST_VALUES = 100_000
"""In a config file."""


PART_OF_A_VALUE = re.compile(r"\d+|bool|str|int|float|(literal|tuple)\[.*\]")
"""What pydantic puts behind a key: the place in a list, or which of several types was tried."""


def load_config(path: Path | None = None, overrides: Sequence[str] = (), **given: Any) -> RunConfig:
    """The config of a fine-tuning run, with the learning rate filled in where none is named."""
    return with_learning_rate(build_config(RunConfig, path, overrides, **given))


def with_learning_rate(config: RunConfig) -> RunConfig:
    """The config with the rate of its kind of adapter, where it names none."""
    if config.train.learning_rate is not None:
        return config
    rate = LEARNING_RATES[config.adapter.kind]
    return config.model_copy(update={"train": config.train.model_copy(update={"learning_rate": rate})})


def build_config(
    kind: type[Config], path: Path | None, overrides: Sequence[str] = (), **given: Any
) -> Config:
    """The defaults, then the YAML file, then ``given`` ({"model.name": ...}), then ``key=value``
    overrides. Raises ``ConfigError`` naming the file and the key."""
    tree = {
        name: field.default.model_dump(exclude_unset=True)
        for name, field in kind.model_fields.items()
        if isinstance(field.default, BaseModel)
    }
    for section, value in (read_yaml(path) if path else {}).items():
        defaults = tree.get(section)
        if isinstance(defaults, dict) and isinstance(value, dict | None):
            tree[section] = defaults | (value or {})
        else:
            tree[section] = value
    for key, value in given.items():
        set_key(tree, key, value)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ConfigError(f"--set {override}: no '='", fix="Write --set train.learning_rate=1e-4.")
        set_key(tree, key.strip(), parse_value(text))
    return validated(kind, tree, str(path or "the command line"))


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such config file", fix="Give the path of a .yaml file.") from error
    except (yaml.YAMLError, ValueError, OSError, OverflowError, RecursionError) as error:
        raise ConfigError(
            f"{path}: not YAML ({error})", fix="Write it as sections of keys, such as train: {epochs: 2}."
        ) from error
    _require_small(tree, path)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: not a mapping of sections", fix="Start with 'model:' or 'data:'.")
    return tree


def _require_small(tree: Any, path: Path) -> None:
    """Raises ``ConfigError`` where aliases (``*name``) make some lines stand for more values than any config
    has, or a value for itself."""
    waiting, count = [tree], 0
    while waiting:
        value, count = waiting.pop(), count + 1
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if count > MOST_VALUES:
            raise ConfigError(
                f"{path}: more than {MOST_VALUES:,} values, aliases counted where they stand",
                fix="Write out what is meant.",
            )


def parse_value(text: str) -> Any:
    """A value as YAML reads it, with 1e-4 a number (YAML 1.1 wants 1.0e-4 and reads a string)."""
    if re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", text) and math.isfinite(float(text)):
        return float(text)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        return text


def set_key(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(
                f"{key}: {section} is a value, not a section",
                fix=f"Leave out {section} as a value, or {key}.",
            )
    tree[last] = value


def validated(kind: type[Config], tree: Mapping[str, Any], where: str) -> Config:
    """The checked config, or a ``ConfigError`` with every mistake in it."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        mistakes = [_mistake(kind, item) for item in error.errors()]
        raise ConfigError(
            f"{where}: " + "\n".join(what for what, _ in mistakes),
            why="Nothing was started: a config has to be right as a whole.",
            fix=" ".join(dict.fromkeys(fix for _, fix in mistakes)),
        ) from error


def _mistake(kind: type[BaseModel], item: Any) -> tuple[str, str]:
    """What is wrong, and what to write instead."""
    path = [str(part) for part in item["loc"]]
    key = ".".join(part for part in path if not PART_OF_A_VALUE.fullmatch(part))
    if item["type"] == "value_error":
        return str(item["ctx"]["error"]), "Leave out one of the two."
    if item["type"] == "extra_forbidden":
        near = _nearest_key(kind, path)
        return f"{key}: no such key; did you mean {near}?", f"Write {near}."
    what, given = f"{key}: {item['msg']} (given: {repr(item['input'])[:200]})", str(item["input"]).lower()
    if item["type"] == "missing":
        return what, f"Give {key}."
    if item["type"] != "literal_error":
        return what, f"Change {key}."
    values = re.findall(r"'([^']*)'", item["ctx"]["expected"])
    alike = difflib.get_close_matches(given, values, n=1)
    near = (
        (f"{alike[0]} in {key}" if isinstance(item["loc"][-1], int) else f"{key}={alike[0]}") if alike else ""
    )
    meant = MEANT.get(key, {}).get(given.replace("_", "-")) or near
    if meant:
        return f"{what}; did you mean {meant}?", f"Write {meant}."
    return what, f"Change {key}."


def _nearest_key(kind: type[BaseModel], path: Sequence[str]) -> str:
    known = _keys(kind)
    if MEANT_KEYS.get(path[-1]) in known:
        return MEANT_KEYS[path[-1]]
    same_name = [name for name in known if name.rsplit(".", 1)[-1] == path[-1]]
    # A key of a section is first looked for in that section.
    section = [name for name in known if len(path) > 1 and name.startswith(f"{path[0]}.")]
    near = difflib.get_close_matches(".".join(path), section or known, n=1, cutoff=0.0)
    return (same_name or near)[0]


def _keys(kind: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in kind.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _keys(field.annotation, f"{prefix}{name}.")
    return keys
