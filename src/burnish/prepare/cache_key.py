"""The key of prepared rows in the cache: one hash of all that decides which tokens a data set becomes."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from burnish.prepare.in_memory import Sources
from burnish.prepare.rows import RowEncoder
from burnish.prepare.source import DataSource, digest

OWN = ("prepare", "prepared", "source", "rows", "refusals", "ledger")
CODE = ("data", "curate", "template", "tokens", *(f"prepare/{name}.py" for name in OWN))
"""What of burnish has a part in it."""
PACKAGES = ("burnish", "transformers", "tokenizers", "jinja2")


def cache_key(source: DataSource, encoder: RowEncoder, samples: int) -> str | None:
    """A hash of the files' contents, of how they are split and encoded, and of the code that does it; None
    where it cannot be had: a tokenizer written in Python cannot tell its contents."""
    template = encoder.template
    tokenizer = template.tokenizer
    if not tokenizer.is_fast:
        return None
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    decides: dict[str, Any] = {
        "train": _contents(source.train),
        "held_out": _contents(source.held_out),
        "split": (source.held_out_share, source.seed) if source.splits else None,
        "bad_rows": source.bad_rows,
        "tokenizer": hashlib.sha256(backend.to_str().encode()).hexdigest(),
        "tokenizer_kind": type(tokenizer).__name__,
        "special_tokens": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "template": template.source,
        "remedies": template.remedies,
        "options": template.options,
        "stop_ids": template.stop_ids,
        "typed_tokens": template.typed_tokens,
        "today": date.today().isoformat() if "strftime_now" in str(template.source) else None,
        "too_long": encoder.too_long,
        "train_on": encoder.train_on,
        "limit": encoder.limit,
        "samples": samples,
        "packages": {name: version(name) for name in PACKAGES},
        "code": _code(),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()


def _contents(places: Sources) -> list[tuple[str, str]]:
    """The name of each list in memory and of each file that exists, with its hash."""
    there = (place for place in places if not isinstance(place, str) or Path(place).is_file())
    return [(str(place), digest(place)) for place in there]


@cache
def _code() -> str:
    """A hash of burnish's own code: its version does not change with every edit."""
    found = hashlib.sha256()
    for name in CODE:
        place = Path(str(files("burnish"))) / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            found.update(path.read_bytes())
    return found.hexdigest()
