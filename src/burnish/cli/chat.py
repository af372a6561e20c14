"""burnish chat"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from burnish.cli.terminal import Terminal
    from burnish.generate import AdapterSet, ChatSession

HELP = (
    "/system TEXT sets a system prompt, /forget begins anew, /help shows this, /quit leaves (so does Ctrl-D)."
)
ADAPTER_HELP = (
    "/adapter lists the adapters, /adapter NAME takes one, /adapter A=0.7 B=0.3 adds several up, "
    "/adapter none takes the base."
)


def chat(
    model: Annotated[
        str | None,
        typer.Argument(help="A run folder, a model folder, a Hub id, or pebble; not needed with --adapter."),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN", help="A run to have at hand on the same base, RUN or NAME=RUN; repeatable."
        ),
    ] = None,
    base: Annotated[bool, typer.Option("--base", help="Talk to the base that a run started from.")] = False,
    base_model: Annotated[
        str | None, typer.Option(help="The base of an adapter, where its folder has moved.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest token.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Choose among tokens of this total probability.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Where an answer is cut off.")] = 256,
) -> None:
    """Talk to a model in the terminal, or to several adapters on one base."""
    from burnish.cli.terminal import Terminal
    from burnish.errors import ConfigError
    from burnish.generate import ChatSession, Sampling, open_adapter_set, open_model

    terminal = Terminal()
    adapter_set = None
    if adapter and base_model:
        raise ConfigError(
            "--adapter puts several on one base", fix="Name it first: burnish chat BASE --adapter RUN"
        )
    if adapter:
        adapter_set = open_adapter_set(adapter, model)
        weights = {} if base else {next(iter(adapter_set.templates)): 1.0}
        opened, template = adapter_set.model_with(weights)
        terminal.line(f"{_in_words(weights)} of {', '.join(adapter_set.templates)}. {ADAPTER_HELP}", "dim")
    elif model is None:
        raise ConfigError("chat with what?", fix="Type: burnish chat runs/quickstart")
    else:
        opened, template = open_model(model, base_only=base, base_model=base_model)
        terminal.line(f"{model}{' (its base)' if base else ''}.", "dim")
    terminal.line(HELP, "dim")
    sampling = Sampling(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
    session = ChatSession(opened, template, sampling, system)
    while True:
        try:
            line = terminal.ask("you").strip()
        except (EOFError, KeyboardInterrupt):
            terminal.line()
            return
        if line in ("/quit", "/exit"):
            return
        if line.startswith("/"):
            _run_command(line, session, adapter_set, terminal)
        elif line:
            _answer(line, session, terminal)


def _run_command(line: str, session: ChatSession, adapter_set: AdapterSet | None, terminal: Terminal) -> None:
    command, _, rest = line.partition(" ")
    if command == "/help":
        reply = HELP if adapter_set is None else f"{HELP} {ADAPTER_HELP}"
    elif command == "/system":
        session.system = rest.strip() or None
        session.forget()
        reply = "A new conversation, with that system prompt."
    elif command == "/forget":
        session.forget()
        reply = "A new conversation."
    elif command == "/adapter":
        reply = _switch_adapters(rest.split(), session, adapter_set)
    else:
        reply = f"There is no command {command}; /help shows those that there are."
    terminal.line(reply, "dim")


def _switch_adapters(words: list[str], session: ChatSession, adapter_set: AdapterSet | None) -> str:
    """Let other adapters answer from here on, and say which; without words, which there are."""
    from burnish.errors import BurnishError
    from burnish.generate import parse_weights

    if adapter_set is None:
        return (
            "There is one model here. Begin with --adapter A=RUN --adapter B=RUN to change between adapters."
        )
    if not words:
        return "\n".join(
            f"{name}  ({kind})" for name, kind in [*adapter_set.adapters.kinds.items(), ("none", "the base")]
        )
    try:
        weights = parse_weights(words, list(adapter_set.templates))
        session.model, session.template = adapter_set.model_with(weights)
    except BurnishError as error:
        return str(error)
    return f"Now {_in_words(weights)}. The conversation goes on."


def _in_words(weights: dict[str, float]) -> str:
    shown = [name if weight == 1.0 else f"{weight:g} {name}" for name, weight in weights.items()]
    return " + ".join(shown) or "the base"


def _answer(line: str, session: ChatSession, terminal: Terminal) -> None:
    from burnish.errors import BurnishError

    terminal.part("model  ", "bold")
    try:
        answer = session.say(line, stream=terminal.part)
        terminal.line("" if answer.stopped else " (cut off: no stop token)", "dim")
    except BurnishError as error:
        terminal.line(str(error), "red")
    except KeyboardInterrupt:
        terminal.line(" (stopped)", "dim")
