"""The smallest run that is worth training, shared by tests."""

from __future__ import annotations

from typing import Any

from knowcap.config import Run

RECORD: dict[str, Any] = {
    "corpus": {
        "knowledge": {
            "kind": "bioD",
            "num_people": 50,
            "num_attributes": 2,
            "num_chunks": 2,
            "diversity": 8,
            "chunk_length": 1,
            "alphabet_size": 8,
            "layout": "compact",
            "seed": 0,
        },
        "tokenizer": "word",
    },
    "architecture": {
        "family": "GPT2",
        "num_layers": 2,
        "num_attention_heads": 2,
        "kv_channels": 8,
        "rotary_percent": 0.25,
        "rotary_base": 10000,
        "init_method_std": 0.02,
    },
    "optimization": {
        "exposures": 20,
        "seq_length": 16,
        "global_batch_size": 4,
        "lr_warmup_fraction": 0.1,
        "min_lr_fraction": 0.1,
        "weight_decay": 0.02,
        "adam_beta1": 0.9,
        "adam_beta2": 0.98,
        "adam_eps": 1e-6,
        "clip_grad": 1.0,
        "dtype": "float32",
    },
    "replicates": {"seeds": [0, 1], "lr": [1e-3, 4e-3]},
}


def tiny_run(**changes: Any) -> Run:
    """The run with changed values; keys are paths with __ between section and field."""
    record = {section: dict(values) for section, values in RECORD.items()}
    for path, value in changes.items():
        section, field = path.split("__")
        record[section][field] = value
    return Run.model_validate(record)
