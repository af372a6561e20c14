"""Rows, models and tokenizers that a program hands over: the run is that of files and names, and what was
handed over stays as it was."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from burnish import BurnishError, ChatTemplate, load_config, load_model, sft
from burnish.cli.main import main
from burnish.errors import ConfigError, DataError, Interrupted, ModelError
from burnish.files import read_json, read_lines
from burnish.generate import ChatSession, Sampling
from burnish.model.borrow import borrow, holds_weights_of, weights_digest
from burnish.pebble import CONVERSATIONS
from burnish.pebble import rows as rows_of
from burnish.prepare.cache_key import cache_key
from burnish.prepare.check import check
from burnish.prepare.export import export
from burnish.prepare.in_memory import taken_from_memory
from burnish.prepare.model import prepare_model
from burnish.prepare.rows import RowEncoder
from burnish.prepare.show import show
from burnish.prepare.source import DataSource
from burnish.recipes.result import SFTResult
from burnish.run.folder import RunFolder
from burnish.run.screen import SilentScreen
from conftest import small_tokenizer, tiny_model

ROWS = rows_of(CONVERSATIONS)[:12]
HELD = rows_of(CONVERSATIONS)[12:16]
QUICK = {
    "train.max_steps": 3,
    "train.batch_size": 4,
    "train.learning_rate": 1e-2,
    "evaluate.samples": 1,
    "evaluate.forgetting": "none",
    "evaluate.max_new_tokens": 8,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tokenizer = small_tokenizer()
    tiny_model("llama", len(tokenizer)).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def in_memory(base: Path, dtype: torch.dtype = torch.bfloat16) -> dict[str, Any]:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    return {"model": model, "tokenizer": AutoTokenizer.from_pretrained(base)}


def changed(handed: dict[str, Any]) -> dict[str, Any]:
    """With a model that no folder holds."""
    with torch.no_grad():
        handed["model"].get_input_embeddings().weight.mul_(1.5)
    return handed


def config(**changes: Any) -> Any:
    return load_config(None, [], **QUICK | {key.replace("__", "."): value for key, value in changes.items()})


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def losses(result: SFTResult) -> list[float]:
    return [row["loss"] for row in result.metrics]


def trained(result: SFTResult) -> bytes:
    (file,) = (path for path in result.folder.final.glob("*model.safetensors"))
    return file.read_bytes()


# The run is that of files and names


@pytest.mark.parametrize("kind", ["lora", "none"])
def test_a_run_from_memory_is_that_of_files_and_names_to_the_last_bit(
    kind: str, base: Path, tmp_path: Path
) -> None:
    train, held = written(tmp_path / "rows.jsonl", ROWS), written(tmp_path / "held.jsonl", HELD)
    named = sft(
        config(adapter__kind=kind),
        data=train,
        held_out=[held],
        model=base,
        out=tmp_path / "named",
    )
    handed = in_memory(base)
    digest = weights_digest(handed["model"])
    result = sft(config(adapter__kind=kind), data=ROWS, held_out=HELD, out=tmp_path / "memory", **handed)
    assert losses(result) == losses(named)
    assert len(losses(result)) > 3
    assert trained(result) == trained(named)
    assert result.evaluation == named.evaluation
    assert weights_digest(handed["model"]) == digest
    one, other = ((run.folder.samples).read_bytes() for run in (named, result))
    assert one == other


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[SFTResult, PreTrainedModel]:
    """A run of an adapter on a model that no folder holds, and that model."""
    handed = changed(in_memory(base, torch.float32))
    mute = {"messages": [{"role": "user", "content": "Is anyone there?"}]}
    out = tmp_path_factory.mktemp("run") / "run"
    result = sft(config(), data=[ROWS[0], mute, *ROWS[1:]], out=out, **handed)
    return result, handed["model"]


def test_the_run_folder_says_what_was_in_memory(run: tuple[SFTResult, PreTrainedModel]) -> None:
    result, model = run
    folder = result.folder
    settings = load_config(folder.config)
    assert settings.data.train == ("<memory>",)
    assert (settings.model.name, settings.model.dtype) == ("<memory>", "float32")
    provenance = read_json(folder.provenance)
    (data,) = provenance["data"]
    assert (data["path"], data["rows"]) == ("<memory>", 13)
    assert len(data["sha256"]) == 64
    assert provenance["base"] == {
        "name": "<memory>", "revision": None, "quantize": "none", "sha256": weights_digest(model)
    }  # fmt: skip
    fates = {(line.get("path"), line.get("row"), line["fate"]) for line in read_lines(folder.ledger)}
    assert ("<memory>", 2, "nothing to learn") in fates
    assert next(read_lines(folder.examples))["source"].startswith("<memory>:")
    assert "&lt;memory&gt;" in folder.report.read_text("utf-8")


# What comes back


def test_the_result_has_what_a_notebook_wants_next(run: tuple[SFTResult, PreTrainedModel]) -> None:
    result, base_model = run
    assert isinstance(result.folder, RunFolder)
    assert result.metrics == list(read_lines(result.folder.metrics))
    assert {row["kind"] for row in result.metrics} == {"train", "held_out"}
    assert result.evaluation["tuned"]["held_out_loss"] < result.evaluation["base"]["held_out_loss"]
    assert result.model is result.model
    assert result.model is not base_model and result.model.dtype == torch.float32
    assert result.tokenizer.chat_template == result.template.source
    answer = result.chat("What is ice?", sampling=Sampling(max_new_tokens=6))
    session = result.chat(system=None, sampling=Sampling(max_new_tokens=6))
    assert isinstance(session, ChatSession)
    assert session.say("What is ice?").text == answer
    assert [message.role for message in session.messages] == ["user", "assistant"]
    assert "model=" not in repr(result)


def test_the_models_answers_are_those_that_the_run_wrote_down(run: tuple[SFTResult, PreTrainedModel]) -> None:
    result, _ = run
    last = list(read_lines(result.folder.samples))[-1]
    assert last["who"] == "tuned"
    answer = result.chat(last["prompt"][0]["content"], sampling=Sampling(max_new_tokens=8))
    assert answer == last["answer"]


def test_an_adapter_on_a_model_in_memory_is_opened_with_that_model_only(
    run: tuple[SFTResult, PreTrainedModel], base: Path
) -> None:
    result, model = run
    name = str(result.folder.path)
    with pytest.raises(ModelError, match="no folder holds it") as refused:
        load_model(name)
    assert "base_model=model" in refused.value.fix
    digest = weights_digest(model)
    opened = load_model(name, base_model=model)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        ours = opened.model(ids).logits
        assert not torch.equal(ours, model(ids).logits)
        assert torch.equal(
            load_model(name, base_only=True, base_model=model).model(ids).logits, model(ids).logits
        )
        plain = PeftModel.from_pretrained(borrow(model, own_weights=False), result.folder.final)
        torch.testing.assert_close(plain(ids).logits, ours)
    assert weights_digest(model) == digest
    with pytest.raises(ModelError, match="was trained on other weights"):
        load_model(name, base_model=in_memory(base, torch.float32)["model"])


def test_a_model_that_is_still_its_folder_needs_no_memory_afterwards(base: Path, tmp_path: Path) -> None:
    result = sft(config(), data=ROWS, out=tmp_path / "run", **in_memory(base, torch.float32))
    origin = read_json(result.folder.provenance)["base"]
    assert origin["name"] == str(base.resolve())
    opened = load_model(str(result.folder.path), dtype="float32")
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        assert torch.equal(opened.model(ids).logits, result.model(ids).logits)


def test_all_weights_trained_from_memory_are_a_model_of_their_own(base: Path, tmp_path: Path) -> None:
    handed = changed(in_memory(base, torch.float32))
    result = sft(config(adapter__kind="none"), data=ROWS, out=tmp_path / "run", **handed)
    opened = load_model(str(result.folder.path), dtype="float32").model
    for name, weight in result.model.state_dict().items():
        assert torch.equal(weight, opened.state_dict()[name])
    assert not torch.equal(result.model.lm_head.weight, handed["model"].lm_head.weight)


# What was handed over stays as it was


LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 4,
    "long_factor": [2.0] * 4,
    "original_max_position_embeddings": 16,
    "partial_rotary_factor": 1.0,
}
KINDS = [
    {"adapter__kind": "none"},
    {"adapter__kind": "lora"},
    {"adapter__kind": "lora", "adapter__init": "pissa"},
    {"adapter__kind": "lora", "adapter__init": "olora"},
    {"adapter__kind": "lora", "adapter__modules_to_save": ["lm_head"]},
    {"adapter__kind": "dora"},
    {"adapter__kind": "ia3"},
    {"adapter__kind": "prompt"},
    {"adapter__kind": "prefix"},
    {"adapter__kind": "bottleneck"},
]


@pytest.mark.parametrize("template", ["auto", "chatml"])
@pytest.mark.parametrize("changes", KINDS, ids=lambda changes: " ".join(map(str, changes.values())))
def test_neither_the_model_nor_the_tokenizer_is_changed(
    changes: dict[str, Any], template: str, base: Path
) -> None:
    """Whatever is trained is then written over, which nothing of the model may show."""
    handed = in_memory(base)
    model, tokenizer = handed["model"].train(), handed["tokenizer"]
    for parameter in list(model.parameters())[::2]:
        parameter.requires_grad_(False)

    def state() -> Any:
        return (
            weights_digest(model),
            [(name, type(m), m.training, len(m._forward_hooks)) for name, m in model.named_modules()],
            [(name, id(w), w.requires_grad, w.grad) for name, w in model.named_parameters()],
            model.config.to_dict(),
            model.generation_config.to_dict(),
            tokenizer.get_vocab(),
            tokenizer.chat_template,
        )

    before = state()
    settings, memory = taken_from_memory(config(template__kind=template, **changes), data=ROWS, **handed)
    prepared = prepare_model(settings, SilentScreen(), in_memory=memory)
    assert len(prepared.template.tokenizer) > len(tokenizer) or template == "auto"
    with torch.no_grad():
        for weight in prepared.model.parameters():
            if weight.requires_grad:
                weight.fill_(7.0)
    prepared.model.eval()
    assert state() == before


def test_a_copy_shares_the_weights_and_keeps_what_is_tied_and_of_what_type() -> None:
    model = tiny_model(tie_word_embeddings=True).to(torch.bfloat16)
    model.model.norm.float()
    copied = borrow(model, own_weights=False)
    assert copied.lm_head.weight is copied.get_input_embeddings().weight
    for (name, ours), (_, theirs) in zip(copied.named_parameters(), model.named_parameters(), strict=True):
        assert ours is not theirs, name
        assert (ours.data_ptr(), ours.dtype) == (theirs.data_ptr(), theirs.dtype), name
    own = borrow(model, own_weights=True, dtype=torch.float32)
    assert own.lm_head.weight is own.get_input_embeddings().weight
    assert {weight.dtype for weight in own.parameters()} == {torch.float32}
    assert not {w.data_ptr() for w in own.parameters()} & {w.data_ptr() for w in model.parameters()}
    own.lm_head.weight.data.zero_()
    assert model.lm_head.weight.abs().sum() > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"family": "llama"},
        {"family": "gpt2"},
        {"family": "gemma2"},
        {"family": "falcon"},
        {"family": "mistral", "sliding_window": 4},
        {"family": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
        {"family": "phi3", "rope_parameters": LONG_ROPE},
    ],
    ids=lambda changes: changes["family"],
)
def test_a_copy_gives_the_logits_of_the_model_and_not_what_was_done_to_its_modules(
    changes: dict[str, Any],
) -> None:
    model = tiny_model(**changes)
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        wanted = model(ids).logits
        for own_weights in (False, True):
            copied = borrow(model, own_weights=own_weights)
            assert not any(tensor.is_meta for tensor in (*copied.parameters(), *copied.buffers()))
            assert torch.equal(copied(ids).logits, wanted)
        called = []
        model.forward = lambda *given, **named: called.append(given)
        next(model.children()).register_forward_hook(lambda *given: called.append(given))
        assert torch.equal(borrow(model, own_weights=False)(ids).logits, wanted)
    assert not called


def test_a_model_that_its_config_does_not_describe_is_refused() -> None:
    """What is saved of a model is its config and its weights."""
    model = tiny_model()
    model.model.layers[1].mlp = torch.nn.Identity()
    with pytest.raises(ModelError, match=r"config describes: model\.layers\.1\.mlp"):
        borrow(model, own_weights=False)
    model = tiny_model()
    model.resize_token_embeddings(64)
    assert borrow(model, own_weights=False).config.vocab_size == 64
    model.config.vocab_size = 63
    with pytest.raises(ModelError, match=r"config describes: lm_head\.weight"):
        borrow(model, own_weights=False)


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_is_known_by_the_folder_that_holds_its_weights(tied: bool, tmp_path: Path) -> None:
    model = tiny_model(tie_word_embeddings=tied)
    model.save_pretrained(tmp_path)
    for dtype in (torch.float32, torch.bfloat16):
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
        assert holds_weights_of(loaded, tmp_path)
        with torch.no_grad():
            loaded.model.norm.weight[3] += 0.5
        assert not holds_weights_of(loaded, tmp_path)
    assert not holds_weights_of(tiny_model(tie_word_embeddings=tied, num_hidden_layers=3), tmp_path)
    assert not holds_weights_of(model, tmp_path / "nowhere")


# Going on


class Stopping(SilentScreen):
    """Asks the run to stop after its second step."""

    def progress(self, task: str, done: int, total: int, detail: str = "") -> None:
        if task == "Training" and done == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_goes_on_with_the_same_rows_and_model_only_and_to_the_same_bits(
    base: Path, tmp_path: Path
) -> None:
    whole = sft(config(), data=ROWS, out=tmp_path / "whole", **changed(in_memory(base)))
    out = tmp_path / "stopped"
    with pytest.raises(Interrupted, match="with the same rows and model handed over") as stopped:
        sft(config(), data=ROWS, out=out, screen=Stopping(), **changed(in_memory(base)))
    assert f"sft(load_config(Path('{out}/config.yaml')), resume=True, ...)" in str(stopped.value)
    again = load_config(out / "config.yaml")
    with pytest.raises(BurnishError, match="changed since it began: data"):
        sft(again, data=ROWS[:-1], resume=True, **changed(in_memory(base)))
    with pytest.raises(BurnishError, match="changed since it began: base"):
        sft(again, data=ROWS, resume=True, **in_memory(base))
    with pytest.raises(DataError, match="these rows were in the memory of a program"):
        sft(again, resume=True, **changed(in_memory(base)))
    with pytest.raises(ModelError, match="the model was in the memory of a program"):
        sft(again, data=ROWS, resume=True)
    result = sft(again, data=ROWS, resume=True, **changed(in_memory(base)))
    assert losses(result) == losses(whole)
    assert trained(result) == trained(whole)


def test_the_command_line_says_that_the_rows_were_in_memory(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "stopped"
    with pytest.raises(Interrupted):
        sft(config(), data=ROWS, model=str(base), out=out, screen=Stopping())
    monkeypatch.setattr("sys.argv", ["burnish", "train", "--resume", str(out)])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 1
    said = capsys.readouterr().err
    assert "<memory>: these rows were in the memory of a program" in said
    assert "Hand them over again, from Python" in said


# Rows and tokenizers elsewhere


def test_check_show_and_export_take_rows_and_a_tokenizer(base: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    found, template = check(config(), data=ROWS, held_out=HELD, tokenizer=tokenizer)
    assert found.rows == 16 and not found.violations
    assert template.tokenizer is not tokenizer
    shown, _ = show(config(), (2,), data=ROWS, tokenizer=tokenizer)
    assert [row.source for row in shown] == ["<memory>:2"]
    assert sum(example.trained for example in shown[0].examples) > 0
    data = written(tmp_path / "rows.jsonl", ROWS)
    by_file, _ = show(config(), (2,), data=data, model=base)
    assert by_file[0].examples[0].tokens == shown[0].examples[0].tokens
    made = export(config(), tmp_path / "tokens.parquet", data=ROWS, tokenizer=tokenizer)
    assert made.examples == 12
    assert made.ledger_path.is_file()


def test_a_bad_row_in_memory_is_named_everywhere(base: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    bad = [*ROWS[:2], {"messages": []}]
    with pytest.raises(DataError, match="<memory>:3: the row has no messages"):
        sft(config(), data=bad, model=base, out=tmp_path / "run")
    with pytest.raises(DataError, match="<memory, held out>:3: the row has no messages"):
        sft(config(), data=ROWS, held_out=bad, model=base, out=tmp_path / "run")
    with pytest.raises(DataError, match="<memory>:3"):
        export(config(), tmp_path / "tokens.parquet", data=bad, tokenizer=tokenizer)
    found, _ = check(config(), data=bad, tokenizer=tokenizer)
    assert [str(row.source) for row in found.unreadable] == ["<memory>:3"]
    assert list(tmp_path.iterdir()) == []


def test_rows_in_memory_are_kept_in_the_cache_by_what_they_say(base: Path, tmp_path: Path) -> None:
    def key(rows: list[dict[str, Any]], held: list[dict[str, Any]] | None = None) -> str | None:
        settings, memory = taken_from_memory(config(), data=rows, held_out=held)
        source = DataSource.of(settings.data, 0, memory)
        encoder = RowEncoder.of(ChatTemplate(small_tokenizer()), settings.tokens, None)
        return cache_key(source, encoder, 1)

    keys = [key(ROWS), key(ROWS[:-1]), key(ROWS, HELD), key(ROWS, HELD[:-1])]
    assert len(set(keys)) == 4 and None not in keys
    assert key([dict(row) for row in ROWS]) == keys[0]


# What is refused


def refused(kind: type[BurnishError], says: str, settings: Any = None, **handed: Any) -> None:
    with pytest.raises(kind, match=says):
        sft(settings or config(), **{"data": ROWS, "out": "never"} | handed)
    assert not Path("never").exists()


def test_what_cannot_be_handed_over_is_refused(base: Path) -> None:
    handed = in_memory(base)
    model, tokenizer = handed["model"], handed["tokenizer"]
    files = config(data__train=["rows.jsonl"])
    refused(ConfigError, "data.train names rows.jsonl, and rows are handed over too", files, **handed)
    files = config(data__held_out=["rows.jsonl"])
    refused(ConfigError, "data.held_out names rows.jsonl", files, held_out=HELD, **handed)
    refused(ConfigError, "model.name is pebble", config(model__name="pebble"), **handed)
    refused(ConfigError, "model.name is pebble", config(model__name="pebble"), model=base)
    refused(ConfigError, "a model is handed over without its tokenizer", model=model)
    refused(ConfigError, "a tokenizer is handed over without its model", tokenizer=tokenizer)
    refused(ConfigError, "model.quantize is nf4", config(model__quantize="nf4"), **handed)
    refused(ConfigError, "model.revision is main", config(model__revision="main"), **handed)
    refused(DataError, "rows are a dict", data=ROWS[0], **handed)
    refused(DataError, "no token would be trained", data=[], **handed)


def test_models_that_cannot_be_trained_from_memory_are_refused(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    half = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float16)
    refused(ModelError, "in torch.float16", model=half, tokenizer=tokenizer)
    wrapped = get_peft_model(half, LoraConfig(target_modules=["q_proj"]))
    refused(ModelError, "a PeftModel is no model of transformers", model=wrapped, tokenizer=tokenizer)
    inner = wrapped.get_base_model()
    refused(ModelError, "has an adapter in its layers", model=inner, tokenizer=tokenizer)
    refused(ModelError, "stands on meta", model=tiny_model().to("meta"), tokenizer=tokenizer)


def test_a_model_in_half_precision_is_trained_in_the_type_that_the_config_says(
    base: Path, tmp_path: Path
) -> None:
    half = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float16)
    tokenizer = AutoTokenizer.from_pretrained(base)
    result = sft(
        config(model__dtype="float32", train__max_steps=1),
        data=ROWS,
        model=half,
        tokenizer=tokenizer,
        out=tmp_path / "run",
    )
    assert result.model.dtype == torch.float32
    assert half.dtype == torch.float16
