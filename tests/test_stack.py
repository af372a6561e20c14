"""Several adapters on one base: each as it is alone, sums as by hand, and a base that nobody touches."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from burnish.adapters.adapter import add_adapter
from burnish.adapters.folder import weights_sha256
from burnish.adapters.load import load_model
from burnish.adapters.merge import adapted_layers
from burnish.adapters.stack import Adapters, open_adapters, stacked
from burnish.cli.main import main
from burnish.config import AdapterConfig
from burnish.errors import ConfigError, ModelError
from burnish.generate import open_adapter_set, parse_weights
from burnish.run.artifact import save_final
from burnish.template import ChatTemplate
from conftest import small_tokenizer, tiny_model
from test_merge import adapter as pebble_adapter
from test_merge import learnt

MARKERS = (1, 2, 3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a head that is its embedding table, as pebble's is."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = small_tokenizer()
    tiny_model("llama", len(tokenizer), tie_word_embeddings=True).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def adapter(base: Path, folder: Path, seed: int, **changes: Any) -> str:
    """An adapter on ``base`` with its tokenizer and card. ``template``: another chat template;
    ``tokens``: those that are trained."""
    template, tokens = changes.pop("template", None), changes.pop("tokens", MARKERS)
    loaded = load_model(str(base), dtype="float32")
    torch.manual_seed(seed)
    adapted = add_adapter(loaded.model, AdapterConfig(**changes), tokens)
    learnt(adapted.model, seed)
    if template:
        loaded.tokenizer.chat_template = template
    card = {"base": {"name": str(base), "revision": None, "sha256": weights_sha256(str(base))}}
    save_final(folder, adapted.model, adapted.save, ChatTemplate(loaded.tokenizer), card)
    return str(folder)


KINDS: Mapping[str, Mapping[str, Any]] = {
    "lora": {"kind": "lora"},
    "rank": {"kind": "lora", "rank": 3, "alpha": 5, "targets": ("q_proj", "down_proj")},
    "dora": {"kind": "dora"},
    "ia3": {"kind": "ia3"},
    "ia3-too": {"kind": "ia3"},
    "bottleneck": {"kind": "bottleneck", "width": 8},
    "attention": {"kind": "bottleneck", "width": 5, "targets": "attention"},
    "prompt": {"kind": "prompt", "virtual_tokens": 5},
    "prefix": {"kind": "prefix", "virtual_tokens": 5},
    "head": {"kind": "lora", "modules_to_save": ("norm",)},
}


@pytest.fixture(scope="module")
def places(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("adapters")
    return {
        name: adapter(base, root / name, seed, **changes)
        for seed, (name, changes) in enumerate(KINDS.items())
    }


@pytest.fixture(scope="module")
def adapters(places: dict[str, str]) -> Adapters:
    return open_adapters(places, dtype="float32")


def logits(model: PreTrainedModel) -> Tensor:
    ids = torch.arange(0, 120)[None]
    with torch.inference_mode():
        return model(input_ids=ids).logits


def test_each_adapter_is_bit_for_bit_what_it_is_alone_in_any_order(
    adapters: Adapters, places: dict[str, str], base: Path
) -> None:
    bare = logits(AutoModelForCausalLM.from_pretrained(base))
    for name in [*places, *reversed(places)]:
        swapped = logits(stacked(adapters, {name: 1.0}))
        assert torch.equal(swapped, logits(load_model(places[name], dtype="float32").model)), name
        assert not torch.equal(swapped[:, -120:], bare), name
        assert torch.equal(logits(stacked(adapters, {})), bare), name


def test_the_base_is_held_once_and_stays_as_it_was(adapters: Adapters, base: Path) -> None:
    for weights in ({"lora": 0.7, "dora": 0.3}, {"ia3": 1.0, "ia3-too": 1.0}, {"bottleneck": 2.0}):
        logits(stacked(adapters, weights))
    untouched = AutoModelForCausalLM.from_pretrained(base).state_dict()
    assert set(untouched) == set(adapters.base.model.state_dict())
    for name, weight in adapters.base.model.state_dict().items():
        assert torch.equal(weight, untouched[name]), name
    own = {id(weight) for weight in adapters.base.model.parameters()}
    for name, adapted in adapters.models.items():
        shared = {id(weight) for weight in adapted.model.parameters()} & own
        assert shared == own, name


def by_hand(adapters: Adapters, weights: Mapping[str, float]) -> PreTrainedModel:
    """The base with each weight changed by the sum of what the adapters' files say."""
    model = AutoModelForCausalLM.from_pretrained(adapters.base.location)
    plain = {name: weight.clone() for name, weight in model.state_dict().items()}
    with torch.no_grad():
        for adapter_name, share in weights.items():
            for path, layer in adapted_layers(adapters.models[adapter_name].model).items():
                weight = model.get_submodule(path).weight
                before = plain[f"{path}.weight"]
                if "embed_tokens" in path or "lm_head" in path:
                    if "embed_tokens" in path:  # the head is the same table
                        rows = torch.tensor(MARKERS)
                        values = layer.token_adapter.trainable_tokens_delta["default"]
                        weight[rows] += share * (values - before[rows])
                elif path.endswith("norm"):
                    weight += share * (layer.modules_to_save["default"].weight - before)
                else:
                    weight += share * change(layer, before)
    return model.eval()


def change(layer: Any, before: Tensor) -> Tensor:
    product = layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    if not layer.use_dora["default"]:
        return product
    sum_ = before + product
    magnitude = layer.lora_magnitude_vector["default"].weight
    return magnitude[:, None] * sum_ / sum_.norm(dim=1, keepdim=True) - before


@pytest.mark.parametrize(
    "weights",
    [
        {"lora": 0.7, "rank": 0.3},
        {"lora": 0.5},
        {"rank": 1.0, "lora": 1.0, "dora": -0.4},
        {"dora": 0.5, "lora": 0.5},
        {"head": 0.6, "lora": 0.4},
        {"head": 0.5, "rank": 0.0},
    ],
    ids=str,
)
def test_a_stack_is_the_base_and_the_weighted_sum_of_the_changes(
    adapters: Adapters, weights: dict[str, float]
) -> None:
    ours, hand = logits(stacked(adapters, weights)), logits(by_hand(adapters, weights))
    torch.testing.assert_close(ours, hand, rtol=1e-5, atol=1e-4)
    assert (hand - logits(adapters.base.model)).abs().max() > 0.5


def test_weights_of_one_and_nothing_are_the_one_alone(adapters: Adapters) -> None:
    for one, other in (("lora", "dora"), ("bottleneck", "attention"), ("ia3", "ia3-too"), ("prompt", "lora")):
        assert torch.equal(
            logits(stacked(adapters, {one: 1.0, other: 0.0})), logits(adapters.models[one].model)
        )


def test_scales_are_multiplied(adapters: Adapters) -> None:
    """The first half of two equal adapters is their square root: the product of both is each one squared."""
    both = stacked(adapters, {"ia3": 1.0, "ia3-too": 1.0})
    alone = [adapted_layers(adapters.models[name].model) for name in ("ia3", "ia3-too")]
    merged = AutoModelForCausalLM.from_pretrained(adapters.base.location)
    table = merged.get_input_embeddings().weight
    with torch.no_grad():
        before = table.clone()
        for found in alone:
            for path, layer in found.items():
                if "ia3_l" in dict(layer.named_children()):
                    merged.get_submodule(path).weight.mul_(layer.ia3_l["default"])
                elif "embed_tokens" in path:
                    rows = torch.tensor(MARKERS)
                    table[rows] += layer.token_adapter.trainable_tokens_delta["default"] - before[rows]
    torch.testing.assert_close(logits(both), logits(merged.eval()), rtol=1e-5, atol=1e-4)


def test_networks_add_up_behind_each_half(adapters: Adapters) -> None:
    weights = {"bottleneck": 0.7, "attention": -0.5}
    both = stacked(adapters, weights)
    hidden = torch.randn(4, 32)
    for path, of in (("self_attn", weights), ("mlp", {"bottleneck": 0.7})):
        network = both.model.layers[1].get_submodule(path).bottleneck
        expected = hidden.clone()
        for name, weight in of.items():
            other = adapters.models[name].model.model.layers[1].get_submodule(path).bottleneck
            expected += weight * (other(hidden) - hidden)
        torch.testing.assert_close(network(hidden), expected, rtol=1e-5, atol=1e-5)
    assert not torch.equal(logits(both), logits(adapters.models["bottleneck"].model))


@pytest.mark.parametrize(
    ("weights", "what"),
    [
        ({"lora": 0.5, "ia3": 0.5}, r"different methods cannot be stacked: lora \(lora\), ia3 \(ia3\)"),
        ({"prompt": 0.5}, r"cannot be stacked or weighted: prompt \(prompt\)"),
        ({"prefix": 1.0, "prompt": 1.0}, r"prefix \(prefix\), prompt \(prompt\)"),
        ({"ia3": 0.5, "ia3-too": 1.0}, "IA3 takes no weights"),
    ],
)
def test_what_does_not_add_up_is_refused_by_name(
    adapters: Adapters, weights: dict[str, float], what: str
) -> None:
    with pytest.raises(ModelError, match=what):
        stacked(adapters, weights)
    with pytest.raises(ConfigError, match="there is no adapter lorax"):
        stacked(adapters, {"lorax": 1.0})


def test_tokens_that_the_base_has_not_count_as_nothing_there(base: Path, tmp_path: Path) -> None:
    """Two adapters that each gave their tokenizer the same new tokens."""
    folders = {}
    for seed, name in enumerate(("a", "b")):
        loaded = load_model(str(base), dtype="float32")
        loaded.tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
        loaded.model.resize_token_embeddings(len(loaded.tokenizer), mean_resizing=False)
        new = range(len(loaded.tokenizer) - 2, len(loaded.tokenizer))
        adapted = add_adapter(loaded.model, AdapterConfig(kind="lora"), list(new))
        learnt(adapted.model, seed)
        card = {"base": {"name": str(base), "revision": None, "sha256": weights_sha256(str(base))}}
        template = ChatTemplate(loaded.tokenizer)
        save_final(tmp_path / name, adapted.model, adapted.save, template, card)
        folders[name] = str(tmp_path / name)
    opened = open_adapters(folders, dtype="float32")
    table = stacked(opened, {"a": 0.7, "b": 0.3}).get_input_embeddings().weight
    a, b = (opened.models[name].model.get_input_embeddings().weight for name in ("a", "b"))
    torch.testing.assert_close(table[-2:], 0.7 * a[-2:] + 0.3 * b[-2:])
    assert torch.equal(table[:-2], opened.base.model.get_input_embeddings().weight)
    assert len(opened.base.model.get_input_embeddings().weight) == len(table) - 2


def test_adapters_of_another_base_are_refused(base: Path, places: dict[str, str], tmp_path: Path) -> None:
    other = tmp_path / "other"
    tiny_model("llama", len(small_tokenizer()), seed=1, tie_word_embeddings=True).save_pretrained(other)
    small_tokenizer().save_pretrained(other)
    with pytest.raises(ModelError, match=r"the adapter lora was trained on .*, not on .*other"):
        open_adapters({"lora": places["lora"]}, str(other))
    foreign = adapter(other, tmp_path / "foreign", 0, kind="lora")
    with pytest.raises(ModelError, match=r"the adapter b was trained on .*other"):
        open_adapters({"a": places["lora"], "b": foreign})
    with pytest.raises(ModelError, match="other is not an adapter"):
        open_adapters({"a": places["lora"], "b": str(other)})
    tiny_model("llama", len(small_tokenizer()), seed=2, tie_word_embeddings=True).save_pretrained(other)
    with pytest.raises(ModelError, match="the adapter b was trained on"):
        open_adapters({"b": foreign})


def test_a_base_that_was_moved_is_known_by_its_hash(
    places: dict[str, str], base: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(moved)
    small_tokenizer().save_pretrained(moved)
    opened = open_adapters({"lora": places["lora"]}, str(moved), dtype="float32")
    assert torch.equal(
        logits(opened.models["lora"].model), logits(load_model(places["lora"], dtype="float32").model)
    )


# With templates

PLAIN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>{% endfor %}"
    "{{ 'assistant:' if add_generation_prompt }}"
)


def test_each_adapter_answers_through_its_own_template(
    base: Path, places: dict[str, str], tmp_path: Path
) -> None:
    plain = adapter(base, tmp_path / "plain", 9, kind="lora", template=PLAIN)
    adapter_set = open_adapter_set([f"a={places['lora']}", plain, f"b={places['dora']}"])
    assert list(adapter_set.templates) == ["a", "plain", "b"]
    assert adapter_set.model_with({"plain": 1.0})[1].source == PLAIN
    own = small_tokenizer().chat_template
    assert (
        adapter_set.model_with({"a": 1.0})[1].source
        == adapter_set.model_with({"a": 0.7, "b": 0.3})[1].source
        == own
    )
    assert (
        adapter_set.model_with({})[1].source == own
        and adapter_set.model_with({})[0].get_input_embeddings() is not None
    )
    with pytest.raises(ModelError, match="a and plain were trained with different chat templates"):
        adapter_set.model_with({"a": 0.5, "plain": 0.5})


def test_names_of_adapters() -> None:
    known = ["a", "lr=1e-4"]
    assert parse_weights(["a=0.7", "lr=1e-4=0.3"], known) == {"a": 0.7, "lr=1e-4": 0.3}
    assert parse_weights(["lr=1e-4"], known) == {"lr=1e-4": 1.0}
    assert parse_weights(["none"], known) == {}
    for words, what in ((["a=much"], "is no weight"), (["none", "a"], "without any adapter")):
        with pytest.raises(ConfigError, match=what):
            parse_weights(words, known)


@pytest.mark.parametrize("given", [["x/a", "y/a"], ["none=x/a"], ["a b=x/a"], ["=x/a"]], ids=str)
def test_a_name_is_one_word_and_its_own(given: list[str]) -> None:
    with pytest.raises(ConfigError, match="cannot be its name"):
        open_adapter_set(given)


def test_a_chat_changes_adapters_and_goes_on(
    places: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = iter(
        [
            "the cat",
            "/adapter",
            "/adapter dora",
            "the dog",
            "/adapter lora=0.7 dora=0.3",
            "a",
            "/adapter none",
            "b",
            "/adapter ia3 lora",
            "/adapter x",
            "/quit",
        ]
    )
    monkeypatch.setattr("builtins.input", lambda *_: next(lines))
    loads: list[str] = []
    whole = AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(
        AutoModelForCausalLM, "from_pretrained", lambda *a, **n: loads.append(a[0]) or whole(*a, **n)
    )
    asked: list[list[Any]] = []
    prompt = ChatTemplate.prompt
    monkeypatch.setattr(ChatTemplate, "prompt", lambda self, c: asked.append(c.messages) or prompt(self, c))
    named = [part for name in ("lora", "dora", "ia3") for part in ("--adapter", places[name])]
    monkeypatch.setattr("sys.argv", ["burnish", "chat", *named, "--max-new-tokens", "4"])
    with pytest.raises(SystemExit) as leaving:
        main()
    said = capsys.readouterr().out
    assert not leaving.value.code, said
    assert len(loads) == 1
    assert [len(messages) for messages in asked] == [1, 3, 5, 7]
    flat = " ".join(said.split())
    for line in (
        "lora of lora, dora, ia3.",
        "dora (dora) ia3 (ia3) none (the base)",
        "Now dora. The conversation goes on.",
        "Now 0.7 lora + 0.3 dora.",
        "Now the base.",
        "different methods cannot be stacked: ia3 (ia3), lora (lora)",
        "there is no adapter x",
    ):
        assert line in flat, (line, said)


# docs/adapters.md


def test_the_commands_and_the_python_of_the_page_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The merging and the several adapters of docs/adapters.md, on two runs of pebble."""
    page = (Path(__file__).parents[1] / "docs" / "adapters.md").read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Path("runs").mkdir(exist_ok=True)
        pebble_adapter(Path("runs") / name, dtype="bfloat16", kind="lora")
    wanted = [
        shlex.split(line)
        for block in re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL)
        for line in block.splitlines()
        if line.startswith(("burnish merge", "burnish chat"))
    ]
    assert {command[1] for command in wanted} == {"merge", "chat"}
    for command in wanted:
        lines = iter(["/adapter none", "Hello.", "/quit"])
        monkeypatch.setattr("builtins.input", lambda *_, left=lines: next(left))
        monkeypatch.setattr(
            "sys.argv", [*command, "--max-new-tokens", "4"][: None if "chat" in command else -2]
        )
        with pytest.raises(SystemExit) as leaving:
            main()
        assert not leaving.value.code, command
    (program,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
        if "open_adapter_set" in block
    ]
    capsys.readouterr()
    exec(compile(program, "adapters.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "{'a': 0.7, 'b': 0.3} " in printed and "{} " in printed
