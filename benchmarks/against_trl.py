"""burnish against TRL: the same model, rows and steps side by side in one run.

Trains a small Llama shape (random weights, pebble's tokenizer) with LoRA on pebble's conversations, in
turn with each tool, and prints tokens a second, their ratio and the final losses. The ratio counts
only if the losses agree: a tool that trained something else is not faster at this.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from burnish.config import load_config
from burnish.model.load import PEBBLE_FOLDER
from burnish.pebble import CONVERSATIONS, rows
from burnish.recipes.sft import sft
from burnish.run_folder import read_lines

LENGTH = 1024
RATE = 1e-3


@dataclass(frozen=True)
class Timing:
    """One training run: tokens (without padding) a second of training time, and the last loss."""

    tokens_per_second: float
    loss: float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--rows", type=int, default=192)
    arguments.add_argument("--width", type=int, default=512)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = make_base(folder / "base", options.width)
        data = folder / "rows.jsonl"
        chosen = rows(CONVERSATIONS)[: options.rows]
        data.write_text("".join(json.dumps(row) + "\n" for row in chosen), "utf-8")
        print(
            f"{'round':>5} {'burnish':>14} {'TRL':>14} {'ratio':>7} {'loss, burnish':>14} {'loss, TRL':>10}"
        )
        for number in range(1, options.rounds + 1):
            ours = run_burnish(base, data, folder / f"burnish-{number}")
            theirs = run_trl(base, chosen, folder / f"trl-{number}")
            ratio = ours.tokens_per_second / theirs.tokens_per_second
            print(
                f"{number:>5} {ours.tokens_per_second:>9,.0f} tok/s {theirs.tokens_per_second:>8,.0f} tok/s "
                f"{ratio:>7.2f} {ours.loss:>14.3f} {theirs.loss:>10.3f}"
            )
            if abs(ours.loss - theirs.loss) > 0.1 * theirs.loss:
                raise SystemExit("The losses differ by more than a tenth: the ratio means nothing.")


def make_base(folder: Path, width: int) -> Path:
    """An 8-layer Llama of random weights with pebble's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(PEBBLE_FOLDER)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run_burnish(base: Path, data: Path, out: Path) -> Timing:
    config = load_config(
        None,
        [],
        **{
            "data.train": [str(data)],
            "data.held_out_share": 0.0,
            "model.name": str(base),
            "adapter.rank": 16,
            "adapter.trainable_tokens": [],
            "train.learning_rate": RATE,
            "train.epochs": 1,
            "train.decay": "constant",
            "train.warmup": 0.0,
            "evaluate.samples": 0,
            "out": str(out),
        },
    )
    steps = [row for row in read_lines(sft(config).metrics) if row["kind"] == "train"]
    # Neither tool is charged for its first step, in which kernels are chosen and memory is taken.
    timed = steps[1:]
    return Timing(sum(s["tokens"] for s in timed) / sum(s["seconds"] for s in timed), steps[-1]["loss"])


def run_trl(base: Path, chosen: list[dict[str, Any]], out: Path) -> Timing:
    """TRL in bf16 without checkpointing, its batches padded, loss on the assistant's tokens only. Not its
    best: packing is off, since a packed step would hold other rows than ours."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = (
        "{%- for message in messages -%}{{ '<|' + message['role'] + '|>' }}"
        "{%- if message['role'] == 'assistant' -%}"
        "{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
        "{%- else -%}{{ message['content'] + '<|end|>' }}{%- endif -%}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
    )
    stamps: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
        def on_step_end(self, *arguments: Any, **named: Any) -> None:
            stamps.append(time.perf_counter())

    trainer = SFTTrainer(
        model=LlamaForCausalLM.from_pretrained(base, dtype=torch.bfloat16),
        args=SFTConfig(
            output_dir=str(out),
            per_device_train_batch_size=32,
            num_train_epochs=1,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_length=LENGTH,
            assistant_only_loss=True,
            gradient_checkpointing=False,
            bf16=True,
            use_cpu=not torch.cuda.is_available(),
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=Dataset.from_list(chosen),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[Clock()],
    )
    trainer.train()
    history = [row for row in trainer.state.log_history if "loss" in row]
    lengths = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    after_first = sum(lengths) * (len(stamps) - 1) / len(stamps)
    return Timing(after_first / (stamps[-1] - stamps[0]), history[-1]["loss"])


if __name__ == "__main__":
    main()
