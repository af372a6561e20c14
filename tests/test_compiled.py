"""Compiled layers give what plain ones give, or are not used."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch

from burnish.adapters.adapter import add_adapter
from burnish.adapters.lora import DORA, fused
from burnish.config import AdapterConfig
from burnish.model import compiled as compiled_module
from burnish.model.compiled import compiled, worth_compiling
from burnish.model.forward import flat
from burnish.tokens import flatten
from burnish.train.fit import fit
from conftest import tiny_model
from test_train import optimizer_of, settings, table

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler")
BATCH = flatten([table().document(row) for row in range(3)])


@needs_compiler
@pytest.mark.parametrize("kind", ["none", "dora"])
def test_compiled_layers_train_to_the_same_losses_and_leave_evaluation_plain(kind: Any) -> None:
    losses = []
    for wanted in (False, True):
        model = tiny_model(num_hidden_layers=1)  # each shape of layer takes the compiler a while
        if kind != "none":
            torch.manual_seed(0)
            add_adapter(model, AdapterConfig(kind=kind, rank=4, targets=("down_proj",)), [])
        forward, why = compiled(fused(flat, DORA), model, BATCH) if wanted else (flat, "")
        assert why == ""
        steps = fit(model, table(), settings(), optimizer=optimizer_of(model), forward=forward)
        losses.append([step.loss for step in steps])
        assert all(getattr(module, "_compiled_call_impl", None) is None for module in model.modules())
        assert wanted == (forward is not flat)
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[1] != losses[0]  # rounding differs, so something was compiled


def test_a_compiler_that_fails_costs_a_warning_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(call: object, dynamic: bool) -> object:
        def run(*arguments: object, **named: object) -> None:
            raise torch._dynamo.exc.TorchDynamoException("C++ compile error\nmany lines")

        return run

    monkeypatch.setattr(compiled_module.torch, "compile", failing)
    assert compiled(flat, tiny_model(), BATCH) == (flat, "C++ compile error")


def test_compiled_layers_that_answer_otherwise_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(call: object, dynamic: bool) -> object:
        assert callable(call)
        return lambda hidden, *arguments, **named: call(hidden * 1.5, *arguments, **named)

    monkeypatch.setattr(compiled_module.torch, "compile", other)
    forward, why = compiled(flat, tiny_model(), BATCH)
    assert forward is flat
    assert "compiled logits differ" in why


def test_a_short_run_is_not_worth_it() -> None:
    model = tiny_model()
    assert not worth_compiling(model, 10_000)
    assert worth_compiling(model, 10**12) == (shutil.which("g++") is not None)
