"""Rows as a data set for torch's ``DataLoader``."""

from __future__ import annotations

import sys

from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from burnish.config import TokensConfig
from burnish.config.load import validated
from burnish.data.memory import Rows
from burnish.data.read import BadRow, each_row, summarised
from burnish.errors import DataError
from burnish.prepare.ledger import READ, TRAINED, Ledger
from burnish.prepare.rows import RowEncoder, fitted_rows
from burnish.template import ChatTemplate
from burnish.tokens import Example
from burnish.tokens.length import TooLong
from burnish.tokens.weights import TrainOn


class SFTDataset(Dataset[Example]):
    """The examples of rows, in their order, for ``DataLoader(dataset, collate_fn=partial(collate, ...))``.

    ``rows``: the path of a jsonl file, several, or a list of dicts as such a file holds them:
    ``{"messages": [...]}`` or ``{"text": ...}``. ``template``: a tokenizer stands for its own chat template
    without options or remedies. All rows are encoded and proven at once, so a row that is wrong is known
    before the first step. A row makes an example, or several where the template renders earlier turns
    otherwise once later ones follow.

    Nothing is cut without ``max_length``. With it ``too_long`` says what becomes of longer examples, as
    ``tokens.too_long`` does in a config: by default the earliest whole exchanges are left out. ``train_on``:
    which turns are learnt where messages do not say it themselves. ``ledger``: a line for each row that is
    not trained as it stands, such as one without anything to learn, and the counts.

    Raises ``ConfigError`` for a setting that is none, ``DataError`` naming each row that cannot be read and
    where no row has anything to learn, and ``TemplateError`` naming each row for which the template breaks a
    mask law, with what would help.
    """

    def __init__(
        self,
        rows: Rows,
        template: ChatTemplate | PreTrainedTokenizerBase,
        *,
        max_length: int | None = None,
        too_long: TooLong = "truncate_left",
        train_on: TrainOn = "all",
    ) -> None:
        self.ledger = Ledger()
        self.examples: list[Example] = []
        found = list(each_row(rows))
        if bad := [row for row in found if isinstance(row, BadRow)]:
            raise summarised(bad)
        readable = [row for row in found if not isinstance(row, BadRow)]
        limit = sys.maxsize if max_length is None else max_length
        keys = {"max_length": limit, "too_long": too_long, "train_on": train_on}
        tokens = validated(TokensConfig, keys, "SFTDataset")
        chat_template = template if isinstance(template, ChatTemplate) else ChatTemplate(template)
        encoder = RowEncoder.of(chat_template, tokens, None)
        violations = encoder.violations()
        for _, encoded, fitted in fitted_rows(readable, encoder, violations):
            self.ledger.note_fitted(fitted, encoded)
            self.ledger.counts[TRAINED] += bool(fitted.examples)
            self.examples += fitted.examples
        if violations.groups:
            raise violations.as_error(len(readable))
        self.ledger.counts[READ] = len(readable)
        if not self.examples:
            raise DataError(
                f"no token of {len(readable)} rows would be trained",
                why="There would be nothing to learn from.",
                fix="Give rows with assistant turns that are to be learnt and fit into max_length.",
            )

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, number: int) -> Example:
        return self.examples[number]
