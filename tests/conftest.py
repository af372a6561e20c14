"""What several test files share: real material where it is at hand, and tiny models made on the spot."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from burnish.pebble.tokenizer import train_tokenizer

SHARED = Path(__file__).parents[2] / "shared" / "data"
"""Real tokenizers, templates and data sets; not part of the project, so tests skip where it is absent."""

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared real material is not here")

LONGEST = (
    "test_templates",
    "test_ranks",
    "test_runs",
    "test_readme",
    "test_survival_of_runs",
    "test_show",
    "test_sweep",
    "test_adapters",
    "test_words",
    "test_benchmarks",
)
"""Files that take longest. They come first, so that at the end no process is alone with one of them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


settings.register_profile("burnish", derandomize=True, deadline=None, database=None, max_examples=40)
settings.load_profile("burnish")


@pytest.fixture(autouse=True, scope="session")
def cache_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read nor leave anything in the cache of the person who runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BURNISH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


SENTENCES = (
    "the cat sat on the mat and the dog ran to the red house",
    "What is the capital of France? The capital of France is Paris.",
    "Water is made of hydrogen and oxygen, and ice is water that is cold.",
)

TOKENIZER_OF = {
    "llama": "phi-3",
    "qwen2": "qwen2",
    "mistral": "mistral_v3",
    "gemma2": "mistral_v1",
    "gpt2": "gpt2",
}
"""A family's tokenizer under SHARED/tokenizers, or the nearest to it that is there."""


def shared_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """A real tokenizer, loaded anew, so that a test may change it. Skips where it is absent."""
    folder = SHARED / "tokenizers" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


@lru_cache
def small_tokenizer() -> PreTrainedTokenizerBase:
    """Pebble's kind of tokenizer with a few merges. Shared by tests: not to be changed."""
    return train_tokenizer(SENTENCES, 400, 512)


def byte_tokenizer() -> PreTrainedTokenizerBase:
    """Pebble's kind of tokenizer without merges: 16 reserved tokens, then the 256 bytes, '!' first."""
    return train_tokenizer(SENTENCES, 272, 512)


def tiny_config(family: str, vocabulary: int, **changes: Any) -> PretrainedConfig:
    """The shape of a model of two layers, 32 wide, of any family of transformers (its ``model_type``).
    Weights are drawn wide, so that logits differ."""
    shape = {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    if family == "gpt2":
        shape |= {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 1024}
    else:
        shape |= {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
        shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024}
    if family not in ("gpt2", "falcon"):
        shape |= {"head_dim": 8}
    return AutoConfig.for_model(family, **shape | {"initializer_range": 0.2} | changes)


def tiny_model(family: str = "llama", vocabulary: int = 97, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A small model with random weights, fp32, not training."""
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(
        tiny_config(family, vocabulary, **changes), dtype=torch.float32
    )
    return model.eval()


def tiny_checkpoint(folder: Path, family: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
    """A model folder as a user would have it: a tiny random model with a real tokenizer, safetensors.

    ``family``: llama, qwen2 (its tokenizer carries a ChatML template), mistral, gemma2 or gpt2 (its
    tokenizer carries none). Skips where the real tokenizers are absent.
    """
    tokenizer = shared_tokenizer(TOKENIZER_OF[family])
    model = tiny_model(family, len(tokenizer), **changes).to(dtype)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
