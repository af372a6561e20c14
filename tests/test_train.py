"""Training: the arithmetic by hand, and runs that end in the same bits however they were cut up."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from burnish.adapters.adapter import add_adapter, count_parameters
from burnish.config import AdapterConfig, TrainConfig
from burnish.errors import ModelError, RunError, TrainingError
from burnish.loss import cross_entropy
from burnish.model.forward import flat, padded
from burnish.tokens import Order, TokenTable, flatten
from burnish.train import checkpoint
from burnish.train.fit import Step, fit, mean_loss, total_steps
from burnish.train.optimizer import MasterAdamW
from burnish.train.schedule import learning_rate
from conftest import tiny_model

VOCABULARY = 97
LORA = AdapterConfig(rank=4, dropout=0.1)


def table(rows: int = 12) -> TokenTable:
    """Random documents of 4 to 20 tokens, the latter part of each to learn."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(4, 21, rows)
    return TokenTable.from_documents(
        (draw.integers(1, VOCABULARY, n).astype(np.int32), (np.arange(n) >= n // 3).astype(np.float32))
        for n in lengths
    )


def settings(**changes: object) -> TrainConfig:
    return TrainConfig.model_validate(
        {"learning_rate": 1e-2, "epochs": 2, "batch_size": 4, "micro_batch_tokens": 32} | changes
    )


def optimizer_of(model: nn.Module, weight_decay: float = 0.0) -> MasterAdamW:
    return MasterAdamW(model, weight_decay=weight_decay, betas=(0.9, 0.999))


def trained(model: PreTrainedModel, **changes: object) -> list[Step]:
    chosen = settings(**changes)
    return list(fit(model, table(), chosen, optimizer=optimizer_of(model), forward=flat))


# The schedule


def test_a_linear_schedule_by_hand() -> None:
    rates = [learning_rate(step, 7, 1.0, 2, "linear", 0.0) for step in range(7)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0])


def test_a_cosine_schedule_by_hand() -> None:
    rates = [learning_rate(step, 5, 2.0, 0, "cosine", 0.1) for step in range(5)]
    quarter = math.cos(math.pi / 4)
    heights = [1, 0.5 * (1 + quarter), 0.5, 0.5 * (1 - quarter), 0]
    assert rates == pytest.approx([2 * (0.1 + 0.9 * height) for height in heights])


def test_a_constant_schedule_stays_at_its_peak() -> None:
    assert [learning_rate(s, 4, 3.0, 1, "constant", 0.1) for s in range(4)] == [3.0, 3.0, 3.0, 3.0]


@pytest.mark.parametrize("decay", ["cosine", "linear", "constant"])
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 1), (2, 1), (5, 5), (9, 3)])
def test_a_rate_is_never_zero_at_first_nor_above_its_peak(decay: str, steps: int, warmup: int) -> None:
    rates = [learning_rate(step, steps, 1.0, warmup, decay, 0.1) for step in range(steps)]  # type: ignore[arg-type]
    assert rates[0] > 0
    assert all(0.1 - 1e-12 <= rate <= 1.0 for rate in rates[warmup:])
    assert rates[:warmup] == sorted(rates[:warmup])


def test_fit_follows_the_schedule() -> None:
    steps = trained(tiny_model(), decay="linear", decay_to=0.0, warmup=0.3, learning_rate=1.0, epochs=2)
    assert [step.learning_rate for step in steps] == pytest.approx([0.5, 1.0, 1.0, 2 / 3, 1 / 3, 0.0])


def test_the_number_of_steps() -> None:
    assert total_steps(table(12), settings(epochs=3)) == 9
    assert total_steps(table(13), settings(epochs=1)) == 4
    assert total_steps(table(12), settings(epochs=0.5)) == 2
    assert total_steps(table(12), settings(epochs=3, max_steps=2)) == 2
    assert total_steps(table(12), settings(epochs=1, max_steps=200)) == 3


# The optimizer


class Weights(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 4, dtype=dtype))


def test_small_steps_on_a_bf16_weight_add_up() -> None:
    """300 steps of 1e-5 are 0.003; the neighbour of 1 in bf16 is 0.996. Plain bf16 would stay at 1."""
    mastered, plain = Weights(torch.bfloat16), Weights(torch.bfloat16)
    ours, theirs = optimizer_of(mastered), torch.optim.AdamW(plain.parameters(), lr=1e-5, weight_decay=0.0)
    for _ in range(300):
        mastered.weight.grad = torch.ones_like(mastered.weight)
        ours.accumulate()
        ours.step(1e-5)
        plain.weight.grad = torch.ones_like(plain.weight)
        theirs.step()
    assert (plain.weight == 1).all()
    torch.testing.assert_close(ours.masters["weight"], torch.full((4, 4), 1 - 300e-5), rtol=0, atol=1e-5)
    assert (mastered.weight == torch.tensor(0.99609375, dtype=torch.bfloat16)).all()


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 3))


def test_equals_torch_adamw_in_fp32_with_decay_of_matrices_only() -> None:
    ours_model, theirs_model = small_net(), small_net()
    ours = optimizer_of(ours_model, weight_decay=0.3)
    parameters = list(theirs_model.parameters())
    theirs = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.3},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.999),
    )
    draw = torch.Generator().manual_seed(1)
    for step in range(6):
        rate, inputs = 0.1 / (step + 1), 10 * torch.randn(16, 5, generator=draw)
        ours_model(inputs).square().sum().backward()
        ours.accumulate()
        norm = ours.clip(1.0)
        ours.step(rate)
        theirs_model(inputs).square().sum().backward()
        expected = nn.utils.clip_grad_norm_(theirs_model.parameters(), 1.0)
        theirs.param_groups[0]["lr"] = theirs.param_groups[1]["lr"] = rate
        theirs.step()
        theirs.zero_grad()
        assert norm == pytest.approx(float(expected), rel=1e-4)
        assert norm > 1.0  # so the clipping had something to do
    for mine, other in zip(ours_model.parameters(), theirs_model.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_gradients_of_micro_batches_add_up_in_fp32() -> None:
    """256 + 1 is 256 in bf16."""
    model = Weights(torch.bfloat16)
    optimizer = optimizer_of(model)
    for value in (256.0, 1.0, 1.0):
        model.weight.grad = torch.full_like(model.weight, value)
        optimizer.accumulate()
    assert (optimizer.masters["weight"].grad == 258.0).all()
    assert model.weight.grad is None


def test_a_gradient_that_is_not_finite_takes_no_step() -> None:
    model = Weights(torch.float32)
    optimizer = optimizer_of(model)
    model.weight.grad = torch.full_like(model.weight, float("inf"))
    optimizer.accumulate()
    assert not math.isfinite(optimizer.clip(1.0))
    optimizer.drop_gradients()
    assert optimizer.without_gradient() == ["weight"]


# The loop


class Recording(MasterAdamW):
    """An optimizer that keeps the gradients of its last step."""

    gradients: dict[str, Tensor]

    def step(self, learning_rate: float) -> None:
        self.gradients = {n: m.grad.clone() for n, m in self.masters.items() if m.grad is not None}
        super().step(learning_rate)


def first_step(budget: int) -> tuple[Step, dict[str, Tensor]]:
    model = tiny_model()
    optimizer = Recording(model, weight_decay=0.0, betas=(0.9, 0.999))
    chosen = settings(batch_size=8, micro_batch_tokens=budget, max_grad_norm=1e9)
    step = next(fit(model, table(), chosen, optimizer=optimizer, forward=flat))
    return step, optimizer.gradients


def test_the_micro_batch_budget_does_not_change_the_gradient() -> None:
    step_rows = Order(12, 8, 0).step(0)
    tokens = sum(table().length(row) for row in step_rows)
    (whole, expected), *others = [first_step(budget) for budget in (tokens, tokens // 2 + 1, 1)]
    assert whole.tokens == tokens
    for step, gradients in others:
        assert (step.tokens, step.trained_tokens) == (whole.tokens, whole.trained_tokens)
        assert step.loss == pytest.approx(whole.loss, rel=1e-6)
        assert step.grad_norm == pytest.approx(whole.grad_norm, rel=1e-5)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_the_gradient_is_that_of_the_mean_over_all_trained_tokens() -> None:
    model = tiny_model()
    batch = flatten([table().document(row) for row in Order(12, 8, 0).step(0)])
    loss, count = cross_entropy(padded(model, batch).logits(), batch.target_ids, batch.target_weights)
    (loss / count).backward()
    step, gradients = first_step(40)
    assert step.loss == pytest.approx((loss / count).item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-6, msg=name)


def test_training_lowers_the_loss() -> None:
    model = tiny_model()
    before = mean_loss(model, table(), flat, 64)
    steps = trained(model, epochs=8)
    assert mean_loss(model, table(), flat, 64) < 0.7 * before
    assert [step.step for step in steps] == list(range(1, 25))
    assert steps[2].epoch == 1.0


def test_the_mean_loss_does_not_depend_on_the_budget() -> None:
    losses = [mean_loss(tiny_model(), table(), flat, budget) for budget in (1, 50, 10_000)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_what_is_frozen_gets_no_gradient_and_does_not_change() -> None:
    model = tiny_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    frozen = [name for name in before if "layers.0" in name or "embed" in name]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    trained(model)
    for name, parameter in model.named_parameters():
        assert parameter.grad is None, name
        assert torch.equal(parameter, before[name]) is (name in frozen), name


def test_with_lora_only_the_adapter_and_the_named_embeddings_change() -> None:
    model = tiny_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    add_adapter(model, LORA, [5, 6])
    trained(model)
    wrappers = (".token_adapter", ".base_layer")  # what peft puts around a layer of the base
    after = {
        name.replace(wrappers[0], "").replace(wrappers[1], ""): p for name, p in model.named_parameters()
    }
    for name, old in before.items():
        assert torch.equal(after[name], old), name
    assert count_parameters(model).trainable == sum(
        p.numel() for name, p in after.items() if "lora_" in name or "trainable_tokens" in name
    )
    assert all(p.abs().max() > 0 for name, p in after.items() if "lora_B" in name)


def test_an_adapter_starts_as_its_base() -> None:
    batch = flatten([table().document(row) for row in range(4)])
    plain, adapted = tiny_model(), tiny_model()
    add_adapter(adapted, LORA, [5])
    assert torch.equal(flat(plain, batch).logits(), flat(adapted.eval(), batch).logits())


def test_adapter_targets_that_name_no_layer_are_refused() -> None:
    with pytest.raises(ModelError, match=r"adapter\.targets"):
        add_adapter(tiny_model(), AdapterConfig(targets=("nowhere",)), [])


def test_a_trained_weight_without_gradient_is_named() -> None:
    model = tiny_model()
    model.idle = nn.Parameter(torch.zeros(3))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(TrainingError, match="1 trained tensors got no gradient: idle"):
        trained(model)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())  # no step was taken


def test_after_some_steps_that_are_not_finite_the_run_stops_with_its_weights_unharmed() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.get_output_embeddings().weight[3] = float("nan")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(TrainingError, match="2 steps in a row were skipped, up to step 2: the loss was nan"):
        trained(model, max_skipped=2)
    assert all(torch.equal(p.nan_to_num(), before[n].nan_to_num()) for n, p in model.named_parameters())


def test_the_seed_decides_and_nothing_else() -> None:
    runs = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        model = tiny_model()
        torch.manual_seed(7)
        add_adapter(model, LORA, [])
        torch.manual_seed(noise)  # what the caller did with torch's generator must not matter
        runs.append([step.loss for step in trained(model, seed=seed)])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


# Checkpoints


def stepped() -> MasterAdamW:
    model = small_net()
    optimizer = optimizer_of(model, weight_decay=0.1)
    for _ in range(2):
        model(torch.ones(2, 5)).square().sum().backward()
        optimizer.accumulate()
        optimizer.clip(1.0)
        optimizer.step(0.1)
    return optimizer


def test_a_checkpoint_gives_back_exactly_what_was_saved(tmp_path: Path) -> None:
    optimizer, state = stepped(), {"best": 0.1 + 0.2, "waited": 3}
    path = checkpoint.save(tmp_path / "checkpoints", optimizer.state(), 40, state, keep=2)
    found = checkpoint.find(tmp_path / "checkpoints").checkpoint
    assert found == checkpoint.Checkpoint(path, 40, state)
    model = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 3))
    again = optimizer_of(model)
    again.load(checkpoint.tensors_of(found))
    state, expected = again.state(), optimizer.state()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    assert all(torch.equal(p, optimizer.masters[name]) for name, p in model.named_parameters())


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    optimizer = stepped()
    for step in (9, 10, 11, 100):
        checkpoint.save(tmp_path, optimizer.state(), step, {}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000011", "step-000100"]
    found = checkpoint.find(tmp_path).checkpoint
    assert found is not None
    assert found.step == 100


def test_the_millionth_step_is_newer_than_the_one_before(tmp_path: Path) -> None:
    optimizer = stepped()
    for step in (999_999, 1_000_000):
        checkpoint.save(tmp_path, optimizer.state(), step, {}, keep=1)
    found = checkpoint.find(tmp_path).checkpoint
    assert found is not None
    assert found.step == 1_000_000


def test_a_step_saved_again_replaces_the_first(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, stepped().state(), 3, {"best": 1.0}, keep=2)
    checkpoint.save(tmp_path, stepped().state(), 3, {"best": 2.0}, keep=2)
    found = checkpoint.find(tmp_path).checkpoint
    assert found is not None
    assert found.state == {"best": 2.0}


def test_where_nothing_was_saved_there_is_nothing(tmp_path: Path) -> None:
    assert checkpoint.find(tmp_path / "nowhere") == checkpoint.Found(None)


def test_a_folder_left_half_written_is_passed_over(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, stepped().state(), 3, {}, keep=2)
    staged = tmp_path / ".writing-step-000004"
    staged.mkdir()
    (staged / checkpoint.TENSORS).write_bytes(b"half")
    found = checkpoint.find(tmp_path).checkpoint
    assert found is not None
    assert found.step == 3
    checkpoint.save(tmp_path, stepped().state(), 4, {}, keep=2)
    assert not staged.exists()


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "a flipped bit": lambda folder: flip_a_byte(folder / checkpoint.TENSORS),
    "weights cut off": lambda folder: (folder / checkpoint.TENSORS).write_bytes(b""),
    "weights missing": lambda folder: (folder / checkpoint.TENSORS).unlink(),
    "state cut off": lambda folder: (folder / checkpoint.STATE).write_text('{"step": 4,'),
    "state missing": lambda folder: (folder / checkpoint.STATE).unlink(),
    "no manifest": lambda folder: (folder / checkpoint.MANIFEST).unlink(),
    "an empty manifest": lambda folder: (folder / checkpoint.MANIFEST).write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_found_and_the_checkpoint_before_is_used(tmp_path: Path, damage: object) -> None:
    checkpoint.save(tmp_path, stepped().state(), 3, {}, keep=2)
    newest = checkpoint.save(tmp_path, stepped().state(), 4, {}, keep=2)
    assert callable(damage)
    damage(newest)
    found = checkpoint.find(tmp_path)
    assert found.checkpoint is not None
    assert (found.checkpoint.step, found.damaged) == (3, (newest,))
    damage(found.checkpoint.path)
    with pytest.raises(RunError, match="every checkpoint is damaged: step-000004, step-000003"):
        checkpoint.find(tmp_path)


def test_a_checkpoint_is_safetensors_and_json_only(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, stepped().state(), 3, {"best": None}, keep=2)
    assert sorted(file.name for file in path.iterdir()) == sorted(
        [checkpoint.MANIFEST, checkpoint.STATE, checkpoint.TENSORS]
    )
    assert json.loads((path / checkpoint.STATE).read_text())["state"] == {"best": None}


# Cut and resumed


def model_to_train(kind: str, seed: int) -> PreTrainedModel:
    """The base is always the same; ``seed`` draws the adapter's first weights, which resuming replaces."""
    model = tiny_model()
    if kind == "full":
        return model
    torch.manual_seed(seed)
    add_adapter(model, LORA, [5, 6])
    return model.to(torch.bfloat16) if kind == "lora in bf16" else model


def run_on(model: PreTrainedModel, optimizer: MasterAdamW, start: int) -> Iterator[Step]:
    return fit(model, table(), settings(), optimizer=optimizer, forward=flat, start=start)


@pytest.mark.parametrize("kind", ["full", "lora", "lora in bf16"])
@pytest.mark.parametrize("cut", [1, 3])
def test_a_run_cut_and_resumed_ends_in_the_same_bits(tmp_path: Path, kind: str, cut: int) -> None:
    whole = model_to_train(kind, seed=1)
    optimizer = optimizer_of(whole)
    never_stopped = list(run_on(whole, optimizer, 0))
    assert len(never_stopped) == 6

    model = model_to_train(kind, seed=1)
    began = optimizer_of(model)
    for step in run_on(model, began, 0):
        if step.step == cut:
            checkpoint.save(tmp_path, began.state(), cut, {}, keep=1)
            break
    found = checkpoint.find(tmp_path).checkpoint
    assert found is not None
    assert found.step == cut

    resumed = model_to_train(kind, seed=2)
    goes_on = optimizer_of(resumed)
    goes_on.load(checkpoint.tensors_of(found))
    rest = list(run_on(resumed, goes_on, found.step))
    assert [(s.step, s.loss, s.grad_norm, s.learning_rate) for s in rest] == [
        (s.step, s.loss, s.grad_norm, s.learning_rate) for s in never_stopped[cut:]
    ]
    for (name, one), other in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other), name
    for key, tensor in optimizer.state().items():
        assert torch.equal(tensor, goes_on.state()[key]), key
