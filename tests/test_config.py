"""Configs: every mistake is found at load and named with the nearest right key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from burnish.config import PretrainConfig, RunConfig, build_config, load_config
from burnish.config.load import parse_value
from burnish.config.meant import MEANT, MEANT_KEYS
from burnish.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path | None = None, *overrides: str, **given: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides, **given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("trian", "train"),
        ("train.learnig_rate", "train.learning_rate"),
        ("train.epoch", "train.epochs"),
        ("adapter.drop_out", "adapter.dropout"),
        ("tokens.max_len", "tokens.max_length"),
        ("learning_rate", "train.learning_rate"),
        ("rank", "adapter.rank"),
        ("model.batch_size", "train.batch_size"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_one(wrong: str, right: str, tmp_path: Path) -> None:
    says = f"{wrong}: no such key; did you mean {right}?"
    assert says in refused(None, f"{wrong}=1")
    tree: Any = 1
    for part in reversed(wrong.split(".")):
        tree = {part: tree}
    path = written(tmp_path, yaml.safe_dump(tree))
    message = refused(path)
    assert says in message
    assert str(path) in message


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("lr", "train.learning_rate"),
        ("train.lr", "train.learning_rate"),
        ("adapter.lora_alpha", "adapter.alpha"),
        ("output_dir", "out"),
    ],
)
def test_a_name_that_other_programs_have_for_a_key_is_understood(wrong: str, right: str) -> None:
    assert f"{wrong}: no such key; did you mean {right}?" in refused(None, f"{wrong}=1")


@pytest.mark.parametrize(("wrong", "section"), [("train.l", "train."), ("adapter.r", "adapter.")])
def test_a_short_name_within_a_section_is_sent_to_a_key_of_it(wrong: str, section: str) -> None:
    assert f"did you mean {section}" in refused(None, f"{wrong}=1")


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("train.epochs=many", "train.epochs"),
        ("train.batch_size=0", "train.batch_size"),
        ("train.batch_size=1.5", "train.batch_size"),
        ("train.learning_rate=-1", "train.learning_rate"),
        ("train.warmup=2", "train.warmup"),
        ("train.decay=cubic", "train.decay"),
        ("train.betas=[0.9]", "train.betas"),
        ("data.held_out_share=1.0", "data.held_out_share"),
        ("data.train=5", "data.train"),
        ("model.name=5", "model.name"),
        ("model.dtype=float16", "model.dtype"),
        ("adapter.kind=loha", "adapter.kind"),
        ("adapter.targets=5", "adapter.targets"),
        ("adapter=5", "adapter"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_was_given(override: str, key: str) -> None:
    message = refused(None, override)
    assert f"\n{key}" in message.replace(": ", "\n", 1)
    assert "(given: " in message


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("adapter.kind=qlora", "adapter.kind=lora and model.quantize=nf4"),
        ("adapter.kind=full", "adapter.kind=none"),
        ("adapter.kind=SFT", "adapter.kind=none"),
        ("adapter.kind=prompt_tuning", "adapter.kind=prompt"),
        ("adapter.kind=LoRA", "adapter.kind=lora"),
        ("adapter.kind=loha", "adapter.kind=lora"),
        ("model.quantize=4bit", "model.quantize=nf4"),
        ("model.dtype=bf16", "model.dtype=bfloat16"),
        ("train.decay=cosin", "train.decay=cosine"),
        ("train.optimizer=adamw_8bit", "train.optimizer=adamw-8bit"),
    ],
)
def test_a_value_is_met_with_the_one_that_is_meant(override: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert f"did you mean {meant}?" in caught.value.what
    assert caught.value.fix == f"Write {meant}."
    load_config(None, meant.split(" and "))


def test_a_mistake_is_met_with_what_to_write() -> None:
    fixes = {
        "train.lr=1": "Write train.learning_rate.",
        "train.epochs=0": "Change train.epochs.",
        "adapter.kind=xyz": "Change adapter.kind.",
        "train.recompute=yess": "Change train.recompute.",
    }
    for override, fix in fixes.items():
        with pytest.raises(ConfigError) as caught:
            load_config(None, [override])
        assert caught.value.fix == fix


def test_what_is_said_to_be_meant_can_be_written() -> None:
    config = RunConfig().model_dump()
    for right in MEANT_KEYS.values():
        found = config
        for part in right.split("."):
            found = found[part]
    for words in MEANT.values():
        for meant in words.values():
            load_config(None, meant.split(" and "))


def test_an_item_of_a_list_is_met_with_the_one_that_is_meant() -> None:
    message = refused(None, "track=[wandbb]", "train.recompute=yess")
    assert "track: Input should be" in message and "Write wandb in track." in message
    assert message.count("train.recompute: Input should be") == 2  # for each type that it can have


def test_all_mistakes_stand_in_one_error(tmp_path: Path) -> None:
    path = written(tmp_path, "train: {epochs: -1, lerning_rate: 1}\nmodel: {dtype: int4}\n")
    message = refused(path)
    for part in ("train.epochs", "train.lerning_rate", "model.dtype", str(path), "Nothing was started"):
        assert part in message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("5E+3", 5000.0),
        ("-2.5e-1", -0.25),
        ("3", 3),
        ("0.5", 0.5),
        ("true", True),
        ("false", False),
        ("null", None),
        ("none", "none"),
        ("pebble", "pebble"),
        ("a/path-1e4.jsonl", "a/path-1e4.jsonl"),
        ("[1, 2]", [1, 2]),
        ("[q_proj, v_proj]", ["q_proj", "v_proj"]),
        ("{a: 1}", {"a": 1}),
        ("a: b: c", "a: b: c"),
        ("", None),
    ],
)
def test_a_value_is_read_as_yaml_with_1e_4_a_number(text: str, value: object) -> None:
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[one.jsonl, two.jsonl]", ["one.jsonl", "two.jsonl"]),
        ("[gate_proj]", ["gate_proj"]),
        ("{enable_thinking: false}", {"enable_thinking": False}),
        ("'pebble'", "pebble"),
        ("12e4567", "12e4567"),  # a commit, not infinity
    ],
)
def test_lists_mappings_and_quotes_are_yaml_though_they_hold_an_e(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_overrides_reach_the_config_in_the_right_type() -> None:
    config = load_config(
        None,
        [
            "train.learning_rate=1e-4",
            "data.train=[a.jsonl, b.jsonl]",
            "train.max_steps=7",
            "adapter.kind=none",
        ],
    )
    assert config.train.learning_rate == 1e-4
    assert config.data.train == ("a.jsonl", "b.jsonl")
    assert config.train.max_steps == 7
    assert config.adapter.kind == "none"


def test_defaults_then_file_then_given_then_overrides(tmp_path: Path) -> None:
    path = written(tmp_path, "train: {epochs: 5, batch_size: 4, seed: 3}\nout: here\n")
    given = {"train.batch_size": 8, "train.seed": 9}
    config = load_config(path, ["train.seed=11"], **given)
    assert (config.train.epochs, config.train.batch_size, config.train.seed) == (5.0, 8, 11)
    assert config.train.warmup == RunConfig().train.warmup
    assert config.out == "here"


def test_the_learning_rate_goes_by_what_is_trained() -> None:
    assert load_config().train.learning_rate == 2e-4
    assert load_config(None, ["adapter.kind=none"]).train.learning_rate == 2e-5
    assert load_config(None, ["adapter.kind=none", "train.learning_rate=3e-3"]).train.learning_rate == 3e-3
    assert load_config(None, ["train.learning_rate=null"]).train.learning_rate == 2e-4


def test_an_override_without_equals_or_into_a_value_is_refused() -> None:
    assert "no '='" in refused(None, "train.epochs")
    assert "is a value, not a section" in refused(None, "out=here", "out.there=1")


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    assert "not a mapping" in refused(written(tmp_path, "- a\n- b\n"))
    assert "not a mapping" in refused(written(tmp_path, "hello\n"))
    assert "not YAML" in refused(written(tmp_path, "train: [1, 2\n"))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "no such config file" in refused(tmp_path / "nowhere.yaml")
    assert str(tmp_path) in refused(tmp_path)


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "# nothing yet\n")) == load_config()


def test_a_section_whose_keys_are_all_commented_out_gives_its_defaults(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "train:\n  # epochs: 5\nmodel:\n  name: pebble\n")) == load_config()


def test_a_dumped_config_loads_as_itself(tmp_path: Path) -> None:
    overrides = [
        "data.train=[a.jsonl]", "adapter.targets=[q_proj]", "train.betas=[0.8, 0.9]", "out=x",
        "template.options.style=long", "train.learning_rate=1e-5", "adapter.alpha=8",
    ]  # fmt: skip
    config = load_config(None, overrides)
    path = written(tmp_path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    assert load_config(path) == config


def test_a_learning_rate_in_scientific_notation_is_a_number_in_a_file_too(tmp_path: Path) -> None:
    """YAML 1.1 reads 1e-4 as a string."""
    assert load_config(written(tmp_path, "train:\n  learning_rate: 1e-4\n")).train.learning_rate == 1e-4


def test_a_config_does_not_change_afterwards() -> None:
    with pytest.raises(ValidationError):
        load_config().train.epochs = 9.0


def test_a_section_given_in_part_keeps_the_other_defaults_of_its_kind() -> None:
    config = build_config(PretrainConfig, None, ["corpus=c.jsonl", "out=x", "train.epochs=2"])
    assert config.train.epochs == 2
    assert config.train.learning_rate == 1.5e-3
    assert config.train.betas == (0.9, 0.95)


def test_what_has_no_default_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"corpus: Field required.*\nout: Field required"):
        build_config(PretrainConfig, None)


def test_the_schema_describes_the_keys_that_carry_a_docstring() -> None:
    fields = RunConfig.model_json_schema()["$defs"]["TrainConfig"]["properties"]
    assert fields["micro_batch_tokens"]["description"].startswith("Tokens in one forward pass")


def test_the_published_schema_is_that_of_the_config() -> None:
    """Editors check a run.yaml by it. Made by: python -m burnish.config > docs/run.schema.json"""
    published = Path(__file__).parents[1] / "docs" / "run.schema.json"
    assert json.loads(published.read_text("utf-8")) == RunConfig.model_json_schema()


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\n"
        + "".join(f"b{n}: &b{n} [{', '.join(['*a' if not n else f'*b{n - 1}'] * 9)}]\n" for n in range(9)),
        "a: &a [*a]",
        "[" * 5000,
        "out: 2024-99-99",
        "out: \ud83d",
    ],
    ids=["aliases of aliases", "an alias of itself", "nesting", "no date", "half a character"],
)
def test_a_config_that_is_a_trap_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        load_config(path)
