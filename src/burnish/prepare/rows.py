"""Rows to examples of at most so many tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from burnish.config import TokensConfig
from burnish.data import Conversation
from burnish.errors import ConfigError
from burnish.model.trial import LONGEST
from burnish.prepare.refusals import too_long
from burnish.prepare.violations import Violations
from burnish.run.screen import Screen
from burnish.template import ChatTemplate
from burnish.tokens import Encoded, Fitted, encode_all, fit
from burnish.tokens.length import TooLong
from burnish.tokens.weights import TrainOn


def length_limit(max_length: int, positions: int | None, virtual_tokens: int = 0) -> int:
    """The most tokens of an example, for a model of so many ``positions`` (None: of any length), of which
    virtual tokens before the text take some. Raises ``ConfigError`` where they leave hardly any."""
    if not positions:
        return max_length
    if virtual_tokens and positions - virtual_tokens < LONGEST:
        raise ConfigError(
            f"adapter.virtual_tokens {virtual_tokens} leaves too little room for text",
            why=f"The model reads at most {positions} tokens, and they count too.",
            fix=f"Take at most {max(0, positions - LONGEST)} of them.",
        )
    return min(max_length, positions - virtual_tokens)


EVERY = 1000
"""Rows between two signs of progress."""


def watched(rows: Iterable[Conversation], total: int, task: str, screen: Screen) -> Iterator[Conversation]:
    """The rows, with a sign of progress now and then; none where there are few."""
    for number, row in enumerate(rows, 1):
        yield row
        if number % EVERY == 0 or number == total > EVERY:
            screen.progress(task, number, total)


@dataclass(frozen=True)
class RowEncoder:
    """How rows become examples: by ``template``, of at most ``limit`` tokens; ``too_long``: what becomes of
    longer ones; ``train_on``: the turns that are learnt."""

    template: ChatTemplate
    limit: int
    too_long: TooLong
    train_on: TrainOn

    @classmethod
    def of(
        cls,
        template: ChatTemplate,
        tokens: TokensConfig,
        positions: int | None,
        virtual_tokens: int = 0,
    ) -> RowEncoder:
        limit = length_limit(tokens.max_length, positions, virtual_tokens)
        return cls(template, limit, tokens.too_long, tokens.train_on)

    def encode(self, rows: Iterable[Conversation]) -> Iterator[Encoded]:
        """Examples of any length, or the law that a row breaks."""
        return encode_all(rows, self.template, train_on=self.train_on)

    def fit(self, encoded: Encoded) -> Fitted:
        return fit(encoded, self.template, self.limit, self.too_long)

    def violations(self) -> Violations:
        """An empty collection of rows that break a law."""
        return Violations(self.template, self.train_on)


def fitted_rows(
    rows: Iterable[Conversation], encoder: RowEncoder, violations: Violations
) -> Iterator[tuple[int, Encoded, Fitted]]:
    """Each row encoded and brought to the limit, with its number among ``rows``, from 0. Rows that break a
    law go to ``violations`` and no further. Raises ``DataError`` for a row that is too long, where
    ``too_long`` is ``error``."""
    for number, encoded in enumerate(encoder.encode(rows)):
        if encoded.error:
            violations.add(encoded.conversation, encoded.error)
            continue
        fitted = encoder.fit(encoded)
        longest = max((len(example.input_ids) for example in encoded.examples), default=0)
        if longest > encoder.limit and encoder.too_long == "error":
            raise too_long(encoded.conversation.source, longest, encoder.limit)
        yield number, encoded, fitted
