"""A config's rows as one file of token ids and labels, for other trainers.

    config -> Prepared -> row groups -> tokens.parquet or tokens.arrow, with its ledger beside it

The tokens are those that a run of the same config would train: ``prepare`` makes both. They go from its
tables into the file a group at a time, so that memory stays flat however many there are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from burnish.config import RunConfig
from burnish.data.memory import Rows
from burnish.errors import ConfigError, RunError
from burnish.files import STAGED, flush, text_sha256, write_lines, writing
from burnish.prepare.in_memory import taken_from_memory, tokenizer_of
from burnish.prepare.ledger import Ledger
from burnish.prepare.model import require_whole_model
from burnish.prepare.prepare import prepare
from burnish.prepare.prepared import Prepared
from burnish.run.screen import Screen, SilentScreen
from burnish.template import ChatTemplate
from burnish.template.build import build_template
from burnish.tokens.collate import IGNORED

GROUP_TOKENS = 1 << 20
"""Tokens in a row group, about: some 12 MB of memory while it is written."""


@dataclass(frozen=True)
class Exported:
    """What was written. ``weighted``: the file has the column ``loss_weights``. ``tokenizer``: the folder
    with the tokenizer that belongs to it, where that is not the model's own; ``new_tokens``: those of its
    tokens for which the model has no embedding."""

    path: Path
    ledger_path: Path
    examples: int
    tokens: int
    trained_tokens: int
    weighted: bool
    ledger: Ledger
    tokenizer: Path | None = None
    new_tokens: tuple[str, ...] = ()


def export(
    config: RunConfig,
    out: Path,
    screen: Screen | None = None,
    *,
    data: Rows | None = None,
    model: PreTrainedModel | str | Path | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Exported:
    """Write the tokens of the rows in ``config.data.train`` to ``out``, a .parquet or an .arrow file.

    A row of the file is an example: ``input_ids`` and ``labels`` (int32, a list each; -100 where a token is
    not trained, not shifted), ``source`` (file and row), and ``loss_weights`` (fp32) where any token of the
    file counts neither 0 nor 1. All rows go into it, none is held out. Reads the tokenizer and no weights.
    ``data``, ``model`` and ``tokenizer`` as for ``sft``; a tokenizer alone is enough.

    ``out`` is written whole or not at all, and its ledger, ``out`` with ``.ledger.jsonl`` behind it, before.
    Raises ``ConfigError`` for another kind of file and where pyarrow is not installed, ``RunError`` where the
    file is there already or cannot be written, and whatever ``prepare`` raises.
    """
    screen = screen or SilentScreen()
    writer = _writer_for(out)
    ledger_path = out.with_name(f"{out.name}.ledger.jsonl")
    tokenizer_path = out.with_name(f"{out.name}.tokenizer")
    _require_free(out)
    config, in_memory = taken_from_memory(
        config, data=data, model=model, tokenizer=tokenizer, needs_model=False
    )
    if in_memory.tokenizer is None:
        require_whole_model(config.model.name)
    loaded = tokenizer_of(config, in_memory)
    own = loaded.tokenizer.chat_template
    template, new = build_template(loaded.tokenizer, config.template, loaded.stop_ids)
    if config.data.held_out:
        screen.warn(f"{', '.join(config.data.held_out)} is not part of the file: data.held_out is left out.")
    everything = config.data.model_copy(update={"held_out": (), "held_out_share": 0.0})
    config = config.model_copy(update={"data": everything})
    made = prepare(config, template, loaded.positions, screen, in_memory)
    screen.say(made.ledger.in_words(made.train))
    weighted = any(_counts_differently(group) for group in _groups(made))
    with _written(out) as staged:
        writer(staged, made, _about(config, template), weighted, screen)
        write_lines(ledger_path, made.ledger.as_rows(made.train))
        if template.source != own:
            _save_tokenizer(template, tokenizer_path)
    return Exported(
        out,
        ledger_path,
        len(made.train),
        made.train.tokens,
        made.train.trained_tokens,
        weighted,
        made.ledger,
        tokenizer_path if template.source != own else None,
        tuple(new),
    )


@dataclass(frozen=True)
class _Group:
    """Some examples of a table: ``ids`` and ``weights`` (tokens,), where each begins and the last ends
    (examples + 1,), and where they come from. A first token has no weight: nothing stands before it."""

    ids: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    sources: list[str]


def _groups(data: Prepared) -> Iterator[_Group]:
    """The examples of ``data.train``, so many at a time that they have about ``GROUP_TOKENS`` tokens."""
    table, sources = data.train, (f"{path}:{row}" for path, rows in data.notes.rows_by_file for row in rows)
    first = 0
    while first < len(table):
        end = int(np.searchsorted(table.offsets, table.offsets[first] + GROUP_TOKENS))
        end = min(max(end, first + 1), len(table))
        part = slice(table.offsets[first], table.offsets[end])
        offsets = table.offsets[first : end + 1] - table.offsets[first]
        weights = table.weights[part].copy()
        weights[offsets[:-1]] = 0.0
        yield _Group(table.ids[part], weights, offsets, list(islice(sources, end - first)))
        first = end


def _counts_differently(group: _Group) -> bool:
    return bool(((group.weights != 0) & (group.weights != 1)).any())


def _about(config: RunConfig, template: ChatTemplate) -> dict[str, Any]:
    """What a reader of the file may want to know of it; it stands in the schema's metadata."""
    return {
        "burnish": version("burnish"),
        "model": config.model.name,
        "template_sha256": text_sha256(str(template.source)),
        "stop_tokens": list(template.stop_tokens),
        "tokens": config.tokens.model_dump(mode="json"),
    }


# The two kinds of file.


Writer = Callable[[Path, Prepared, dict[str, Any], bool, Screen], None]


def _write_parquet(path: Path, data: Prepared, about: dict[str, Any], weighted: bool, screen: Screen) -> None:
    import pyarrow.parquet as parquet

    schema = _schema(about, weighted)
    with parquet.ParquetWriter(path, schema, compression="zstd") as file:
        for batch in _batches(data, schema, weighted, screen):
            file.write_batch(batch, row_group_size=batch.num_rows)


def _write_arrow(path: Path, data: Prepared, about: dict[str, Any], weighted: bool, screen: Screen) -> None:
    """In Arrow's stream format, which ``datasets.Dataset.from_file`` maps into memory."""
    import pyarrow

    schema = _schema(about, weighted)
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, schema) as file:
        for batch in _batches(data, schema, weighted, screen):
            file.write_batch(batch)


WRITERS: dict[str, Writer] = {".parquet": _write_parquet, ".arrow": _write_arrow}


def _writer_for(out: Path) -> Writer:
    if out.suffix not in WRITERS:
        raise ConfigError(
            f"{out}: not a {' or '.join(WRITERS)} file",
            fix="Give --out tokens.parquet, which every tool reads, or tokens.arrow, which datasets maps.",
        )
    try:
        import pyarrow  # noqa: F401 - whether it is there
    except ImportError as error:
        raise ConfigError(f"{out.suffix} needs pyarrow", fix="pip install 'burnish[data]'") from error
    return WRITERS[out.suffix]


def _schema(about: dict[str, Any], weighted: bool) -> Any:
    import pyarrow

    numbers = pyarrow.list_(pyarrow.int32())
    columns = {"input_ids": numbers, "labels": numbers, "source": pyarrow.string()}
    if weighted:
        columns["loss_weights"] = pyarrow.list_(pyarrow.float32())
    return pyarrow.schema(columns, metadata={"burnish": json.dumps(about)})


def _batches(data: Prepared, schema: Any, weighted: bool, screen: Screen) -> Iterator[Any]:
    import pyarrow

    done = 0
    for group in _groups(data):
        offsets = pyarrow.array(group.offsets.astype(np.int32))
        labels = np.where(group.weights > 0, group.ids, np.int32(IGNORED))
        columns = [group.ids, labels, *([group.weights] if weighted else [])]
        lists = [pyarrow.ListArray.from_arrays(offsets, pyarrow.array(numbers)) for numbers in columns]
        lists.insert(2, pyarrow.array(group.sources))
        yield pyarrow.record_batch(lists, schema=schema)
        done += len(group.sources)
        screen.progress("Writing", done, len(data.train))


# Written whole or not at all.


def _require_free(path: Path) -> None:
    if path.exists():
        raise RunError(
            f"{path} is there already",
            why="A file is never overwritten.",
            fix="Choose another --out, or remove it.",
        )


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    """A file to be written within the block, which has the name ``path`` once the block has ended well."""
    staged = path.with_name(f"{STAGED}{path.name}")
    with writing(str(path), why="Nothing was written.", fix="Mend what the message names, and begin again."):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield staged
            flush(staged)
            _require_free(path)  # that another process made meanwhile
            staged.rename(path)
            flush(path.parent)
        finally:
            staged.unlink(missing_ok=True)


def _save_tokenizer(template: ChatTemplate, folder: Path) -> None:
    """The tokenizer with the template that the tokens were made with."""
    staged = folder.with_name(f"{STAGED}{folder.name}")
    for left in (staged, folder):  # by a process that was killed before the file was there
        shutil.rmtree(left, ignore_errors=True)
    template.tokenizer.chat_template = template.source
    template.tokenizer.save_pretrained(staged)
    staged.rename(folder)
