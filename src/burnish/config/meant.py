"""What other programs call our keys and their values."""

from __future__ import annotations

MEANT = {
    "adapter.kind": {
        "qlora": "adapter.kind=lora and model.quantize=nf4",
        "qdora": "adapter.kind=dora and model.quantize=nf4",
        "full": "adapter.kind=none",
        "sft": "adapter.kind=none",
        "all": "adapter.kind=none",
        "prompt-tuning": "adapter.kind=prompt",
        "p-tuning": "adapter.kind=prompt",
        "prefix-tuning": "adapter.kind=prefix",
        "(ia)3": "adapter.kind=ia3",
        "adapter": "adapter.kind=bottleneck",
        "houlsby": "adapter.kind=bottleneck",
    },
    "model.quantize": {
        "4bit": "model.quantize=nf4",
        "int4": "model.quantize=nf4",
        "fp4": "model.quantize=nf4",
        "8bit": "model.quantize=int8",
    },
    "model.dtype": {
        "bf16": "model.dtype=bfloat16",
        "fp16": "model.dtype=bfloat16",
        "half": "model.dtype=bfloat16",
        "fp32": "model.dtype=float32",
        "float": "model.dtype=float32",
    },
    "train.optimizer": {"adam": "train.optimizer=adamw"},
    "tokens.too_long": {"truncate": "tokens.too_long=truncate_left", "skip": "tokens.too_long=drop"},
}
"""For some keys, words that other programs have for a value."""

MEANT_KEYS = {
    "lr": "train.learning_rate",
    "num_epochs": "train.epochs",
    "num_train_epochs": "train.epochs",
    "per_device_train_batch_size": "train.batch_size",
    "warmup_ratio": "train.warmup",
    "lr_scheduler_type": "train.decay",
    "gradient_checkpointing": "train.recompute",
    "r": "adapter.rank",
    "lora_r": "adapter.rank",
    "lora_alpha": "adapter.alpha",
    "lora_dropout": "adapter.dropout",
    "target_modules": "adapter.targets",
    "max_seq_length": "tokens.max_length",
    "cutoff_len": "tokens.max_length",
    "load_in_4bit": "model.quantize",
    "load_in_8bit": "model.quantize",
    "dataset": "data.train",
    "output_dir": "out",
    "report_to": "track",
}
"""Names that other programs have for a key."""
