"""Settings of runs in comparisons: what is tuned, and what is equal on both sides.

Rows of replicates have a column for each field of the record that differs between the runs of a
study, named as in study files. A field is equal on both sides of a comparison unless it is in
:data:`TUNED`, or is one of those that the law compares. So a new option needs no change here.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import xarray as xr

TUNED = frozenset(
    {
        *("optimization.global_batch_size", "optimization.weight_decay"),
        *("optimization.lr_warmup_iters", "optimization.lr_warmup_fraction"),
        *("replicates.lr", "replicates.seeds"),
    }
)
"""Fields that the paper tunes for each model. Of models that differ in them only, the best counts.
"""

SIZE_SETTINGS = frozenset(
    f"architecture.{name}" for name in ("num_layers", "num_attention_heads", "kv_channels")
)
"""Fields that set the size of a model."""

ARCHITECTURE_SETTINGS = SIZE_SETTINGS | frozenset(
    f"architecture.{name}"
    for name in (
        *("family", "tied", "gated", "activation", "normalization", "add_bias", "mlp_weights"),
        *("num_query_groups", "num_moe_experts", "moe_router_topk", "moe_expert_capacity_factor"),
        *("moe_eval_capacity_factor", "moe_aux_loss_coeff"),
    )
)
"""Fields that differ between architectures; rotary embedding and initialization do not."""


def with_settings(rows: pd.DataFrame, table: xr.Dataset) -> pd.DataFrame:
    """Rows of replicates with a column for each field that differs between the runs."""
    settings = pd.DataFrame(
        table["setting"].values.astype(str),
        index=table["measurement"].values,
        columns=table["field"].values.tolist(),
    )
    return rows.join(settings, on="measurement")


def settings_of(frame: pd.DataFrame) -> list[str]:
    """Columns of rows or cells that are fields of the record and are not tuned.

    Those of a cell's baseline are not among them.
    """
    names = (str(name) for name in frame.columns if not str(name).endswith("_baseline"))
    return [name for name in names if "." in name and name not in TUNED]


def held_settings(frame: pd.DataFrame, varied: Iterable[str] = ()) -> list[str]:
    """Fields that are equal on both sides of a comparison; `varied` and their parts are not."""
    prefixes = tuple(f"{name}." for name in varied)
    return [name for name in settings_of(frame) if not f"{name}.".startswith(prefixes)]


def closest_baselines(pairs: pd.DataFrame, cell: str, settings: Iterable[str]) -> pd.DataFrame:
    """For each cell the baseline that shares most settings with it, then the nearest R_max.

    Parameters
    ----------
    pairs
        Pairs of cells; columns of the baseline end in ``_baseline``.
    cell
        Column that numbers the cells that baselines are found for.
    settings
        Fields that may differ in a pair.
    """
    num_different = np.zeros(len(pairs))
    for name in settings:
        num_different += (pairs[name] != pairs[f"{name}_baseline"]).to_numpy()
    ratio = pairs["max_capacity_ratio"] / pairs["max_capacity_ratio_baseline"]
    order = np.lexsort((np.abs(np.log(ratio.to_numpy(dtype=float))), num_different))
    return pairs.iloc[order].drop_duplicates(cell).sort_values(cell).drop(columns=cell)
