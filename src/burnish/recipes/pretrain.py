"""Pretrain pebble: prose and pages of facts in, a small base model out.

The loop is the one that fine-tunes; only here every token is trained.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from burnish.config import PretrainConfig
from burnish.errors import RunError
from burnish.files import sha256
from burnish.model.budget import FAST
from burnish.model.forward import choose_forward
from burnish.pebble.facts import relations
from burnish.pebble.pages import fact_pages, prose
from burnish.pebble.tokenizer import END_OF_TEXT, train_tokenizer
from burnish.run.folder import RunFolder
from burnish.run.interrupt import Stopped, interruptible, resumable
from burnish.run.screen import Screen, SilentScreen
from burnish.tokens import Order, TokenTable, micro_batches
from burnish.train import checkpoint
from burnish.train.fit import fit, mean_loss, total_steps
from burnish.train.optimizer import optimizer_of

TOKENIZER_PAGES = 6000
"""Fact pages that the tokenizer learns from, beside all the prose: about a tenth of what it reads."""


def pretrain(config: PretrainConfig, *, screen: Screen | None = None) -> dict[str, float]:
    """Train from the seed, saving model and tokenizer into ``config.out``; returns what was measured.

    A run that was stopped goes on from its last checkpoint when called again. Raises ``RunError`` where
    another process works in the folder.
    """
    with RunFolder(Path(config.out)).locked():
        return _pretrain(config, screen or SilentScreen())


def _pretrain(config: PretrainConfig, screen: Screen) -> dict[str, float]:
    out = Path(config.out)
    texts = prose(Path(config.corpus))
    facts = relations()

    samples = fact_pages(facts, random.Random(config.seed))
    tokenizer = train_tokenizer(
        [*texts, *(next(samples) for _ in range(TOKENIZER_PAGES))], config.vocabulary, config.max_length
    )
    table = TokenTable.from_documents(_training_documents(config, tokenizer, texts))

    torch.manual_seed(config.seed)
    model = LlamaForCausalLM(_shape(config, tokenizer)).to(torch.bfloat16)
    settings = config.train
    optimizer = optimizer_of(model, settings)
    first = Order(len(table), settings.batch_size, settings.seed).step(0)
    budget = settings.micro_batch_tokens or FAST[model.device.type]
    forward, _ = choose_forward(model, micro_batches(table, first, budget)[0])

    found = checkpoint.find(out / "checkpoints").checkpoint
    began = {
        "config": config.model_dump(mode="json", exclude={"out", "corpus", "held_out"}),
        "corpus": sha256(Path(config.corpus)),
    }
    if found:
        if found.state != began:
            raise RunError(
                f"{out} was begun with another config or corpus",
                why="The result would be that of neither.",
                fix="Choose another --out, or remove the folder.",
            )
        optimizer.load(checkpoint.tensors_of(found))
    steps, every = total_steps(table, settings), settings.checkpoint_every or 100
    start = found.step if found else 0
    checkpoints = out / "checkpoints"
    with resumable(checkpoints, checkpoints, "the same command"), interruptible() as stop_asked:
        training = fit(
            model, table, settings, optimizer=optimizer, forward=forward, start=start, budget=budget
        )
        for step in training:
            detail = f"loss {step.loss:.3f}  {step.tokens / step.seconds:,.0f} tokens/s"
            screen.progress("Pretraining", step.step, steps, detail)
            stopping = stop_asked() if step.step < steps else 0
            if step.step % every == 0 or step.step == steps or stopping:
                checkpoint.save(checkpoints, optimizer.state(), step.step, began, settings.keep_checkpoints)
            if stopping:
                raise Stopped(stopping)

    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    measured: dict[str, float] = {"tokens": float(table.tokens), "steps": float(steps)}
    if config.held_out:
        tales = prose(Path(config.held_out))
        held_out = TokenTable.from_documents(_chunks(tokenizer, tales, config.max_length))
        loss = mean_loss(model, held_out, forward, budget)
        letters = sum(len(tale.encode()) for tale in tales)
        measured["held_out_loss"] = loss
        measured["held_out_bits_per_byte"] = loss * held_out.trained_tokens / letters / math.log(2)
    return measured


def _shape(config: PretrainConfig, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        intermediate_size=config.mlp_width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=config.max_length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="bfloat16",
    )


Document = tuple[np.ndarray, np.ndarray]


def _training_documents(
    config: PretrainConfig, tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> Iterator[Document]:
    """The documents to train on: prose, repeated as needed, and fact pages, each up to its share of the
    tokens."""
    rng = random.Random(config.seed + 1)
    wanted = config.tokens * (1 - config.fact_share)
    chunks = list(_chunks(tokenizer, texts, config.max_length))
    while wanted > 0:
        for document in rng.sample(chunks, len(chunks)):
            if wanted <= 0:
                break
            wanted -= len(document[0])
            yield document
    wanted = config.tokens * config.fact_share
    pages = fact_pages(relations(), rng)
    while wanted > 0:
        (document,) = _chunks(tokenizer, [next(pages)], config.max_length, first_only=True)
        wanted -= len(document[0])
        yield document


def _chunks(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], length: int, *, first_only: bool = False
) -> Iterator[Document]:
    """Documents of at most ``length`` tokens, every token trained; ``first_only``: only the first chunk."""
    for text in texts:
        ids = np.array(tokenizer(text + END_OF_TEXT, verbose=False)["input_ids"], np.int32)
        for start in range(0, length if first_only else len(ids), length):
            part = ids[start : start + length]
            yield part, np.ones(len(part), np.float32)
