"""Proving masks against tokenizing without proof: burnish check and TRL's preparation, the same rows.

Alpaca-like rows (one question, one answer), the same tokenizer and template, each tool in a process of its
own on one core and on two, in turn. burnish reads the file, proves every row and counts what the page of
``burnish check`` shows; TRL renders and tokenizes rows that are already in memory, as ``SFTTrainer`` does
when it is made, once as by default and once with ``assistant_only_loss`` (whose template must carry marks).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.rounds import Spread, in_process, say, show, write

SHARED = Path(__file__).parents[2] / "shared" / "data"
MARKED = (
    "{%- for message in messages -%}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{%- if message['role'] == 'assistant' -%}{% generation %}{{ message['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{{ '\\n' }}{%- else -%}{{ message['content'] + '<|im_end|>\\n' }}{%- endif -%}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
TOOLS = ("burnish", "trl", "trl-masked")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=52_000)
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--tokenizer", type=Path, default=SHARED / "tokenizers" / "qwen2")
    arguments.add_argument("--alpaca", type=Path, default=SHARED / "sft" / "alpaca_en_demo.json")
    arguments.add_argument("--out", type=Path, help="where to write the JSON")
    options = arguments.parse_args()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = make_base(folder / "base", options.tokenizer)
        data = folder / "rows.jsonl"
        write_rows(data, options.alpaca, options.rows)
        for number in range(1, options.rounds + 1):
            for cores in (1, 2):
                for tool in TOOLS:
                    given = {"tool": tool, "data": str(data), "base": str(base), "cores": cores}
                    run = in_process("benchmarks.proof:run", **given)
                    found.append({"tool": tool, "cores": cores, "rows": options.rows, **run})
                    say(f"round {number}: {tool}, {cores} cores, {options.rows / run['seconds']:,.0f} rows/s")
    lines = [_line(tool, cores, found) for cores in (1, 2) for tool in TOOLS]
    show(f"Proving masks of {options.rows:,} rows", ("tool", "cores", "rows/s", "seconds", "tokens"), lines)
    write(options.out, "proof", {"found": found})


def _line(tool: str, cores: int, found: list[dict[str, Any]]) -> tuple[str, ...]:
    runs = [run for run in found if (run["tool"], run["cores"]) == (tool, cores)]
    rates = Spread.of([run["rows"] / run["seconds"] for run in runs]).text(",.0f")
    seconds = Spread.of([run["seconds"] for run in runs]).text(".1f")
    return tool, str(cores), rates, seconds, f"{runs[0]['tokens']:,}"


def make_base(folder: Path, tokenizer: Path) -> Path:
    """The tokenizer with ChatML-lite, and the smallest model that a trainer takes."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from burnish.template.chatml import give_chatml

    loaded = AutoTokenizer.from_pretrained(tokenizer)
    give_chatml(loaded)
    loaded.save_pretrained(folder)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(loaded), **shape)).save_pretrained(folder)
    return folder


def write_rows(path: Path, alpaca: Path, count: int) -> None:
    """The rows again and again, numbered, so that no two are alike."""
    with path.open("w", encoding="utf-8") as file:
        for number, row in enumerate(islice(cycle(json.loads(alpaca.read_text("utf-8"))), count)):
            asked = f"{row['instruction']}\n{row['input']}".strip()
            messages = [
                {"role": "user", "content": f"{asked} ({number})"},
                {"role": "assistant", "content": row["output"]},
            ]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


def run(tool: str, data: str, base: str, cores: int) -> dict[str, Any]:
    # Before anything that counts threads is imported.
    os.environ |= {"RAYON_NUM_THREADS": str(cores), "OMP_NUM_THREADS": str(cores)}
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    place, file = Path(base), Path(data)
    return (
        run_burnish(file, place) if tool == "burnish" else run_trl(file, place, cores, tool == "trl-masked")
    )


def run_burnish(data: Path, base: Path) -> dict[str, Any]:
    from burnish.config import load_config
    from burnish.prepare.check import check

    config = load_config(None, [], **{"data.train": [str(data)], "model.name": str(base)})
    started = time.perf_counter()
    found, _ = check(config)
    assert not found.violations
    return {"seconds": time.perf_counter() - started, "tokens": int(found.lengths.sum())}


def run_trl(data: Path, base: Path, cores: int, masked: bool) -> dict[str, Any]:
    from datasets import Dataset, disable_caching, disable_progress_bars
    from transformers import AutoTokenizer, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    disable_caching()
    disable_progress_bars()
    seconds = 0.0

    class Timed(SFTTrainer):  # type: ignore[misc]  # TRL is not typed
        def _prepare_dataset(self, *arguments: Any, **named: Any) -> Any:
            nonlocal seconds
            started = time.perf_counter()
            prepared = super()._prepare_dataset(*arguments, **named)
            seconds += time.perf_counter() - started
            return prepared

    tokenizer = AutoTokenizer.from_pretrained(base)
    if masked:
        tokenizer.chat_template = MARKED
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    rows = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as out:
        trainer = Timed(
            model=LlamaForCausalLM.from_pretrained(base),
            args=SFTConfig(
                output_dir=out,
                assistant_only_loss=masked,
                max_length=None,
                dataset_num_proc=cores if cores > 1 else None,
                report_to=[],
                use_cpu=True,
                bf16=False,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        tokens = sum(len(ids) for ids in trainer.train_dataset["input_ids"])
    return {"seconds": seconds, "tokens": tokens}


if __name__ == "__main__":
    main()
