"""Synthetic studies in which a law holds, or fails by a factor: rows of replicates."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd

from knowcap.capacity.laws.model_filters import OTHER_TOKENIZER
from tests.capacity.laws.simulated_models import Simulator

SIZES = np.array([100_000, 200_000, 400_000, 800_000, 1_600_000])
LLAMA = {"tied": False, "gated": True, "activation": "silu", "normalization": "RMSNorm",
         "add_bias": False}  # fmt: skip
GPT2 = {"tied": True, "gated": False, "activation": "gelu", "normalization": "LayerNorm",
        "add_bias": True}  # fmt: skip
SWITCHES = {"LLaMA": LLAMA, "Mistral": LLAMA, "GPT2_quarter": GPT2, "GPT2_0": GPT2}
BIOD = {"num_attributes": 16, "num_chunks": 4, "diversity": 100, "chunk_length": 4,
        "alphabet_size": 40}  # fmt: skip


def base(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    filled = sim.models([2.05 * factor] * 5, num_params=SIZES, num_layers=[2, 4, 2, 8, 4])
    roomy = sim.models([1.2 * factor], num_params=3_200_000, max_ratio=1.2)
    return pd.concat([filled, roomy])


def formats(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    return pd.concat(
        [
            sim.models([2.0]),
            sim.models([1.95 * factor], kind="bioS-simple", num_versions=1),
            sim.models([1.9 * factor], kind="bioR", num_versions=40, rewriter="grammar"),
            sim.models([1.5], kind="bioD", **BIOD),
            sim.models([1.4625 * factor], kind="bioD", num_versions=1, **BIOD),
            sim.models([1.425 * factor], kind="bioD", num_versions=40, **BIOD),
        ]
    )


def shapes(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    """Three values of each of K, C, D, L and T; `factor` applies to large K."""
    varied = [BIOD] + [BIOD | {name: BIOD[name] * by} for name in BIOD for by in (0.25, 5)]
    return pd.concat(
        [
            sim.models(
                [1.6, 2.1 * (factor if shape["num_attributes"] > 50 else 1)],
                kind="bioD", knowledge=f"bioD {index}", num_params=[100_000, 200_000], **shape,
            )
            for index, shape in enumerate(varied)
        ]
    )  # fmt: skip


def rare(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    """The same models with 30 to 10,000 exposures; 100 exposures store half of what 1000 store."""
    exposures = np.array([30, 100, 300, 1000, 3000, 10_000])
    limit, half, power = 2.1 * factor, 100 * 0.96 ** (1 / 1.4), 1.4
    ratios = limit / (1 + (half / exposures) ** power)
    return pd.concat(
        [
            sim.models(list(ratios), exposures=exposures, num_params=size, model="GPT2")
            for size in SIZES
        ]
    )


def families(sim: Simulator, exposures: int, factors: dict[str, float]) -> pd.DataFrame:
    """Families of sizes between those of GPT2, with several learning rates."""
    gpt2 = sim.models(
        list(2 * (SIZES / 1e5) ** 0.05), num_params=SIZES, exposures=exposures, rates=(1.0, 0.9)
    )
    between = np.array([140_000, 300_000, 1_000_000])
    return pd.concat(
        [gpt2]
        + [
            sim.models(
                list(factor * 2 * (between / 1e5) ** 0.05), num_params=between,
                exposures=exposures, family=family, rates=(0.8, 1.0, 0.9), **SWITCHES[family],
            )
            for family, factor in factors.items()
        ]
    )  # fmt: skip


def architectures(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    ratios = {"LLaMA": 0.97, "Mistral": 0.95, "GPT2_quarter": 1.0, "GPT2_0": 1.0}
    return families(sim, 1000, {name: ratio * factor for name, ratio in ratios.items()})


def rare_architectures(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    ratios = {"LLaMA": 0.77, "Mistral": 0.77, "GPT2_quarter": 1.0, "GPT2_0": 0.6}
    return families(sim, 100, {name: ratio * factor for name, ratio in ratios.items()})


def gated_mlp(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    """Models from tied LLaMA to GPT2 that differ in one choice at a time, at two sizes."""
    llama = LLAMA | {"tied": True, "tokenizer": OTHER_TOKENIZER}
    steps = [
        {},
        {"gated": False},
        {"tokenizer": "GPT2"},
        {"gated": False, "tokenizer": "GPT2"},
        {"gated": False, "tokenizer": "GPT2", "activation": "gelu"},
        GPT2 | {"tokenizer": "GPT2"},
    ]
    rows = []
    for size, step in itertools.product((2, 4), steps):
        switches = llama | step
        ratio = 1.0 * (0.77 * factor if switches["gated"] else 1) * size**0.1
        ratio *= 0.9 if switches["tokenizer"] == OTHER_TOKENIZER else 1
        family = "GPT2" if switches == llama | steps[-1] else "LLaMA"
        rows.append(sim.models([ratio], num_layers=size, exposures=100, family=family, **switches))
    return pd.concat(rows)


def quantization(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    """Models in three precisions; `factor` applies to int8 and its inverse to int4."""
    trained = sim.models([2.2, 2.1, 2.0], rates=(0.9, 1.0))
    precisions = [trained.assign(bits_per_param=32.0)]
    for precision, share, bits in (("int8", factor, 8.0), ("int4", 0.3 / factor, 4.0)):
        luck = 1 + 0.1 * sim.noise * sim.rng.standard_normal(len(trained))
        precisions.append(
            trained.assign(
                precision=precision, bits_per_param=bits,
                measurement=trained["run"] + f"/{precision}",
                capacity_ratio=trained["capacity_ratio"] * share * luck,
            )
        )  # fmt: skip
    return pd.concat(precisions)


def experts(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    sparse = {"num_moe_experts": 32, "num_params_embedding": 100_000,
              "num_params_active": 100_000 + 79_200}  # fmt: skip
    return pd.concat(
        [
            sim.models([0.9 * peak, peak], exposures=exposures, num_params=1_000_000, **kind)
            for exposures, peak, kind in (
                (1000, 2.0, {}),
                (100, 1.2, {}),
                (1000, 2.0 / 1.3 * factor, sparse),
                (100, 1.2 / 1.5 * factor, sparse),
            )
        ]
    )


def mixed(
    sim: Simulator,
    peaks: dict[int, float],
    num_junk_people: int,
    *,
    domain_token: bool = False,
) -> pd.DataFrame:
    """Two populations with 1.1 bits per parameter without junk, and `peaks` with junk."""
    groups = []
    for num_people in (1000, 4000):
        same = {"num_people": num_people, "knowledge": f"bioS({num_people})"}
        groups.append(sim.models([0.8, 1.1], exposures=100, **same))
        groups += [
            sim.models(
                [0.7 * peak, peak], exposures=exposures, useful_share=1 / 8,
                num_junk_people=num_junk_people, domain_token=domain_token, **same,
            )
            for exposures, peak in peaks.items()
        ]  # fmt: skip
    return pd.concat(groups)


def junk(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    peaks = {100: 0.05, 300: 1.1 / 3, 600: 1.1 / 1.5, 1000: 1.1 / 1.3}
    return mixed(sim, {e: peak * factor for e, peak in peaks.items()}, 10**6)


def repetitive(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    return mixed(sim, {100: 1.1 * factor}, 20)


def domain(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    peaks = {100: 0.55 * factor, 300: 1.12 * factor}
    return mixed(sim, peaks, 10**6, domain_token=True)


STUDIES: dict[int, tuple[Callable[..., pd.DataFrame], float]] = {
    1: (base, 0.7),
    2: (formats, 0.6),
    3: (shapes, 0.7),
    4: (rare, 0.3),
    5: (architectures, 0.7),
    6: (rare_architectures, 1.4),
    7: (gated_mlp, 1.3),
    8: (quantization, 0.5),
    9: (experts, 1.5),
    10: (junk, 3.0),
    11: (repetitive, 0.6),
    12: (domain, 0.3),
}
"""By law: a synthetic study, and a factor with which the law fails."""

TRUE_VALUES: dict[int, dict[str, float]] = {
    1: {"peak R": 2.05, "exponent of bits in P, for models with R_max of at least 2": 1.0},
    2: {
        "R with one fixed biography per person, relative to fresh ones": 0.975,
        "R with several fixed biographies per person, relative to fresh ones": 0.95,
        "peak R with several fixed biographies per person, relative to fresh ones": 0.95,
    },
    3: {"lowest peak R over all shapes": 2.1, "exponent of peak R in K": 0.0},
    4: {"R extrapolated to unlimited exposures, relative to 1000 exposures": 1 + 0.1**1.4 * 0.96},
    5: {"R of LLaMA, relative to GPT2 of equal size": 0.97},
    6: {"R of GPT2 without MLPs, relative to GPT2 of equal size": 0.6},
    7: {
        "factor on R of the gated MLP": 0.77,
        "factor on R of the Mistral tokenizer": 0.9,
        "factor on R of RMSNorm without biases": 1.0,
    },
    8: {
        "R in int8, relative to R as trained": 1.0,
        "R in int4, relative to R as trained": 0.3,
        "highest number of knowledge bits per bit of int8 storage": 2.2 / 8,
    },
    9: {
        "peak R of mixtures of experts, relative to dense models, at 1000 exposures": 1 / 1.3,
        "lowest share of parameters active for a token, without embedding": 0.088,
    },
    10: {
        "peak R at 100 exposures with random junk, relative to 100 exposures without junk":
            0.05 / 1.1,
        "peak R at 300 exposures with random junk, relative to 100 exposures without junk": 1 / 3,
    },
    11: {
        "peak R at 100 exposures with repetitive junk, relative to 100 exposures without junk": 1.0
    },
    12: {
        "peak R at 100 exposures with random junk and a domain token, "
        "relative to 100 exposures without junk":
            0.5,
    },
}  # fmt: skip
"""True values of some quantities in these studies."""
