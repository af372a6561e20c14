"""Models as they are opened: every weight is one of the files', nothing that comes along is run, and whatever
is torn or forged is an error that names its file."""

from __future__ import annotations

import ast
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

import burnish
from burnish.adapters.load import load_model, load_tokenizer, shape_of
from burnish.cli.main import main
from burnish.errors import BurnishError, ModelError
from burnish.generate import Sampling, generate
from burnish.model import load
from conftest import byte_tokenizer, tiny_model

WEIGHTS = "model.safetensors"
FAMILIES = ("llama", "gpt2", "qwen2", "mistral", "gemma2", "gemma3_text", "phi3", "gpt_neox", "opt", "falcon")
MIXTURES = ("mixtral", "qwen3_moe")


def checkpoint(folder: Path, family: str = "llama", **changes: Any) -> Path:
    """A tiny model's folder with a tokenizer that is made on the spot."""
    tokenizer = byte_tokenizer()
    if family in MIXTURES:
        changes |= {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
        changes |= {"moe_intermediate_size": 16}
    tiny_model(family, len(tokenizer), **changes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def rewritten(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    tensors = load_file(folder / WEIGHTS)
    save_file(change(tensors), folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def with_json(file: Path, **changes: Any) -> Path:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return file.parent


# Weights


@pytest.mark.parametrize("family", [*FAMILIES, *MIXTURES])
def test_a_whole_folder_opens_and_one_tensor_less_is_named(family: str, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / family, family)
    load_model(str(folder))
    names = sorted(load_file(folder / WEIGHTS))
    gone = names[len(names) // 2]
    rewritten(folder, lambda tensors: {name: t for name, t in tensors.items() if name != gone})
    with pytest.raises(ModelError, match="lacks weights") as caught:
        load_model(str(folder))
    if family not in MIXTURES:  # whose experts the library fuses, under another name
        assert gone in caught.value.what


@pytest.mark.parametrize("tied", [False, True])
def test_a_tied_head_is_no_missing_weight_and_an_untied_one_is(tied: bool, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "base", tie_word_embeddings=tied)
    assert ("lm_head.weight" in load_file(folder / WEIGHTS)) != tied
    load_model(str(folder))
    if not tied:
        rewritten(folder, lambda tensors: {n: t for n, t in tensors.items() if n != "lm_head.weight"})
        with pytest.raises(ModelError, match=r"lacks weights .*lm_head\.weight"):
            load_model(str(folder))


def test_buffers_that_older_folders_hold_are_no_fault(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "base")
    rewritten(
        folder, lambda tensors: {**tensors, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    )
    load_model(str(folder))


def test_weights_under_other_names_are_not_made_up(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "base")
    rewritten(folder, lambda tensors: {f"other.{name}": t for name, t in tensors.items()})
    with pytest.raises(ModelError, match="lacks weights of a LlamaForCausalLM"):
        load_model(str(folder))


@pytest.mark.parametrize(("told", "says"), [(4, "also holds"), (8, "lacks")])
def test_more_or_fewer_layers_than_the_files_hold_are_an_error(told: int, says: str, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "base", num_hidden_layers=6)
    with_json(folder / "config.json", num_hidden_layers=told, layer_types=None)
    with pytest.raises(ModelError, match=f"{says} weights"):
        load_model(str(folder))


def test_the_weights_of_another_architecture_are_an_error(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "base")
    other = checkpoint(tmp_path / "other", "gpt2")
    shutil.copy(other / WEIGHTS, folder / WEIGHTS)
    with pytest.raises(ModelError, match=r"base (lacks|also holds|holds in another shape)"):
        load_model(str(folder))


@pytest.mark.parametrize(
    "told", [{"num_hidden_layers": 10**7}, {"vocab_size": 10**10}, {"intermediate_size": 10**10}]
)
def test_a_config_that_asks_for_the_whole_memory_is_refused_before_it_is_taken(
    told: dict[str, int], tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path / "base")
    with_json(folder / "config.json", **told)
    with pytest.raises(ModelError, match=f"says {next(iter(told))} 10,000,000"):
        load_model(str(folder))


# Code that comes along


def library_calls() -> list[tuple[Path, ast.Call]]:
    """Calls in burnish that could load code: of from_pretrained and from_config."""
    found = []
    for file in sorted(Path(burnish.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and called.attr in ("from_pretrained", "from_config"):
                assert isinstance(node, ast.Call)
                found.append((file, node))
    return found


def test_no_call_of_a_library_may_run_code_that_comes_with_a_model() -> None:
    """Two read JSON alone and know no such switch."""
    calls = library_calls()
    assert len(calls) >= 6
    for file, call in calls:
        assert isinstance(call.func, ast.Attribute)
        owner = ast.unparse(call.func.value)
        if owner in ("PeftConfig", "GenerationConfig"):
            continue
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("trust_remote_code") == "False", f"{file}:{call.lineno}: {owner}"


CODE = "import pathlib; pathlib.Path({mark!r}).write_text('ran')\n"


@pytest.mark.parametrize("model_type", ["invented", "llama"])
@pytest.mark.parametrize(
    "opened", [load_model, load_tokenizer, shape_of], ids=["load_model", "load_tokenizer", "shape_of"]
)
def test_code_in_a_folder_is_neither_run_nor_asked_about(
    model_type: str, opened: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(tmp_path / "base")
    mark = tmp_path / "mark"
    (folder / "modeling.py").write_text(CODE.format(mark=str(mark)))
    names = ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer")
    with_json(folder / "config.json", model_type=model_type, auto_map={n: f"modeling.{n}" for n in names})
    with_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["modeling.T", None]})
    monkeypatch.setattr("builtins.input", lambda *asked: pytest.fail(f"it asks: {asked}"))
    if model_type == "llama":
        opened(str(folder))  # which transformers knows by itself
    else:
        with pytest.raises(ModelError, match="no config that loads"):
            opened(str(folder))
    assert not mark.exists()


def test_kernels_that_a_config_names_are_not_fetched(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "base")
    kernel = "kernels-community/flash-attn3"
    with_json(folder / "config.json", attn_implementation=kernel, experts_implementation=kernel)
    assert load_model(str(folder)).model.config._attn_implementation in ("sdpa", "eager")


# Names


@pytest.mark.parametrize("name", ["runs/quikstart", "rnus/quickstart", "./a/b", "runs/other"])
def test_a_path_that_is_none_is_not_asked_of_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "quickstart").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(load, "_announce", lambda name: pytest.fail(f"{name} goes to the network"))
    with pytest.raises(ModelError, match="no such model folder") as caught:
        load_model(name)
    assert ("runs/quickstart" in caught.value.fix) == ("quick" in name or "quik" in name)


def test_a_hub_id_is_announced_before_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(load.constants, "HF_HUB_OFFLINE", False)
    assert load.locate_folder("owner/name") == "owner/name"
    assert load._at("owner/name", None) == {"revision": None, "local_files_only": False}
    load._at("owner/name", None)
    assert caplog.messages == ["owner/name is no folder here: asking the Hugging Face Hub for it."]


# Torn and forged files


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def pointer(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 9\n")


def another(file: Path) -> None:
    file.write_bytes(b"\x80\x04\x95" + b"\0" * 200)


@pytest.mark.parametrize("harm", [cut, pointer, another])
@pytest.mark.parametrize(
    "name", ["config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
)
def test_a_torn_file_is_an_error_that_names_its_folder(
    name: str, harm: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path / "base")
    assert (folder / name).exists()
    harm(folder / name)
    with pytest.raises(BurnishError) as caught:
        load_model(str(folder))
    assert str(folder) in caught.value.what


# Generation configs


def test_only_what_we_say_decides_how_answers_are_chosen(tmp_path: Path) -> None:
    """All that a base's generation config can do to an answer, at once."""
    folder = checkpoint(tmp_path / "base")
    prompts = [[5, 6, 7], [8, 9]]
    plain = load_model(str(folder)).model
    expected = generate(plain, byte_tokenizer(), prompts, [0], Sampling(max_new_tokens=12))
    favourite = expected[0].ids[0]
    with_json(
        folder / "generation_config.json",
        repetition_penalty=5.0,
        no_repeat_ngram_size=1,
        suppress_tokens=[favourite],
        bad_words_ids=[[favourite]],
        min_new_tokens=11,
        num_return_sequences=2,
        num_beams=2,
        do_sample=True,
        temperature=2.0,
        max_time=1e-9,
        stop_strings=["a"],
        forced_eos_token_id=3,
    )
    model = load_model(str(folder)).model
    assert model.generation_config.repetition_penalty == 5.0
    assert generate(model, byte_tokenizer(), prompts, [0], Sampling(max_new_tokens=12)) == expected
    assert model.generation_config.repetition_penalty == 5.0, "it is the user's model"
    assert transformers.GenerationConfig.from_pretrained(folder).num_beams == 2


# Bases of adapters


def adapter(folder: Path) -> tuple[Path, Path]:
    """An adapter of peft's that changes something, with its tokenizer, and the folder of its base."""
    base = checkpoint(folder / "base")
    model = get_peft_model(tiny_model("llama", len(byte_tokenizer())), LoraConfig(target_modules=["q_proj"]))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(weight)
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(folder / "adapter")
    byte_tokenizer().save_pretrained(folder / "adapter")
    return folder / "adapter", base


def test_a_base_that_has_moved_is_named_with_its_adapter_and_can_be_given(tmp_path: Path) -> None:
    folder, base = adapter(tmp_path)
    before = load_model(str(folder), dtype="float32").model.state_dict()
    moved = base.rename(tmp_path / "elsewhere")
    with pytest.raises(
        ModelError, match=r"adapter needs its base, and .*base: no such model folder"
    ) as caught:
        load_model(str(folder))
    assert "--base-model" in caught.value.fix
    after = load_model(str(folder), dtype="float32", base_model=str(moved)).model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_adapter_that_is_its_own_base_is_refused(tmp_path: Path) -> None:
    folder, _ = adapter(tmp_path)
    with_json(folder / "adapter_config.json", base_model_name_or_path=str(folder))
    with pytest.raises(ModelError, match="which is an adapter itself"):
        load_model(str(folder))


@pytest.mark.parametrize("harm", [cut, pointer, another])
@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_torn_file_of_an_adapter_is_an_error(
    name: str, harm: Callable[[Path], None], tmp_path: Path
) -> None:
    folder, _ = adapter(tmp_path)
    harm(folder / name)
    with pytest.raises(BurnishError) as caught:
        load_model(str(folder))
    assert str(folder) in caught.value.what


@pytest.mark.parametrize(
    "changes", [{"peft_type": None}, {"peft_type": "NONE"}, {"base_model_name_or_path": 7}]
)
def test_an_adapters_config_that_says_nonsense_is_an_error(changes: dict[str, Any], tmp_path: Path) -> None:
    folder, _ = adapter(tmp_path)
    with_json(folder / "adapter_config.json", **changes)
    with pytest.raises(BurnishError):
        load_model(str(folder))


def test_an_expression_that_never_ends_is_ended(tmp_path: Path) -> None:
    folder, _ = adapter(tmp_path)
    with_json(folder / "adapter_config.json", target_modules=r"(([a-z_.0-9]+)+)+!|.*q_proj")
    with pytest.raises(ModelError, match="does not end"):
        load_model(str(folder))


@pytest.mark.parametrize("written", ["[]", "{", '{"base": {"name": "a"}}', '{"base": 7}'])
def test_what_burnish_wrote_beside_a_model_may_be_torn_too(written: str, tmp_path: Path) -> None:
    folder, _ = adapter(tmp_path)
    (folder / "burnish.json").write_text(written)
    with pytest.raises(BurnishError, match=r"burnish\.json"):
        load_model(str(folder))


@pytest.mark.parametrize(
    "words",
    [
        ["generate", "adapter", "hi", "--base-model", "elsewhere", "--max-new-tokens", "2"],
        ["chat", "adapter", "--base-model", "elsewhere"],
        ["merge", "adapter", "--base-model", "elsewhere", "--out", "out", "--data", "rows.jsonl"],
    ],
    ids=["generate", "chat", "merge"],
)
def test_the_commands_take_a_base_that_has_moved(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, base = adapter(tmp_path)
    base.rename(tmp_path / "elsewhere")
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("/quit\n"))
    place = words.index("--base-model")
    for given, code in ((words[:place] + words[place + 2 :], 1), (words, 0)):
        monkeypatch.setattr("sys.argv", ["burnish", *given])
        with pytest.raises(SystemExit) as leaving:
            main()
            raise SystemExit(0)
        printed = capsys.readouterr().err
        assert (leaving.value.code or 0) == code, printed
        assert ("needs its base" in printed) == bool(code)
