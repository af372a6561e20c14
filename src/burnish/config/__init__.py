"""YAML to a checked ``RunConfig``."""

from burnish.config.load import build_config, load_config, with_learning_rate
from burnish.config.sections import (
    AdapterConfig,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    PretrainConfig,
    RunConfig,
    TemplateConfig,
    TokensConfig,
    TrainConfig,
)

__all__ = [
    "AdapterConfig",
    "DataConfig",
    "EvaluateConfig",
    "ModelConfig",
    "PretrainConfig",
    "RunConfig",
    "TemplateConfig",
    "TokensConfig",
    "TrainConfig",
    "build_config",
    "load_config",
    "with_learning_rate",
]
