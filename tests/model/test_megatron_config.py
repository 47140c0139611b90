"""Models have the shapes and numbers of parameters of the paper."""

import pytest
import torch

from knowcap.config import Architecture
from knowcap.model.megatron_config import gpt_model
from knowcap.model.megatron_core import init_process_groups
from knowcap.model.num_params import num_params
from knowcap.model.stacked_model import build_model

# PAPER Fig. 1a: sizes that its points' horizontal positions give, in millions
PAPER_SIZES = """
2-2 .816, 3-2 1.014, 4-2 1.213, 5-2 1.411, 2-3 1.519, 6-2 1.609, 7-2 1.807, 8-2 2.006, 4-3 2.409,
2-4 2.418, 5-3 2.854, 3-4 3.208, 6-3 3.298, 4-4 3.998, 5-4 4.788, 2-6 4.807, 6-4 5.577, 3-6 6.582,
8-4 7.157, 2-8 7.983, 4-6 8.356, 10-4 8.737, 5-6 10.13, 12-4 10.32, 6-6 11.91, 16-4 13.48,
8-6 15.45, 9-6 17.23, 10-6 19.00, 6-8 20.59, 12-6 22.55, 7-8 23.74, 8-8 26.90, 4-12 30.87,
10-8 33.20, 12-8 39.51, 2-20 43.55, 6-12 45.04, 16-8 52.12, 8-12 59.22, 3-20 63.23, 6-16 78.93,
4-20 82.90, 12-12 87.57, 8-16 104.1, 16-12 115.9, 6-20 122.3, 20-12 144.3, 12-16 154.5, 8-20 161.6,
6-24 175.0, 16-16 204.9, 8-24 231.7, 12-20 240.3, 20-16 255.3, 14-20 279.7, 24-16 305.7,
16-20 319.0, 12-24 345.0, 28-16 356.1
"""
PAPER_VOCAB_SIZE = 3275


def gpt2(size: str, kv_channels: int = 64) -> Architecture:
    return Architecture.model_validate(
        {
            "family": "GPT2",
            "size": size,
            "kv_channels": kv_channels,
            "rotary_percent": 0.25,
            "rotary_base": 10_000,
            "init_method_std": 0.02,
        }
    )


@pytest.mark.parametrize("entry", [entry.strip() for entry in PAPER_SIZES.split(",")])
def test_num_params_equals_that_of_the_paper(entry):
    size, millions = entry.split()
    total = num_params(gpt2(size), PAPER_VOCAB_SIZE)["total"]
    unit = 10.0 ** -len(millions.partition(".")[2])
    # the values are read off a figure and nearly exact in their last digit
    assert total / 1e6 == pytest.approx(float(millions), abs=0.6 * unit)


def test_kinds_add_up_to_the_total():
    parts = num_params(gpt2("12-12"), PAPER_VOCAB_SIZE)
    assert parts.pop("active") == parts.pop("total") == sum(parts.values())


def count_by_kind(named_parameters) -> dict[str, int]:
    """Number of parameters by kind, from their names."""
    kinds = {"embedding": 0, "attention": 0, "mlp": 0, "norm": 0}
    for name, parameter in named_parameters:
        kind = next(
            kind
            for kind, part in (
                ("norm", "layernorm"),
                ("attention", "self_attention"),
                ("mlp", "mlp"),
                ("embedding", "embedding"),
            )
            if part in name
        )
        kinds[kind] += parameter.numel()
    total = sum(kinds.values())
    return {**kinds, "output_layer": 0, "router": 0, "total": total, "active": total}


@pytest.mark.parametrize("size", ["2-2", "12-12", "28-16"])
def test_megatrons_model_has_the_counted_parameters(size):
    init_process_groups()
    with torch.device("meta"):
        model = gpt_model(gpt2(size), PAPER_VOCAB_SIZE, max_sequence_length=512)
    assert count_by_kind(model.named_parameters()) == num_params(gpt2(size), PAPER_VOCAB_SIZE)


def test_the_stacked_model_has_the_counted_parameters():
    architecture = gpt2("2-2", kv_channels=8)
    model = build_model(architecture, 11, (1, 2, 3), init_process_groups(), torch.float32)
    one = [(name, parameter[0]) for name, parameter in model.named_parameters()]
    assert count_by_kind(one) == num_params(architecture, 11)
    assert model.flat.shape == (3, num_params(architecture, 11)["total"])
