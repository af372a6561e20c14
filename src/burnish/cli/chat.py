"""burnish chat"""

from __future__ import annotations

from typing import Annotated

import typer

HELP = "/system TEXT sets a system prompt, /forget starts anew, /quit leaves (so does Ctrl-D)."


def chat(
    model: Annotated[str, typer.Argument(help="A run folder, a model folder, a Hub id, or pebble.")],
    base: Annotated[bool, typer.Option("--base", help="Talk to the base that a run started from.")] = False,
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest token.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Choose among tokens of this total probability.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Where an answer is cut off.")] = 256,
) -> None:
    """Talk to a model in the terminal."""
    from rich.console import Console

    from burnish.errors import BurnishError
    from burnish.generate import ChatSession, Sampling, open_model

    console = Console(highlight=False)
    opened, template = open_model(model, base=base)
    sampling = Sampling(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
    session = ChatSession(opened, template, sampling, system)
    console.print(f"{model}{' (its base)' if base else ''}. {HELP}", style="dim", markup=False)
    while True:
        try:
            line = console.input("[bold]you[/bold]  ").strip()
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        command, _, rest = line.partition(" ")
        if command in ("/quit", "/exit"):
            return
        if command == "/system":
            session.system = rest or None
            session.forget()
            console.print("A new conversation, with that system prompt.", style="dim")
        elif command == "/forget":
            session.forget()
            console.print("A new conversation.", style="dim")
        elif command.startswith("/"):
            console.print(HELP, style="dim", markup=False)
        elif line:
            console.print("model  ", style="bold", end="")
            try:
                answer = session.say(line, stream=lambda text: console.out(text, end="", highlight=False))
                console.print("" if answer.stopped else " [dim](cut off: no stop token)[/dim]")
            except BurnishError as error:
                console.print(str(error), style="red", markup=False)
            except KeyboardInterrupt:
                console.print(" [dim](stopped)[/dim]")
