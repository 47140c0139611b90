"""Cells: one row per model size and population, on both sides of a comparison.

Columns of a cell: ``value``, ``variance`` and ``degrees_of_freedom`` of its mean over seeds; of a
comparison also the same of the ``baseline``. ``edge_loss`` is the largest ratio of R at a best
learning rate that is the first or last one to R at the next rate. The other columns describe the
models.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from knowcap.capacity.laws.estimators import (
    Floats,
    Moments,
    interpolated_moments,
    moments,
    paired_ratio_moments,
    ratio_moments,
    values_without_selection_bias,
)
from knowcap.capacity.laws.settings import (
    ARCHITECTURE_SETTINGS,
    closest_baselines,
    held_settings,
    settings_of,
)

SAME_MODEL = ("knowledge", "population_seed", "model")
"""Columns that are equal on both sides if the same architecture is trained differently."""

SAME_PEOPLE = ("knowledge", "population_seed")
"""Columns that are equal on both sides if architectures are compared."""

INTERPOLATION_FACTOR = 2.5
"""Largest ratio of two sizes of the baseline between which R is interpolated."""
# ASSUME: in the scale model R rises by a tenth when P is three times larger (docs/scale-model.md),
# so the logarithm is nearly linear between such sizes.

DESCRIPTION = (
    *("knowledge", "population_seed", "model", "num_people", "num_names", "num_junk_people"),
    *("num_wordings", "num_params", "max_capacity_ratio", "exposures", "num_layers"),
    *("num_attention_heads", "hidden_size", "num_moe_experts", "gated", "activation"),
    *("normalization", "num_attributes", "num_chunks", "diversity", "chunk_length"),
    *("alphabet_size", "bits_per_param", "share_quantised"),
)
"""Columns of the table that cells keep."""


def cells(
    models: pd.DataFrame, column: str, keys: tuple[str, ...] = (*SAME_MODEL, "num_params")
) -> pd.DataFrame:
    """Mean of `column` of each group of models that are equal in `keys` and in their settings.

    Several learning rates of a model, and several models that differ in other tuned settings only
    (such as two batch sizes), are candidates of which the best one counts, selected without luck.
    """
    models = models[models[column].notna()]
    keys = tuple(dict.fromkeys((*keys, *settings_of(models))))
    groups = models.groupby(list(keys), sort=False, dropna=False)
    return pd.DataFrame([_cell(group, column, keys) for _, group in groups])


def compare(
    models: pd.DataFrame,
    baselines: pd.DataFrame,
    column: str,
    keys: tuple[str, ...] = SAME_MODEL,
    own_keys: tuple[str, ...] = (),
    *,
    varied: Collection[str],
) -> pd.DataFrame:
    """Cells with the ratio of `column` to the baseline that is equal in `keys`.

    All settings but `varied` are equal too. Models that are equal in `keys` and differ in
    `own_keys`, or in settings that are varied, are different cells.
    """
    if models.empty or baselines.empty:
        return pd.DataFrame()
    left, right = cells(models, column, (*keys, *own_keys)), cells(baselines, column, keys)
    if left.empty or right.empty:
        return pd.DataFrame()
    held = held_settings(left, varied)
    pairs = left.assign(cell=range(len(left))).merge(
        right, on=list(dict.fromkeys((*keys, *held))), suffixes=("", "_baseline")
    )
    free = [name for name in settings_of(left) if name not in (*keys, *held)]
    return _with_ratio(closest_baselines(pairs, "cell", free))


def compare_equal_size(models: pd.DataFrame, baselines: pd.DataFrame, column: str) -> pd.DataFrame:
    """Cells with the ratio of `column` to a baseline on the same people, of equal size.

    Settings of the architecture differ, all others are equal.

    The baseline is interpolated, in logarithms, between the next smaller and the next larger size
    if these are less than INTERPOLATION_FACTOR apart. Otherwise it is the nearest size; a
    precondition tests whether that is near enough. To avoid the kink between capacity-limited and
    data-limited models, callers leave out the latter.
    """
    if models.empty or baselines.empty:
        return pd.DataFrame()
    left, right = cells(models, column), cells(baselines, column)
    if left.empty or right.empty:
        return pd.DataFrame()
    pairs = []
    same_keys = [*SAME_PEOPLE, *held_settings(left, ARCHITECTURE_SETTINGS)]
    for _, cell in left.iterrows():
        same = right[(right[same_keys] == cell[same_keys]).all(axis="columns")]
        if not same.empty:
            base = _baseline_at(same.sort_values("num_params"), float(cell["num_params"]))
            pairs.append(pd.concat([cell, base.add_suffix("_baseline")]))
    return _with_ratio(pd.DataFrame(pairs)) if pairs else pd.DataFrame()


def compare_trainings(models: pd.DataFrame, precision: str, column: str) -> pd.DataFrame:
    """Cells with the fraction of `column` that a training keeps in a precision.

    Every training is compared with itself, at the learning rate that is best as trained. The
    selection is the same on both sides, so luck cancels in the fraction.
    """
    rows = []
    trained = models[models["precision"] == "trained"]
    for run, quantised in models[models["precision"] == precision].groupby("run", sort=False):
        own = trained[trained["run"] == run].set_index(["lr", "seed"])[column]
        if own.empty:
            continue
        means = own.groupby(level="lr").mean()
        best = float(means.index[int(means.argmax())])
        kept = quantised[quantised["lr"] == best].set_index("seed")
        as_trained = own.xs(best, level="lr")
        pairs = pd.DataFrame({"kept": kept[column], "trained": as_trained}).dropna()
        found = paired_ratio_moments(*pairs.to_numpy().T)
        base = moments(pairs["trained"].to_numpy())
        rows.append(
            _describe(quantised)
            | _columns(found)
            | {f"{name}_baseline": value for name, value in _columns(base).items()}
            | {
                "num_seeds": len(pairs),
                "num_replicates": len(pairs),
                "num_params_baseline": quantised["num_params"].iloc[0],
                "capacity_ratio_baseline": float(base.mean),
            }
        )
    return pd.DataFrame(rows)


def _cell(group: pd.DataFrame, column: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """One cell from all rows of its candidates."""
    measurement, _ = pd.factorize(group["measurement"])
    pairs = np.column_stack([measurement, group["lr"].to_numpy()])
    candidates, candidate = np.unique(pairs, axis=0, return_inverse=True)
    seeds, seed = np.unique(group["seed"].to_numpy(), return_inverse=True)
    values = np.full((len(candidates), len(seeds)), np.nan)
    values[candidate, seed] = group[column]
    with np.errstate(invalid="ignore"):
        means = np.nansum(values, axis=1) / np.isfinite(values).sum(axis=1)
    best = int(np.nanargmax(means))
    own_rates = candidates[:, 0] == candidates[best, 0]
    chosen = values_without_selection_bias(values)
    is_one_seed = int(np.isfinite(values).sum(axis=1).max()) < 2
    at_best = candidate == best
    return (
        {str(key): group[key].iloc[0] for key in keys}
        | _describe(group[at_best])
        | _columns(moments(chosen))
        | {
            "num_seeds": int(np.isfinite(chosen).sum()),
            "num_replicates": int(np.isfinite(values).sum()),
            "is_selected_by_luck": is_one_seed and len(values) > 1,
            "num_rates": int(own_rates.sum()),
            "edge_loss": _edge_loss(candidates[own_rates, 1], means[own_rates]),
            "capacity_ratio": float(group["capacity_ratio"].to_numpy()[at_best].mean()),
        }
    )


def _edge_loss(rates: Floats, means: Floats) -> float:
    """Ratio of the best learning rate to the next, if the best is the first or last one.

    1 if the best rate is inside the range, infinite if only one was tried.
    """
    values = means[np.argsort(rates)]
    best = int(values.argmax())
    if len(values) == 1:
        return math.inf
    if 0 < best < len(values) - 1:
        return 1.0
    following = values[1] if best == 0 else values[-2]
    return float(values[best] / following) if following > 0 else math.inf


def _describe(group: pd.DataFrame) -> dict[str, Any]:
    """Columns of the models of a cell."""
    num_steps = group["train_iters"].to_numpy()
    first = group.iloc[0]
    return {name: first[name] for name in DESCRIPTION if name in first.index} | {
        "train_iters": int(num_steps.min()),
        "tokens_per_step": float((group["num_tokens"].to_numpy() / num_steps).min()),
    }


def _columns(found: Moments) -> dict[str, Any]:
    return {
        "value": float(found.mean),
        "variance": float(found.variance),
        "degrees_of_freedom": float(found.degrees_of_freedom),
    }


def _moments_of(pairs: pd.DataFrame, suffix: str) -> Moments:
    names = ("value", "variance", "degrees_of_freedom")
    return Moments(*(pairs[f"{name}{suffix}"].to_numpy(dtype=float) for name in names))


def _with_ratio(pairs: pd.DataFrame) -> pd.DataFrame:
    """Replace the values of the left side by their ratios to the baseline."""
    found = ratio_moments(_moments_of(pairs, ""), _moments_of(pairs, "_baseline"))
    return pairs.assign(
        model_value=pairs["value"],
        value=found.mean,
        variance=found.variance,
        degrees_of_freedom=found.degrees_of_freedom,
    )


def _baseline_at(baselines: pd.DataFrame, size: float) -> pd.Series[Any]:
    """Baseline of a size: interpolated between two cells, or the nearest one."""
    sizes = baselines["num_params"].to_numpy(dtype=float)
    nearest = baselines.iloc[int(np.abs(np.log(sizes / size)).argmin())].copy()
    above = int(np.searchsorted(sizes, size))
    if not 0 < above < len(sizes) or sizes[above] == size:
        return nearest
    small, large = baselines.iloc[above - 1], baselines.iloc[above]
    is_far = sizes[above] / sizes[above - 1] > INTERPOLATION_FACTOR
    if is_far or min(small["value"], large["value"]) <= 0:
        return nearest
    weight = math.log(size / sizes[above - 1]) / math.log(sizes[above] / sizes[above - 1])
    lower_end, upper_end = (
        _moments_of(baselines.iloc[[index]], "") for index in (above - 1, above)
    )
    at_size = interpolated_moments(lower_end, upper_end, weight)
    found = _columns(Moments(*(part[0] for part in at_size)))
    for name, number in found.items():
        nearest[name] = number
    for name, combine in (
        ("num_seeds", min), ("num_replicates", sum), ("edge_loss", max), ("num_rates", min),
        ("train_iters", min), ("is_selected_by_luck", any),
    ):  # fmt: skip
        nearest[name] = combine([small[name], large[name]])
    nearest["num_params"] = size
    return nearest
