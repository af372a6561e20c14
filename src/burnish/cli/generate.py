"""burnish generate"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def generate(
    model: Annotated[str, typer.Argument(help="A run folder, a model folder, a Hub id, or pebble.")],
    prompt: Annotated[
        str | None, typer.Argument(help="A prompt; without one, prompts come from --data.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A .jsonl of messages rows: each is answered after its last user turn."),
    ] = None,
    base: Annotated[bool, typer.Option("--base", help="Ask the base that a run started from.")] = False,
    base_model: Annotated[
        str | None, typer.Option(help="The base of an adapter, where its folder has moved.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system prompt for PROMPT.")] = None,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest token.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Choose among tokens of this total probability.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    max_new_tokens: Annotated[int, typer.Option(help="Where an answer is cut off.")] = 256,
) -> None:
    """Answer a prompt, or a file of them."""
    from burnish.cli.terminal import out
    from burnish.data import Conversation, Message, read
    from burnish.errors import ConfigError
    from burnish.generate import Sampling, answer_all, open_model

    if (prompt is None) == (data is None):
        raise ConfigError(
            "give either a prompt or --data", fix='Type: burnish generate runs/quickstart "Hello"'
        )
    if prompt is not None:
        first = (Message("system", system),) if system else ()
        asked = [Conversation((*first, Message("user", prompt)))]
    else:
        assert data is not None
        asked = [conversation.asked for conversation in read(data)]
    opened, template = open_model(model, base_only=base, base_model=base_model)
    sampling = Sampling(temperature, top_p, seed, max_new_tokens)
    answers = answer_all(opened, template, asked, sampling)
    for conversation, answer in zip(asked, answers, strict=True):
        if prompt is not None:
            out(answer.text)
        else:
            row = {
                "messages": conversation.as_dicts(),
                "answer": answer.text,
                "stopped": answer.stopped,
            }
            out(json.dumps(row, ensure_ascii=False))
