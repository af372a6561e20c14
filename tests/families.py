"""Families of models x ways to train them: each cell is trained, answers, is merged and loaded elsewhere, or
is refused before its first step.

    python tests/families.py                                # the table of docs/families.md, about ten minutes
    python tests/families.py --families Mixtral Falcon --methods LoRA IA3

A cell's base is a tiny random model with pebble's tokenizer, in a folder as a user would have it. Three steps
are trained through the recipe, a prompt is answered, an adapter is merged where its kind can be, and what was
saved is loaded by transformers and peft alone: their logits must be those of burnish.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)

from burnish.adapters.load import load_model
from burnish.config import load_config
from burnish.data import Conversation, Message
from burnish.errors import BurnishError
from burnish.generate import Sampling, answer_all, open_model
from burnish.model.load import PEBBLE_FOLDER, quiet_libraries
from burnish.model.quantize import Kind, quantization
from burnish.pebble import CONVERSATIONS
from burnish.recipes.merge import merge
from burnish.recipes.sft import sft
from burnish.run.screen import SilentScreen

WINDOW = 16
"""Shorter than the rows, and longer than the virtual tokens."""

ALTERNATING = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
LATENT = {"q_lora_rank": 32, "kv_lora_rank": 32, "v_head_dim": 16}
LATENT |= {"qk_rope_head_dim": 8, "qk_nope_head_dim": 8}
GPT = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 1024}
PLAIN = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
LONG = {"intermediate_size": 128, "max_position_embeddings": 1024}
GROUPED = PLAIN | LONG | {"num_key_value_heads": 2, "head_dim": 8}  # and heads of other than 64 / 4

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("llama", GROUPED),
    "Llama, tied": ("llama", {**GROUPED, "tie_word_embeddings": True}),
    "Qwen 2": ("qwen2", GROUPED),
    "Qwen 3": ("qwen3", GROUPED),
    "Qwen 3 MoE": ("qwen3_moe", {**GROUPED, **EXPERTS, "num_experts": 4}),
    "Qwen3-Next": (
        "qwen3_next",
        {
            **GROUPED,
            **EXPERTS,
            "num_experts": 4,
            "layer_types": ["linear_attention", "full_attention"],
            "shared_expert_intermediate_size": 64,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 2,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
        },
    ),
    "Mistral, windows": ("mistral", {**GROUPED, "sliding_window": WINDOW}),
    "Mixtral": ("mixtral", {**GROUPED, **EXPERTS, "sliding_window": None}),
    "Gemma 2": ("gemma2", GROUPED | ALTERNATING),
    "Gemma 3": ("gemma3_text", GROUPED | ALTERNATING),
    "Phi": ("phi", PLAIN | LONG),
    "Phi-3": ("phi3", GROUPED),
    "GPT-2": ("gpt2", GPT),
    "GPT-NeoX": ("gpt_neox", PLAIN | LONG),
    "GPT-J": ("gptj", {**GPT, "rotary_dim": 8}),
    "OPT": ("opt", PLAIN | LONG | {"ffn_dim": 128, "word_embed_proj_dim": 64, "init_std": 0.2}),
    "Bloom": ("bloom", {"hidden_size": 64, "n_layer": 2, "n_head": 4}),
    "MPT": ("mpt", {"d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": 1024}),
    "Falcon": ("falcon", {**PLAIN, "multi_query": True, "new_decoder_architecture": False}),
    "StableLM": ("stablelm", PLAIN | LONG | {"num_key_value_heads": 2}),
    "OLMo 2": ("olmo2", GROUPED),
    "SmolLM3": ("smollm3", {**GROUPED, "no_rope_layers": [1, 0]}),
    "GPT-OSS": ("gpt_oss", GROUPED | ALTERNATING | EXPERTS),
    "DeepSeek-V3": (
        "deepseek_v3",
        {
            **GROUPED,
            **EXPERTS,
            **LATENT,
            "n_routed_experts": 4,
            "n_group": 1,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "num_key_value_heads": 4,
            "head_dim": 8,
        },
    ),
    "Llama 4": (
        "llama4_text",
        {
            **GROUPED,
            **EXPERTS,
            "num_experts_per_tok": 1,
            "attention_chunk_size": 512,
            "intermediate_size_mlp": 128,
        },
    ),
    "Mamba": ("mamba", {**PLAIN, "state_size": 8, "time_step_rank": 4}),
}
"""Names to transformers' model types and what their shapes differ in."""

METHODS: dict[str, tuple[str, Kind]] = {
    "LoRA": ("lora", "none"),
    "DoRA": ("dora", "none"),
    "IA3": ("ia3", "none"),
    "prompt": ("prompt", "none"),
    "prefix": ("prefix", "none"),
    "bottleneck": ("bottleneck", "none"),
    "all weights": ("none", "none"),
    "LoRA on NF4": ("lora", "nf4"),
}
"""Columns to ``adapter.kind`` and ``model.quantize``."""

VIRTUAL = 4
LENGTH = 40
"""Tokens of the text whose logits are compared: longer than the windows."""
CLOSE = 1e-4
"""Of the largest logit: rounding of fp32."""


class CellFault(Exception):
    """What a cell did that it must not do."""


@dataclass(frozen=True)
class Cell:
    """One way to train one family. ``refused``: what the error says, and how it says to go on; ``fault``:
    what went wrong; ``notes``: what held beside training and answering; ``warnings``: what the run said."""

    family: str
    method: str
    refused: str = ""
    fault: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0

    def __str__(self) -> str:
        if self.fault:
            return f"FAULT: {self.fault}"
        return f"refused: {self.refused}" if self.refused else ", ".join(("trains, answers", *self.notes))

    @property
    def in_table(self) -> str:
        """``merged``, ``yes`` or ``no``; with a star where only padded batches are right for the family."""
        if self.fault:
            return "**fault**"
        if self.refused:
            return "no"
        padded = any("padded batches" in warning for warning in self.warnings)
        return ("merged" if "merges" in self.notes else "yes") + (" *" if padded else "")


class KeptLines(SilentScreen):
    """A screen that keeps what a person would be told, and warned of."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def shape_of(family: str, vocabulary: int, **changes: Any) -> PretrainedConfig:
    """The config of a family's tiny model."""
    kind, shape = FAMILIES[family]
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "vocab_size": vocabulary}
    return AutoConfig.for_model(kind, **ends | {"initializer_range": 0.1} | shape | changes)


def model_of(family: str, vocabulary: int = 97, **changes: Any) -> PreTrainedModel:
    """A family's tiny model with random weights, fp32, not training."""
    torch.manual_seed(0)
    config = shape_of(family, vocabulary, **changes)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model.eval()


def checkpoint(family: str, folder: Path, **changes: Any) -> Path:
    """A model folder as a user would have it."""
    tokenizer = AutoTokenizer.from_pretrained(PEBBLE_FOLDER)
    model_of(family, len(tokenizer), **changes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def cell_of(family: str, method: str, folder: Path, base: Path) -> Cell:
    """Do all that a cell is to do, in a folder of its own."""
    began, screen = time.perf_counter(), KeptLines()
    refused, fault, notes = "", "", ()
    try:
        notes = tuple(_lived(METHODS[method][0], METHODS[method][1], base, folder, screen))
    except BurnishError as error:
        refused = f"{error.what}. {error.fix}"
        if (folder / "run" / "metrics.jsonl").is_file():
            refused, fault = "", f"refused only once it was training: {error.what}"
    except CellFault as error:
        fault = str(error)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        lines = str(error).strip().splitlines() or [""]
        fault = f"{type(error).__name__}: {lines[0]} ({Path(where.filename).name}:{where.lineno})"
    seconds = time.perf_counter() - began
    return Cell(family, method, refused, fault, notes, tuple(screen.warnings), seconds)


def _lived(kind: str, quantize: Kind, base: Path, folder: Path, screen: KeptLines) -> Iterable[str]:
    rows = folder / "rows.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    rows.write_text("".join(CONVERSATIONS.read_text("utf-8").splitlines(keepends=True)[:6]), "utf-8")
    run = _train(kind, quantize, base, rows, folder / "run", screen)
    live = load_model(str(run), dtype="float32").model
    _require(not _close(_logits(live), _logits(_base(base, quantize))), "training changed nothing")
    model, template = open_model(str(run))
    asked = Conversation((Message("user", "What is the capital of France?"),))
    (answer,) = answer_all(model, template, [asked], Sampling(max_new_tokens=4))
    _require(bool(answer.ids), "no answer")
    yield from _merged(kind, run, folder / "merged", live)
    if kind == "bottleneck":
        yield "burnish alone loads it"
    else:
        _require_same(_plain(run, base, kind, quantize), live, "peft" if kind != "none" else "transformers")
        yield f"{'transformers' if kind == 'none' else 'peft'} loads it"


def _train(kind: str, quantize: Kind, base: Path, rows: Path, out: Path, screen: KeptLines) -> Path:
    settings = [
        f"model.quantize={quantize}",
        "model.dtype=float32",
        f"adapter.kind={kind}",
        "adapter.rank=4",
        "adapter.width=8",
        f"adapter.virtual_tokens={VIRTUAL}",
        "adapter.trainable_tokens=[]",
        "tokens.max_length=128",
        "train.max_steps=3",
        "train.batch_size=4",
        f"train.learning_rate={0.001 if kind == 'none' else 0.02}",
        "data.held_out_share=0",
        "data.cache=false",
        "evaluate.samples=1",
        "evaluate.forgetting=none",
        "evaluate.max_new_tokens=4",
    ]
    given = {"model.name": str(base), "data.train": [str(rows)], "out": str(out)}
    return sft(load_config(None, settings, **given), screen=screen).folder.path


def _merged(kind: str, run: Path, out: Path, live: PreTrainedModel) -> Iterable[str]:
    if kind not in ("lora", "dora", "ia3"):
        return
    proof = merge(str(run), out, dtype="float32", data=run.parent / "rows.jsonl")
    _require(proof.passed, f"a merge with a KL of {proof.mean_kl}")
    _require_same(AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32), live, "the merged model")
    yield "merges"


def _base(base: Path, quantize: Kind) -> PreTrainedModel:
    few = {} if quantize == "none" else {"quantization_config": quantization(quantize, torch.float32)}
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **few)


def _plain(run: Path, base: Path, kind: str, quantize: Kind) -> Any:
    """What was saved, by transformers and peft alone."""
    final = run / "final"
    if kind == "none":
        return AutoModelForCausalLM.from_pretrained(final, dtype=torch.float32)
    return PeftModel.from_pretrained(_base(base, quantize), final, autocast_adapter_dtype=False)


@torch.no_grad()
def _logits(model: Any) -> Tensor:
    """At a text's tokens, of which peft gives those of virtual tokens too."""
    ids = torch.arange(20, 20 + LENGTH)[None]
    logits: Tensor = model.eval()(input_ids=ids, use_cache=False).logits[0, -LENGTH:].float()
    return logits


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= CLOSE * other.abs().max().clamp(min=1.0))


def _require_same(plain: Any, live: Any, which: str) -> None:
    found, expected = _logits(plain), _logits(live)
    _require(_close(found, expected), f"{which} is off by {(found - expected).abs().max():.2g}")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise CellFault(otherwise)


def table_of(cells: Iterable[Cell], methods: Iterable[str]) -> str:
    """Markdown: a row a family, a column a way to train; reasons of refusals stand below, numbered."""
    reasons: dict[str, int] = {}
    rows: dict[str, dict[str, str]] = {}
    for cell in cells:
        text = cell.in_table
        if cell.refused:
            reason = re.sub(r"\w+ForCausalLM", "this model", cell.refused)
            text += f" ({reasons.setdefault(reason, len(reasons) + 1)})"
        rows.setdefault(cell.family, {})[cell.method] = text
    columns = list(methods)
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for family, row in rows.items():
        lines.append(f"| {family} | " + " | ".join(row.get(column, "") for column in columns) + " |")
    return "\n".join([*lines, "", *(f"{number}. {reason}" for reason, number in reasons.items())])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    arguments.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    options = arguments.parse_args()
    quiet_libraries()
    cells = []
    with tempfile.TemporaryDirectory() as place:
        for family in options.families:
            base = checkpoint(family, Path(place) / "base")
            for method in options.methods:
                cells.append(cell_of(family, method, Path(place) / "cell", base))
                print(f"{family:<18} {method:<12} {cells[-1].seconds:5.1f}s  {cells[-1]}", flush=True)
                shutil.rmtree(Path(place) / "cell", ignore_errors=True)
            shutil.rmtree(base)
    print("\n" + table_of(cells, options.methods))


if __name__ == "__main__":
    main()
