"""The masks of a data set, proven row by row before training."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from burnish.adapters.load import LoadedTokenizer
from burnish.config import RunConfig
from burnish.data import Conversation
from burnish.data.memory import Rows
from burnish.data.read import BadRow
from burnish.errors import BurnishError, ConfigError, TemplateError
from burnish.prepare.in_memory import taken_from_memory, tokenizer_of
from burnish.prepare.ledger import HELD_OUT, READ, TRAINED, Ledger
from burnish.prepare.refusals import refused_settings, refused_sides, refused_survey, too_long
from burnish.prepare.rows import RowEncoder, fitted_rows, watched
from burnish.prepare.source import DataSource
from burnish.prepare.violations import Group
from burnish.run.screen import Screen, SilentScreen
from burnish.template import ChatTemplate
from burnish.template.build import build_template
from burnish.tokens import Encoded, Example, Fitted, token_ids
from burnish.tokens.ids import batch_ids, decode

LAWS = ("served", "faithful", "stops", "borders", "only")
SHOWN = 3
COMPARED = 200
"""Rows whose prompts are also encoded by plain transformers."""
PROBE = "Ab 3  x\n\ty: \u00e9 e\u0301 \ufb01 \u201cq\u201d \U0001f600"
"""Upper case, white space, accents in both normal forms, a ligature, quotes, an emoji."""


@dataclass
class RoleCount:
    """Messages of a role, those that are learnt, and their trained tokens."""

    messages: int = 0
    learnt: int = 0
    trained_tokens: int = 0


@dataclass
class CheckResult:
    """What ``check`` found. ``lengths``: tokens of every example before anything is done about its length.

    ``refusal``: the error with which training would end before its first step. ``stops``: trained stop
    tokens, one of which every learnt turn has. ``notes``: what the template does that is no fault, and in how
    many rows. ``differences``: where plain transformers would feed other tokens than training did, in
    sentences.
    """

    limit: int
    rows: int = 0
    unreadable: list[BadRow] = field(default_factory=list)
    refusal: BurnishError | None = None
    roles: dict[str, RoleCount] = field(default_factory=dict)
    examples: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    turns: int = 0
    stops: int = 0
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ledger: Ledger = field(default_factory=Ledger)
    notes: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    compared: int = 0
    violations: list[tuple[Group, TemplateError]] = field(default_factory=list)
    shown: list[Example] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def violating_rows(self) -> int:
        return sum(len(group.rows) for group, _ in self.violations)

    def rows_breaking(self, law: str) -> int:
        """Rows that break a law; "" for those that the template refuses to render."""
        return sum(len(group.rows) for group, _ in self.violations if group.law == law)

    def percentile(self, share: float) -> int:
        return int(np.percentile(self.lengths, share, method="higher")) if len(self.lengths) else 0


def check(
    config: RunConfig,
    screen: Screen | None = None,
    *,
    data: Rows | None = None,
    held_out: Rows | None = None,
    model: PreTrainedModel | str | Path | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> tuple[CheckResult, ChatTemplate]:
    """Prove every row that ``config.data`` names, with the template that training would use. ``data``,
    ``held_out``, ``model`` and ``tokenizer`` as for ``sft``; a tokenizer alone is enough.

    Reads the tokenizer and no weights. Broken laws, rows that cannot be read and whatever else of the rows
    training would refuse are results, not errors; a file that is not there is an error.
    """
    screen = screen or SilentScreen()
    config, in_memory = taken_from_memory(
        config, data=data, held_out=held_out, model=model, tokenizer=tokenizer, needs_model=False
    )
    source = DataSource.of(config.data, config.train.seed, in_memory)
    if not source.train:
        raise ConfigError("data.train names no file", fix="Give --data rows.jsonl, or set data.train.")
    loaded = tokenizer_of(config, in_memory)
    template, _ = build_template(loaded.tokenizer, config.template, loaded.stop_ids)
    started = time.perf_counter()
    ledger = Ledger()
    survey = source.survey(ledger)
    encoder = RowEncoder.of(template, config.tokens, loaded.positions, config.adapter.before_text)
    found = CheckResult(encoder.limit, ledger.counts[READ], survey.bad, ledger=ledger)
    found.refusal = refused_survey(source, survey, ledger)
    violations = encoder.violations()
    lengths: list[int] = []
    to_learn = 0
    stop_ids = frozenset(template.stop_ids)
    rows = watched(source.rows(), len(survey), "Proving", screen)
    for number, encoded, fitted in fitted_rows(rows, _without_errors(encoder), violations):
        own = [len(example.input_ids) for example in encoded.examples]
        lengths += own
        if encoder.too_long == "error" and max(own, default=0) > encoder.limit and not found.refusal:
            found.refusal = too_long(encoded.conversation.source, max(own), encoder.limit)
        if survey.also_trained[number]:
            continue
        _count(found, encoded, fitted, stop_ids)
        measured = bool(survey.held_out[number])
        ledger.counts[HELD_OUT if measured else TRAINED] += bool(fitted.examples)
        to_learn += 0 if measured else sum(example.trained_tokens for example in fitted.examples)
    if violations.groups and not found.refusal:
        found.refusal = violations.as_error(len(survey))
    found.refusal = (
        found.refusal
        or refused_sides(source, ledger, to_learn)
        or refused_settings(config.train, ledger.counts[HELD_OUT])
    )
    found.lengths = np.asarray(lengths, np.int64)
    found.seconds = time.perf_counter() - started
    found.violations = [(group, violations.advice(group)) for group in violations.largest_first()]
    compared = list(islice(source.rows(), COMPARED))
    found.differences = [*_differences(template, loaded), *_compared(found, template, compared)]
    return found, template


def _without_errors(encoder: RowEncoder) -> RowEncoder:
    """Rows that are too long are counted here, whatever training would do about them."""
    return replace(encoder, too_long="drop") if encoder.too_long == "error" else encoder


def _count(found: CheckResult, encoded: Encoded, fitted: Fitted, stop_ids: frozenset[int]) -> None:
    conversation = encoded.conversation
    roles = [message.role for message in conversation.messages] or ["text"]
    for role in roles:
        found.roles.setdefault(role, RoleCount()).messages += 1
    learner = found.roles.setdefault("text" if conversation.text is not None else "assistant", RoleCount())
    found.notes.update(encoded.notes)
    found.ledger.note_fitted(fitted, encoded)
    for example in fitted.examples:
        found.examples += 1
        found.tokens += len(example.input_ids)
        trained = example.trained_tokens
        found.trained_tokens += trained
        learner.trained_tokens += trained
        learner.learnt += len(example.turns)
        found.turns += len(example.turns)
        if example.turns:
            found.stops += sum(example.weights[place] > 0 for place in _places(example.input_ids, stop_ids))
    found.shown.extend(fitted.examples[: SHOWN - len(found.shown)])


def _places(ids: list[int], wanted: frozenset[int]) -> Iterator[int]:
    """The positions of all wanted ids; ``list.index`` is some thirty times as fast as a loop over all."""
    for token in wanted:
        place = -1
        for _ in range(ids.count(token)):
            place = ids.index(token, place + 1)
            yield place


def _differences(template: ChatTemplate, loaded: LoadedTokenizer) -> Iterator[str]:
    """What the template and the base's own settings do between training and serving."""
    tokenizer, source = template.tokenizer, str(template.source)
    if template.remedies or template.options:
        yield (
            "The base's own template renders otherwise: final/ carries it with the remedies and options of "
            "this config in it."
        )
    (ids,) = batch_ids(tokenizer, [PROBE])
    if (said := decode(tokenizer, ids).strip()) != PROBE:
        yield f"The tokenizer changes text: of {PROBE!r} it makes {said!r}."
    if "strftime_now" in source:
        yield "The template writes the date: what is served on another day differs from what was trained."
    if loaded.stop_ids and set(loaded.stop_ids) != set(template.stop_ids):
        theirs = " ".join(map(str, tokenizer.convert_ids_to_tokens(list(loaded.stop_ids))))
        yield f"The base stops at {theirs}; final/ stops at {' '.join(template.stop_tokens)}."
    bos = tokenizer.bos_token_id
    begins = bos is not None and list(tokenizer("a", verbose=False)["input_ids"])[:1] == [bos]
    if begins and "bos_token" not in source and str(tokenizer.bos_token) not in source:
        yield (
            f"The tokenizer begins texts with {tokenizer.bos_token}, the template does not: neither training "
            "nor serving has it. template.remedies: [add_bos] puts it there."
        )


def _compared(
    found: CheckResult, template: ChatTemplate, conversations: Sequence[Conversation]
) -> Iterator[str]:
    """Encodes prompts as plain transformers does, with the template as it will be saved."""
    typed = other = 0
    bad = {source for group, _ in found.violations for source in group.rows}
    for conversation in conversations:
        asked = template.prepared(conversation).asked
        if not asked.messages or conversation.source in bad:
            continue
        found.compared += 1
        ids = [
            list(
                template.tokenizer.apply_chat_template(
                    asked.as_dicts(),
                    tools=list(asked.tools) or None,
                    chat_template=template.text_for(asked.tools),
                    add_generation_prompt=True,
                    sanitize_control_tokens=sanitize,
                )["input_ids"]
            )
            for sanitize in (False, True)
        ]
        ours = token_ids(template.tokenizer, template.prompt(asked))
        typed += ours == ids[1] != ids[0]
        other += ours not in ids
    if typed:
        yield (
            f"{typed:,} of {found.compared:,} prompts hold special tokens that a person typed, which are "
            "read as text here: in plain transformers give apply_chat_template sanitize_control_tokens=True."
        )
    if other:
        yield f"{other:,} of {found.compared:,} prompts get other token ids in plain transformers."
