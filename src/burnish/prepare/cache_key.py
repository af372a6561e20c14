"""All that decides which tokens a data set becomes, as one hash: the name of the result in the cache."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from burnish.config import RunConfig
from burnish.files import sha256
from burnish.template import ChatTemplate

CODE = ("data", "curate", "template", "tokens", "prepare/prepare.py", "prepare/ledger.py")
"""What of burnish has a part in it."""
PACKAGES = ("burnish", "transformers", "tokenizers", "jinja2")


def cache_key(config: RunConfig, template: ChatTemplate, limit: int) -> str | None:
    """None where it cannot be had: a tokenizer written in Python cannot tell its contents."""
    tokenizer, data = template.tokenizer, config.data
    if not tokenizer.is_fast:
        return None
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    splits = not data.held_out and data.held_out_share > 0
    ingredients = {
        "train": [(path, sha256(Path(path))) for path in data.train if Path(path).is_file()],
        "held_out": [(path, sha256(Path(path))) for path in data.held_out if Path(path).is_file()],
        "split": (data.held_out_share, config.train.seed) if splits else None,
        "bad_rows": data.bad_rows,
        "tokenizer": hashlib.sha256(backend.to_str().encode()).hexdigest(),
        "tokenizer_kind": type(tokenizer).__name__,
        "special_tokens": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "template": template.source,
        "remedies": template.remedies,
        "options": template.options,
        "stop_ids": template.stop_ids,
        "typed_tokens": template.typed_tokens,
        "today": date.today().isoformat() if "strftime_now" in str(template.source) else None,
        "tokens": config.tokens.model_dump(mode="json", exclude={"max_length"}),
        "limit": limit,
        "samples": config.evaluate.samples,
        "packages": {name: version(name) for name in PACKAGES},
        "code": _code(),
    }
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True, default=str).encode()).hexdigest()


@cache
def _code() -> str:
    """A hash of burnish's own code: its version does not change with every edit."""
    found = hashlib.sha256()
    for name in CODE:
        place = Path(str(files("burnish"))) / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            found.update(path.read_bytes())
    return found.hexdigest()
