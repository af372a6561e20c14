"""What is served is what was trained: by token ids, through a finished run's ``final/``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from burnish.config import load_config
from burnish.data import Conversation, Message
from burnish.generate import ChatSession, open_model
from burnish.recipes.sft import sft
from burnish.run.folder import RunFolder
from burnish.template.build import build_template
from burnish.tokens import encode, token_ids
from conftest import small_tokenizer, tiny_model

AWKWARD = (
    "{%- if thinking is not defined -%}{%- set thinking = true -%}{%- endif -%}"
    "{%- for m in messages -%}"
    "{%- if m.role == 'system' -%}{{ raise_exception('no system turns') }}{%- endif -%}"
    "<|{{ m.role }}|>{{ m.content }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{{ '<think>' if thinking }}{%- endif -%}"
)
"""Refuses system turns, ends no answer, and opens a think block unless told not to."""

ROWS: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": f"Where is the cat {number}? Not at <|end|>."},
            {"role": "assistant", "content": "On the mat."},
            {"role": "user", "content": "And the dog?"},
            {"role": "assistant", "content": "At the house."},
        ]
    }
    for number in range(4)
]
SETTINGS = {
    "template.remedies": ["merge_system_into_user", "append_stop"],
    "template.options.thinking": False,
    "adapter.kind": "none",
    "train.max_steps": 1,
    "data.held_out_share": 0.0,
    "evaluate.max_new_tokens": 2,
}


def trained(tmp_path: Path) -> tuple[RunFolder, list[list[int]]]:
    """A finished run on the awkward template, and the prompts that it trained, as token ids."""
    base = tmp_path / "base"
    tokenizer = AutoTokenizer.from_pretrained(save(small_tokenizer(), tmp_path / "tokenizer"))
    tokenizer.chat_template = AWKWARD
    tokenizer.save_pretrained(base)
    tiny_model(vocabulary=512).save_pretrained(base)
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    given = {"data.train": [str(data)], "model.name": str(base), "out": str(tmp_path / "run")}
    config = load_config(None, [], **given, **SETTINGS)
    run = sft(config).folder
    template, _ = build_template(AutoTokenizer.from_pretrained(base), config.template)
    prompts = []
    for row in ROWS:
        examples = encode(Conversation.from_messages(row["messages"]), template)
        assert len(examples) == 2  # the stop token stands in no history, so each turn has its own
        prompts += [e.input_ids[: e.loss_mask.index(True)] for e in examples]
    return run, prompts


def save(tokenizer: Any, folder: Path) -> Path:
    tokenizer.save_pretrained(folder)
    return folder


def asked() -> list[list[dict[str, Any]]]:
    """What stands before each answer of the rows."""
    return [row["messages"][:place] for row in ROWS for place in (2, 4)]


def test_plain_transformers_and_burnish_feed_the_trained_prompts(tmp_path: Path) -> None:
    run, prompts = trained(tmp_path)
    plain = AutoTokenizer.from_pretrained(run.final)
    served = [
        plain.apply_chat_template(messages, add_generation_prompt=True, sanitize_control_tokens=True)
        for messages in asked()
    ]
    assert [ids["input_ids"] for ids in served] == prompts
    assert "<think>" not in plain.decode(prompts[0])  # the option is in the saved template

    model, template = open_model(str(run.path))
    chats = [Conversation.from_messages(messages) for messages in asked()]
    assert [token_ids(template.tokenizer, template.prompt(chat)) for chat in chats] == prompts

    session = ChatSession(model, template, system="Be brief.")
    session.messages = [
        Message("user", ROWS[0]["messages"][1]["content"]),
        Message("assistant", "On the mat."),
    ]
    fed: list[list[int]] = []
    whole = model.generate

    def spy(*arguments: Any, **named: Any) -> Any:
        fed.append(named["input_ids"][0].tolist())
        return whole(*arguments, **named)

    model.generate = spy
    session.say("And the dog?")
    assert fed == [prompts[1]]


def test_the_stop_ids_of_training_stand_in_the_generation_config(tmp_path: Path) -> None:
    run, _ = trained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(run.final)
    generation = GenerationConfig.from_pretrained(run.final)
    assert tokenizer.convert_ids_to_tokens(generation.eos_token_id) == ["<|endoftext|>"]
    assert AutoModelForCausalLM.from_pretrained(run.final).generation_config.eos_token_id == [
        tokenizer.eos_token_id
    ]
    card = json.loads((run.final / "burnish.json").read_text("utf-8"))
    assert card["remedies"] == ["merge_system_into_user", "append_stop"]
    assert card["template_options"] == {"thinking": False}
    assert card["stop_tokens"] == ["<|endoftext|>"]
