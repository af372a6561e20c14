"""What a model forgets: its loss on text that has nothing to do with the rows, before and after.

The text is chosen once, when the base is measured, and kept in the run folder as token ids, so that the tuned
model is measured on the same tokens. Where nobody names a text the base writes it. On its own samples the
loss of the base estimates its entropy, and the rise of the loss estimates the Kullback-Leibler divergence of
the tuned model from the base, in nats a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from burnish.errors import BurnishError
from burnish.files import read_lines, write_lines
from burnish.generate import Sampling, generate
from burnish.model.forward import Forward
from burnish.run.open import OpenRun
from burnish.tokens import TokenTable, token_ids
from burnish.train.fit import mean_loss

KEPT = "prose.jsonl"
"""The file in the run folder, a document a line."""
BUDGET = 8192
"""Tokens in a forward pass."""
DOCUMENT = 512
"""The most tokens of a document."""
MOST_DOCUMENTS = 64
SAMPLES, SAMPLE_TOKENS = 16, 128
"""How much the base writes: some 2,000 tokens, on which differences of 0.03 nats can be told from noise."""


@dataclass(frozen=True)
class Forgetting:
    """The text on which it is measured: ``texts``, or samples of the base where there are none. ``name``:
    what stands for it in reports; ``before_text``: positions that an adapter takes before each text."""

    name: str
    texts: tuple[str, ...] = ()
    seed: int = 0
    before_text: int = 0

    def figures(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        forward: Forward,
        run: OpenRun,
        *,
        is_base: bool,
    ) -> dict[str, Any]:
        """``prose_loss``, nats a token, with how many tokens of what it is of. The base chooses the text, and
        the first of several ranks keeps it for the tuned model; empty where the base writes nothing."""
        path = run.folder.path / KEPT
        if is_base:
            documents = list(self._documents(model, tokenizer))
            if run.ranks.first:
                write_lines(path, [{"ids": document} for document in documents])
        else:
            documents = [row["ids"] for row in read_lines(path)]
        if not documents:
            return {}
        table = TokenTable.from_documents(map(_learnt, documents))
        return {
            "prose_loss": mean_loss(model, table, forward, BUDGET),
            "prose_tokens": sum(len(document) - 1 for document in documents),
            "prose_of": self.name,
        }

    def _documents(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
        """Of two tokens or more, since the first one is given, and no longer than the tuned model reads."""
        positions = getattr(model.config, "max_position_embeddings", None)
        most = min(DOCUMENT, positions - self.before_text) if positions else DOCUMENT
        if self.texts:
            yield from (document for document in _cut(tokenizer, self.texts, most) if len(document) > 1)
            return
        try:
            written = _written(model, tokenizer, self.seed)
        except BurnishError:
            return  # a base that is broken: the run will say so
        yield from (document[:most] for document in written if len(document) > 1)


def _cut(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], most: int) -> list[list[int]]:
    documents: list[list[int]] = []
    for text in texts:
        ids = token_ids(tokenizer, text)
        documents += [ids[start : start + most] for start in range(0, len(ids), most)]
        if len(documents) >= MOST_DOCUMENTS:
            break
    return documents[:MOST_DOCUMENTS]


def _written(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int) -> list[list[int]]:
    """Samples of the model behind the token that begins a text, else the one that ends it, as many bases
    saw theirs."""
    ends = tokenizer.eos_token_id
    begins = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else ends
    start = 0 if begins is None else int(begins)
    sampling = Sampling(temperature=1.0, seed=seed, max_new_tokens=SAMPLE_TOKENS)
    answers = generate(
        model, tokenizer, [[start]] * SAMPLES, [start if ends is None else int(ends)], sampling
    )
    return [[start, *answer.ids] for answer in answers]


def _learnt(ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(ids, np.int32), np.ones(len(ids), np.float32)
