"""Synthetic studies in which a law holds, or fails by a factor: rows of replicates.

Every study has two model sizes or more, two populations and three learning rates, and meets all
preconditions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from knowcap.capacity.laws.model_filters import OTHER_TOKENIZER
from tests.capacity.laws.simulated_models import TUNED, Simulator

SIZES = (1_000_000, 2_000_000)
POPULATIONS = (0, 1)
LLAMA = {"gated": True, "activation": "silu", "normalization": "RMSNorm", "add_bias": False}
GPT2 = {"gated": False, "activation": "gelu", "normalization": "LayerNorm", "add_bias": True}
SWITCHES = {"LLaMA": LLAMA | {"tied": False}, "Mistral": LLAMA | {"tied": False},
            "GPT2_quarter": GPT2, "GPT2_0": GPT2}  # fmt: skip
BIOD = {"num_attributes": 16, "num_chunks": 4, "diversity": 100, "chunk_length": 4,
        "alphabet_size": 40}  # fmt: skip

EXPERTS = {"num_moe_experts": 32, "moe_router_topk": 1, "moe_expert_capacity_factor": 2.0}


def grid(
    sim: Simulator,
    ratio: float,
    sizes: Sequence[int] = SIZES,
    rates: tuple[float, ...] = TUNED,
    **columns: Any,
) -> pd.DataFrame:
    """Models of each size on each population, with a mean capacity ratio."""
    rows = []
    for index, size in enumerate(sizes):
        same = {"num_params": size, "model": f"model {index}", "hidden_size": 128 * (index + 1)}
        rows += [
            sim.models([ratio], rates=rates, population_seed=seed, **(same | columns))
            for seed in POPULATIONS
        ]
    return pd.concat(rows)


def base(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    return pd.concat(
        [
            grid(sim, 2.05 * factor, (1_000_000, 2_000_000, 4_000_000), max_ratio=2.6),
            grid(sim, 1.17 * min(factor, 1), max_ratio=1.2, num_people=500),
        ]
    )


def formats(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    rewritten = {"kind": "bioR", "num_versions": 40, "rewriter": "grammar"}
    return pd.concat(
        [
            grid(sim, 2.0),
            grid(sim, 1.95 * factor, kind="bioS-simple", num_versions=1),
            grid(sim, 1.9 * factor, **rewritten),
        ]
    )


def shapes(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    """Three values of each of K, C, D, L and T; `factor` applies when K is four times larger."""
    varied = [BIOD] + [BIOD | {name: BIOD[name] * by} for name in BIOD for by in (0.25, 4)]
    return pd.concat(
        [
            grid(
                sim, 1.8 * factor ** (np.log(shape["num_attributes"] / 16) / np.log(4)),
                kind="bioD", knowledge=f"bioD {index}", **shape,
            )
            for index, shape in enumerate(varied)
        ]
    )  # fmt: skip


def rare(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    """The same models with 30 to 3000 exposures; 100 exposures store half of what 1000 store."""
    exposures = np.array([30, 100, 300, 1000, 3000])
    ratios = 2.1 / (1 + (100 * 0.96 ** (1 / 1.4) / exposures) ** 1.4)
    ratios[1] *= factor
    return pd.concat(
        [
            grid(sim, ratio, exposures=exposure)
            for exposure, ratio in zip(exposures, ratios, strict=True)
        ]
    )


def families(sim: Simulator, exposures: int, factors: dict[str, float]) -> pd.DataFrame:
    """Families of the sizes of GPT2, and of a size between them."""
    base_ratio = 1.9 if exposures == 1000 else 1.0
    sizes = (*SIZES, 1_500_000)
    return pd.concat(
        [grid(sim, base_ratio, exposures=exposures)]
        + [
            grid(
                sim, factor * base_ratio, sizes, exposures=exposures, family=family,
                **SWITCHES[family],
            )
            for family, factor in factors.items()
        ]
    )  # fmt: skip


def architectures(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    ratios = {"LLaMA": 0.97, "Mistral": 0.97, "GPT2_quarter": 1.0, "GPT2_0": 1.0}
    return families(sim, 1000, {name: ratio * factor for name, ratio in ratios.items()})


def rare_architectures(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    ratios = {"LLaMA": 0.77, "Mistral": 0.77, "GPT2_quarter": 1.0, "GPT2_0": 0.6}
    return families(sim, 100, {name: ratio * factor for name, ratio in ratios.items()})


def gated_mlp(sim: Simulator, factor: float = 1.0, with_gelu: float = 1 / 1.3) -> pd.DataFrame:
    """Tied LLaMA with each difference undone; GPT2 stores 1.3 times more than LLaMA.

    `factor` applies to the gate with SiLU: models with standard MLPs store less instead.
    `with_gelu` is the effect of the gate with GELU.
    """
    rows = [grid(sim, 1.3, exposures=100, **GPT2)]
    for gated, is_silu, is_rms in itertools.product((True, False), repeat=3):
        if not (gated or is_silu or is_rms):
            continue  # this is GPT2
        switches = {
            "gated": gated, "activation": "silu" if is_silu else "gelu",
            "normalization": "RMSNorm" if is_rms else "LayerNorm", "add_bias": not is_rms,
            "family": "LLaMA",
            "variation": "tied" if gated and is_silu and is_rms else "tied, changed",
        }  # fmt: skip
        gated_ratio = 1.0 if is_silu else 1.3 * with_gelu
        standard_ratio = 1.3 / factor if is_silu else 1.3
        ratio = gated_ratio if gated else standard_ratio
        rows.append(grid(sim, ratio, exposures=100, **switches))
    other = {"tokenizer": OTHER_TOKENIZER, "family": "LLaMA", "variation": "tied, tokenizer"}
    rows.append(grid(sim, 0.95, exposures=100, **(LLAMA | other)))
    return pd.concat(rows)


def quantization(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    """Models in three precisions; `factor` applies to int8 and its inverse to int4."""
    trained = grid(sim, 2.0)
    precisions = [trained.assign(bits_per_param=32.0)]
    for precision, share, bits in (("int8", factor, 9.5), ("int4", 0.4 / factor, 6.5)):
        luck = 1 + 0.1 * sim.noise * sim.rng.standard_normal(len(trained))
        precisions.append(
            trained.assign(
                precision=precision, bits_per_param=bits, share_quantised=0.8,
                measurement=trained["run"] + f"/{precision}",
                capacity_ratio=trained["capacity_ratio"] * share * luck,
            )
        )  # fmt: skip
    return pd.concat(precisions)


def experts(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    sparse = EXPERTS | {"num_params_active": 179_200}
    return pd.concat(
        [
            grid(sim, peak, exposures=exposures, **kind)
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
    ratios: dict[int, float],
    num_junk_people: int,
    *,
    domain_token: bool = False,
) -> pd.DataFrame:
    """Models with 1.1 bits per parameter without junk, and `ratios` with junk."""
    junk = {"useful_share": 1 / 8, "num_junk_people": num_junk_people, "domain_token": domain_token}
    return pd.concat(
        [grid(sim, 1.1, exposures=100)]
        + [grid(sim, ratio, exposures=exposures, **junk) for exposures, ratio in ratios.items()]
    )


def junk(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    ratios = {100: 0.05, 300: 1.1 / 3, 600: 1.1 / 1.5, 1000: 1.1 / 1.3}
    return mixed(sim, {e: ratio * factor for e, ratio in ratios.items()}, 10**6)


def repetitive(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    return mixed(sim, {100: 1.1 * factor}, 20)


def domain(sim: Simulator, factor: float = 1.0) -> pd.DataFrame:
    ratios = {100: 0.55 * factor, 300: 1.12 * factor}
    return mixed(sim, ratios, 10**6, domain_token=True)


STUDIES: dict[int, tuple[Callable[..., pd.DataFrame], float]] = {
    1: (base, 0.7),
    2: (formats, 0.6),
    3: (shapes, 0.7),
    4: (rare, 0.4),
    5: (architectures, 0.7),
    6: (rare_architectures, 1.5),
    7: (gated_mlp, 1.3),
    8: (quantization, 0.6),
    9: (experts, 1.5),
    10: (junk, 3.0),
    11: (repetitive, 0.6),
    12: (domain, 0.3),
}
"""By law: a synthetic study, and a factor with which the law fails."""

TRUE_VALUES: dict[int, dict[str, float]] = {
    1: {
        "R of the largest models": 2.05,
        "R / R_max of models with R_max up to 1.8": 0.975,
        "exponent of bits in P, at similar R_max": 1.0,
    },
    2: {
        "R with one fixed biography per person, relative to fresh ones": 0.975,
        "R with several fixed biographies per person, relative to fresh ones": 0.95,
    },
    3: {f"factor on R when {letter} is 4 times larger": 1.0 for letter in "KCDLT"},
    4: {
        "R extrapolated to unlimited exposures, relative to 1000 exposures": 1 + 0.1**1.4 * 0.96,
        "R of the largest models at 100 exposures": 2.1 / 1.96,
    },
    5: {"R of LLaMA, relative to GPT2 of equal size": 0.97},
    6: {"R of GPT2 without MLPs, relative to GPT2 of equal size": 0.6},
    7: {
        "factor on R of the gated MLP in LLaMA": 1 / 1.3,
        "factor on R of the Mistral tokenizer": 0.95,
        "factor on R of RMSNorm without biases": 1.0,
    },
    8: {"R in int8, relative to R as trained": 1.0, "R in int4, relative to R as trained": 0.4},
    9: {
        "R of mixtures of experts, relative to dense models of equal size, E = 1000": 1 / 1.3,
        "R of mixtures of experts, relative to dense models of equal size, E = 100": 1 / 1.5,
    },
    10: {
        "R at 100 exposures with random junk, relative to 100 exposures without junk": 0.05 / 1.1,
        "R at 300 exposures with random junk, relative to 100 exposures without junk": 1 / 3,
    },
    11: {
        "R of values only at 100 exposures with repetitive junk, "
        "relative to 100 exposures without junk": 1.0
    },
    12: {
        "R at 100 exposures with random junk and a domain token, "
        "relative to 100 exposures without junk": 0.5,
    },
}  # fmt: skip
"""True values of some quantities in these studies."""
