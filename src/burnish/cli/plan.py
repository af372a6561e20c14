"""burnish plan"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from burnish.cli.options import Adapter, Data, Epochs, File, MaxLength, Model, Rank, Settings, config_of

if TYPE_CHECKING:
    from burnish.plan.plan import FittedPlan, Plan

USUAL = 2 + 2 + 12
"""Bytes a parameter by which training all weights is usually counted: bf16 weights and gradients, fp32 master
and moments."""


def plan(
    file: File = None,
    data: Data = None,
    model: Model = None,
    adapter: Adapter = None,
    epochs: Epochs = None,
    rank: Rank = None,
    max_length: MaxLength = None,
    set_: Settings = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Bytes of each device to fit into, as 24GB: says what to change."),
    ] = None,
    devices: Annotated[int, typer.Option(metavar="N", min=1, help="Devices that share the model.")] = 1,
    device: Annotated[
        str, typer.Option(metavar="KIND", help="cpu or cuda; unset: what this machine has.")
    ] = "",
    probe: Annotated[bool, typer.Option(help="Time one layer to say how long the run takes.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say what a run takes of memory, disk and time, before a byte of weights is loaded.

    Of a model it needs config.json alone.
    """
    from burnish.cli.screen import TerminalScreen
    from burnish.cli.terminal import out
    from burnish.errors import ConfigError
    from burnish.plan.plan import as_bytes, fit_into, plan_inputs
    from burnish.plan.plan import plan as recipe

    if device not in ("", "cpu", "cuda"):
        raise ConfigError(f"--device {device}: no such device", fix="Write cpu or cuda.")
    limit = as_bytes(memory) if memory else None
    settings = config_of(
        file, data, set_, model=model, adapter=adapter, epochs=epochs, rank=rank, max_length=max_length
    )
    found = plan_inputs(settings)
    made = recipe(settings, found, device=device, devices=devices, available=limit, probe=probe)
    fitted = None
    if limit is not None:
        fitted = fit_into(settings, found, limit, device=device, devices=devices)
    if as_json:
        out(json.dumps(made.as_dict() | ({"fit": _fit(fitted)} if fitted else {})))
    else:
        screen = TerminalScreen()
        for line in [*_lines(made), *(_fit_lines(fitted, limit or 0) if fitted else [])]:
            screen.say(line)
    if fitted and not fitted.fits:
        raise typer.Exit(1)


def size(count: float) -> str:
    """``1,234,000,000`` -> ``1.23 GB``."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:,.2f} {unit}"
    return f"{count / 1e3:,.2f} kB"


def _lines(made: Plan) -> list[str]:
    from burnish.numbers import duration, plural

    memory, resolved, workload = made.memory, made.resolved, made.workload
    each = f" on each of {resolved.ranks} devices" if resolved.ranks > 1 else ""
    lines = [f"{memory.count}.", "", f"Memory{each} ({resolved.device}), {memory.fullest}"]
    parts = {name: bytes_ for name, bytes_ in memory.parts.items() if bytes_}
    width = max(map(len, (*parts, "peak")))
    total = sum(parts.values())
    lines += [f"  {name:<{width}}  {size(b):>10}  {b / total:>5.1%}" for name, b in parts.items()]
    lines += [f"  {'peak':<{width}}  {size(memory.peak):>10}", ""]
    lines += ["The most in each phase"]
    phases = max(map(len, memory.phases))
    lines += [f"  {name:<{phases}}  {size(b):>10}" for name, b in memory.phases.items()]
    again = ", activations computed again" if resolved.recompute else ""
    compiled = ", layers compiled" if memory.compiled else ""
    lines += [
        "",
        f"Micro-batches of up to {resolved.budget:,} tokens, the largest {memory.batch_tokens:,}"
        f"{again}{compiled}.",
    ]
    if made.available:
        room = "fits into" if memory.peak <= made.available else "does not fit into"
        lines += [f"It {room} the {size(made.available)} of a device."]
    lines += _in_words(made)
    lines += ["", f"Disk  {', '.join(f'{name} {size(b)}' for name, b in made.disk.items())}"]
    if workload.steps:
        tokens = plural(workload.tokens, "token")
        lines += [f"Steps  {workload.steps:,}: {tokens}, {workload.trained:,} of them trained"]
    if made.speed and workload.tokens:
        low, high = made.speed.seconds(workload.tokens)
        time = f"{duration(low)} to {duration(high)}" if high >= 1 else "less than a second"
        lines += [f"Time  {time} of training: one layer, timed here with random weights, times all"]
    elif made.speed:
        lines += [f"Speed  about {1 / made.speed.best:,.0f} tokens/s: one layer, timed here, times all"]
    lines += [f"Assumed: {text}." for text in made.assumed]
    return lines


def _in_words(made: Plan) -> list[str]:
    """What the weights and the optimizer take a parameter, beside the usual count."""
    memory = made.memory
    total, parts = memory.count.total, memory.parts
    if made.config.adapter.kind != "none":
        a_weight = parts["base weights"] * made.resolved.ranks / (total - memory.count.trainable)
        return [f"The frozen base takes {a_weight:.2f} bytes a parameter."]
    standing = ("base weights", "masters", "moments", "gradient sums", "gradients and the backward pass")
    ours = sum(parts[name] for name in standing) * made.resolved.ranks / total
    why = (
        "gradients add up in fp32 (4 bytes), and the 2 of a backward pass come as activations go"
        if parts["gradient sums"]
        else "a step is one micro-batch, so that nothing is added up while activations are kept"
    )
    return [
        f"All weights are usually counted as {USUAL} bytes a parameter, {size(USUAL * total)}: 2 of weights, "
        f"2 of gradients, 12 of masters and moments. Here it is {ours:.1f} at the peak: {why}."
    ]


def _fit(fitted: FittedPlan) -> dict[str, Any]:
    return {
        "fits": fitted.fits,
        "devices": fitted.devices,
        "settings": fitted.settings,
        "changes": [
            {"settings": change.settings, "harm": change.harm, "saves_bytes": round(change.saves)}
            for change in fitted.changes
        ],
        "plan": fitted.plan.as_dict(),
    }


def _fit_lines(fitted: FittedPlan, limit: int) -> list[str]:
    peak = fitted.plan.memory.peak
    lines = ["", f"To fit into {size(limit)}"]
    if not fitted.changes and fitted.fits:
        lines += ["  Nothing needs to change."]
    for change in fitted.changes:
        named = ", ".join(f"{key}: {value}" for key, value in change.settings.items())
        lines += [f"  {named:<36} saves {size(change.saves):>10}   harm: {change.harm}"]
    if fitted.changes:
        lines += [f"  then the peak is {size(peak)}"]
    if not fitted.fits:
        lines += [f"  It does not fit: {size(peak - limit)} are missing."]
        if fitted.devices:
            lines += [f"  {fitted.devices} such devices would do."]
        return lines
    settings = fitted.settings
    chosen = [f"--set {key}={str(value).lower()}" for key, value in settings.items()]
    return [*lines, "", "Add to the command:  " + " ".join(chosen), "", "or to the config:", *_yaml(settings)]


def _yaml(settings: dict[str, Any]) -> list[str]:
    import yaml

    tree: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        section, _, name = key.partition(".")
        tree.setdefault(section, {})[name] = value
    return yaml.safe_dump(tree, sort_keys=False).rstrip().splitlines()
