"""Simulated rows of replicates, the input of estimators, with known capacity ratios."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from knowcap.capacity.bit_complexity import SCORINGS, TERMS
from knowcap.capacity.table import ExperimentLabel
from knowcap.capacity.table_columns import LABELS, NO_REPLICATE

GPT2_COLUMNS: dict[str, Any] = {
    "optimizer": "AdamW",
    "precision": "trained",
    "kind": "bioS",
    "knowledge": "bioS(1000)",
    "num_people": 1000,
    "num_names": 160_000_000,
    "population_seed": 0,
    "num_attributes": np.nan,
    "num_chunks": np.nan,
    "diversity": np.nan,
    "chunk_length": np.nan,
    "alphabet_size": np.nan,
    "num_versions": 0,
    "rewriter": "",
    "tokenizer": "GPT2",
    "useful_share": 1.0,
    "num_junk_people": 0,
    "domain_token": False,
    "mixture_unit": "window",
    "family": "GPT2",
    "variation": "",
    "tied": True,
    "gated": False,
    "activation": "gelu",
    "normalization": "LayerNorm",
    "add_bias": True,
    "num_moe_experts": 0,
    "moe_router_topk": 0,
    "moe_expert_capacity_factor": np.inf,
    "num_attention_heads": 2,
    "hidden_size": 128,
    "num_params_embedding": 100_000,
    "num_params_active": 1_000_000,
    "bits_per_param": np.nan,
    "share_quantised": 0.0,
    "train_iters": 60_000,
    "num_tokens": 60_000 * 8192,
}
"""Columns of unmodified GPT2 on bioS."""


TUNED = (0.8, 1.0, 0.8)
"""Fractions of R at three learning rates, the best one in the middle."""

VALUE_SHARE = 0.75
"""Share of the bits that are values and not names."""


@dataclass
class Simulator:
    """Generator of rows of replicates, with noise between seeds."""

    rng: np.random.Generator
    noise: float = 0.02
    """Relative standard deviation of a capacity ratio between seeds."""
    num_seeds: int = 4
    num_made: int = 0
    """Number of models made so far, which numbers their names."""

    def models(
        self,
        ratios: np.ndarray | list[float],
        *,
        num_params: np.ndarray | list[int] | int = 1_000_000,
        max_ratio: np.ndarray | list[float] | float = 3.0,
        exposures: int = 1000,
        num_layers: np.ndarray | list[int] | int = 2,
        rates: tuple[float, ...] = TUNED,
        **columns: Any,
    ) -> pd.DataFrame:
        """Rows of models with mean capacity ratios `ratios` at their best learning rate.

        Learning rates reach the fractions `rates` of it. Other columns are those of unmodified
        GPT2 on bioS unless they are given in `columns`.
        """
        count = len(ratios)
        shape = pd.DataFrame(
            {
                **GPT2_COLUMNS,
                "run": [f"m{self.num_made + index}" for index in range(count)],
                "model": [f"GPT2-{index}" for index in range(count)],
                "exposures": exposures,
                "num_params": num_params,
                "num_layers": num_layers,
                "max_capacity_ratio": max_ratio,
                "mean": np.asarray(ratios, dtype=float),
                **columns,
            }
        )
        self.num_made += count
        shape["measurement"] = shape["run"] + "/" + shape["precision"]
        rows = shape.loc[np.repeat(shape.index, len(rates) * self.num_seeds)].reset_index(drop=True)
        rows["lr"] = np.tile(np.repeat(np.arange(1, len(rates) + 1) * 1e-3, self.num_seeds), count)
        rows["seed"] = np.tile(np.arange(self.num_seeds), len(rates) * count)
        fraction = np.tile(np.repeat(rates, self.num_seeds), count)
        noise = 1 + self.noise * self.rng.standard_normal(len(rows))
        rows["capacity_ratio"] = rows["mean"] * fraction * noise
        rows["bits"] = rows["capacity_ratio"] * rows["num_params"]
        rows["max_bits"] = rows["max_capacity_ratio"] * rows["num_params"]
        rows["capacity_ratio_chain_rule"] = rows["capacity_ratio"]
        rows["capacity_ratio_of_values"] = VALUE_SHARE * rows["capacity_ratio"]
        return rows.drop(columns="mean")


def table_of(experiments: dict[int, pd.DataFrame], scale: str = "simulated") -> xr.Dataset:
    """Table of a study with one experiment for each law."""
    named = {f"law {law}": models for law, models in experiments.items()}
    labels = {f"law {law}": ExperimentLabel((law,), scale) for law in experiments}
    return table_of_experiments(named, labels)


COLUMNS_OF_NO_LAW: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("corpus", "num_evaluated", "num_uncompensated"), ("measurement",)),
    "names_per_person": ("measurement",),
    **dict.fromkeys(("train_s", "tokens_per_s", "num_threads", "device"), ("measurement",)),
    **dict.fromkeys(("engine", "commit", "code_digest", "versions"), ("measurement",)),
    "trained_at": ("measurement",),
    **dict.fromkeys(("diverged", "divergence"), ("measurement", "replicate")),
}
"""Columns that describe a run and that no law reads, with their dims."""


def table_of_experiments(
    experiments: dict[str, pd.DataFrame], labels: Mapping[str, ExperimentLabel]
) -> xr.Dataset:
    """Table of a study, the inverse of `replicates`; experiments may share models."""
    columns = ["measurement", "seed", "lr"]
    rows = pd.concat(experiments.values()).drop_duplicates(columns).reset_index(drop=True)
    rows["replicate"] = rows.groupby("measurement").cumcount()
    shapes = rows.groupby("measurement", sort=False).first()
    table = xr.Dataset(coords={"measurement": shapes.index.to_numpy(dtype=object)})
    computed = [
        *("seed", "lr", "replicate", "bits"),
        *("capacity_ratio", "capacity_ratio_chain_rule", "capacity_ratio_of_values"),
    ]
    for name in shapes.columns.difference(computed):
        table[name] = ("measurement", shapes[name].to_numpy())
    replicate_columns = ["seed", "lr", "bits", "capacity_ratio"]
    wide = rows.pivot(index="measurement", columns="replicate", values=replicate_columns)
    for name in replicate_columns:
        values = wide[name].loc[shapes.index].to_numpy(dtype=float)
        table[name] = (("measurement", "replicate"), values)
    table["seed"] = table["seed"].fillna(NO_REPLICATE).astype(int)
    table = table.assign_coords(field=np.array([], dtype=object))
    table["setting"] = (("measurement", "field"), np.empty((len(shapes), 0), dtype=object))
    scoring = xr.Variable("scoring", list(SCORINGS))
    for name in ("bits", "capacity_ratio"):
        table[name] = table[name].expand_dims(scoring=scoring)
    table["max_bits"] = table["max_capacity_ratio"] * table["num_params"]
    shares = xr.DataArray([1 - VALUE_SHARE, VALUE_SHARE, 0.0], {"term": list(TERMS)}, "term")
    for dim, parts in (
        ("term", shares),
        ("attribute", xr.DataArray([1.0], {"attribute": ["employer"]}, "attribute")),
    ):
        table[f"bits_by_{dim}"] = table["bits"] * parts
        table[f"max_bits_by_{dim}"] = table["max_bits"] * parts
    laws = sorted({law for label in labels.values() for law in label.laws})
    table = table.assign_coords(experiment=list(experiments), law=laws)
    informs = [[law in labels[name].laws for law in laws] for name in experiments]
    table["informs"] = (("experiment", "law"), np.array(informs))
    scales = [labels[name].scale for name in experiments]
    table["scale"] = ("experiment", np.array(scales, dtype=object))
    members = [shapes.index.isin(models["measurement"]) for models in experiments.values()]
    table["member"] = (("experiment", "measurement"), np.array(members))
    for name, dims in COLUMNS_OF_NO_LAW.items():
        shape = [table.sizes[dim] for dim in dims]
        is_number = LABELS[name][0] != ""
        table[name] = (dims, np.zeros(shape) if is_number else np.full(shape, "", dtype=object))
    for name in LABELS:
        table[name].attrs = {"units": LABELS[name][0], "long_name": LABELS[name][1]}
    table["capacity_ratio"].attrs = {"units": "bit/parameter", "long_name": "capacity ratio R"}
    return table
