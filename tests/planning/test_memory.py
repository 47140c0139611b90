"""The estimated memory of a training, compared with the largest resident size of real ones."""

from __future__ import annotations

import pytest

from knowcap.config import Run
from knowcap.planning.memory import training_memory_bytes
from tests.support.tiny import RECORD


def run_of(size: tuple[int, int, int], windows: int, seeds: int = 1, family: str = "GPT2") -> Run:
    """A run of bioS with layers, heads and channels of a head, and windows of 512 tokens."""
    num_layers, num_heads, kv_channels = size
    architecture = {
        "family": family,
        "num_layers": num_layers,
        "num_attention_heads": num_heads,
        "kv_channels": kv_channels,
    }
    return Run.model_validate(
        {
            "corpus": {
                "knowledge": {"kind": "bioS", "num_people": 2000, "seed": 0},
                "tokenizer": "GPT2",
            },
            "architecture": RECORD["architecture"] | architecture,
            "optimization": RECORD["optimization"]
            | {"seq_length": 512, "global_batch_size": windows},
            "replicates": {"seeds": list(range(seeds)), "lr": [1e-3]},
        }
    )


@pytest.mark.parametrize(
    ("run", "measured_mb"),
    [
        (run_of((1, 1, 8), 1), 410),
        (run_of((2, 2, 64), 12), 456),
        (run_of((4, 4, 64), 16), 616),
        (run_of((4, 4, 64), 4, seeds=2), 862),
        (run_of((8, 8, 64), 4), 1641),
        (run_of((2, 12, 64), 2), 1096),
        (run_of((2, 2, 64), 96), 432),
        (run_of((4, 4, 64), 16, family="LLaMA"), 641),
    ],
)
def test_the_estimate_is_above_what_was_measured_and_not_far(run: Run, measured_mb: int) -> None:
    assert 0.6 < 1e6 * measured_mb / training_memory_bytes(run, on_gpu=False) < 1


def test_replicates_and_layers_add_up() -> None:
    small, more = (training_memory_bytes(run_of((8, 8, 64), 4, n), on_gpu=False) for n in (1, 3))
    process = 450e6
    assert more - process == pytest.approx(3 * (small - process))


def test_on_a_gpu_the_activations_are_not_in_main_memory() -> None:
    few, many = (training_memory_bytes(run_of((2, 2, 64), n), on_gpu=True) for n in (1, 960))
    assert few == many
