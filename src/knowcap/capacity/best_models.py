"""Models that figures and the report show: each at its best learning rate, over its seeds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from knowcap.capacity.comparison_labels import Comparison
from knowcap.capacity.laws import LAWS

ModelFilter = Callable[[pd.DataFrame], pd.DataFrame]

STATISTICS = ("bits", "capacity_ratio", "bits_by_term", "bits_by_attribute")
"""Variables that are averaged over seeds."""


def best_models(
    table: xr.Dataset, scale: str, laws: tuple[int, ...], *, quantized: bool = False
) -> xr.Dataset:
    """Models of some laws trained with AdamW, each at the learning rate with the highest mean.

    Parameters
    ----------
    table
        The table of a study.
    scale, laws
        The models of experiments at this scale that inform one of these laws.
    quantized
        Whether to include quantised models.

    Returns
    -------
    xr.Dataset
        As :func:`average_seeds` returns it.
    """
    informs = table["informs"].sel(law=table["law"].isin(laws)).any("law").values
    experiments = informs & (table["scale"].values == scale)
    chosen = table["member"].values[experiments].any(axis=0)
    if not quantized:
        chosen &= table["precision"].values == "trained"
    if "optimizer" in table:
        chosen &= table["optimizer"].values == "AdamW"
    return average_seeds(table.isel(measurement=chosen))


def models_without_law(table: xr.Dataset, scale: str) -> xr.Dataset:
    """Models of the experiments of a scale that inform no law, in all their precisions."""
    experiments = ~table["informs"].values.any(axis=1) & (table["scale"].values == scale)
    return average_seeds(table.isel(measurement=table["member"].values[experiments].any(axis=0)))


def average_seeds(table: xr.Dataset) -> xr.Dataset:
    """Mean and standard deviation over seeds, at the learning rate with the highest mean R.

    Returns
    -------
    xr.Dataset
        The table in the plain scoring, with ``best_lr``, ``num_lr`` and ``num_seeds`` of each
        measurement. Instead of the dim ``replicate``, :data:`STATISTICS` have the dim
        ``statistic``: the ``mean`` over seeds and their standard deviation ``sd``, 0 if there is
        one seed. The same of other scorings has ``_strict`` or ``_in_context`` appended.
    """
    plain = table["capacity_ratio"].sel(scoring="plain")
    # Diverged replicates are NaN. A model of which all diverged has no R.
    is_known = plain.notnull().any("replicate").values
    table, plain = table.isel(measurement=is_known), plain.isel(measurement=is_known)
    at_best = xr.zeros_like(table["lr"], dtype=bool)
    for ratios, rates, is_best in zip(
        plain.values, table["lr"].values, at_best.values, strict=True
    ):
        means = pd.Series(ratios).groupby(rates).mean()
        is_best[:] = rates == means.idxmax()
    best_lr = table["lr"].where(at_best).max("replicate")
    num_lr = [len(set(rates[~np.isnan(rates)])) for rates in table["lr"].values]
    reduced = table.drop_dims(["replicate", "scoring"]).assign(
        best_lr=best_lr,
        num_lr=("measurement", np.array(num_lr, dtype=int)),
        num_seeds=(at_best & plain.notnull()).sum("replicate"),
    )
    averages: dict[str, xr.DataArray] = {}
    for name in STATISTICS:
        seeds = table[name].where(at_best)
        mean, count = seeds.mean("replicate"), seeds.count("replicate")
        squares = ((seeds - mean) ** 2).sum("replicate")
        spread = (squares / (count - 1).clip(min=1)) ** 0.5
        both = xr.concat([mean, spread], dim=xr.Variable("statistic", ["mean", "sd"]))
        for scoring in table["scoring"].values.tolist():
            suffix = "" if scoring == "plain" else f"_{scoring}"
            of_scoring = both.sel(scoring=scoring, drop=True)
            averages[f"{name}{suffix}"] = of_scoring.assign_attrs(table[name].attrs)
    return reduced.assign(averages)


def compared_models(table: xr.Dataset, scale: str, comparison: Comparison) -> xr.Dataset:
    """Models of a comparison, with the label ``group`` of each.

    Of the baseline, these are the models that equal a model of another group in the columns
    ``matched`` of the comparison.
    """
    own = best_models(table, scale, laws=comparison.laws, quantized=comparison.includes_quantized)
    if not own.sizes["measurement"]:
        return own.assign(group=("measurement", np.array([], dtype=object)))
    sources = {other for law in LAWS if law.number in comparison.laws for other in law.source_laws}
    models = best_models(table, scale, laws=tuple(sources), quantized=comparison.includes_quantized)
    labels = comparison.group_labels(columns_of(models))
    models = models.isel(measurement=labels.index.to_numpy())
    models = models.assign(group=("measurement", labels.to_numpy(dtype=object)))
    is_baseline = models["group"].values == comparison.baseline
    keys = _keys(models, comparison.matched)
    shown = np.isin(keys, keys[~is_baseline])
    if comparison.baseline_exposures is not None:
        shown &= ~is_baseline | (models["exposures"].values == comparison.baseline_exposures)
    return models.isel(measurement=shown)


def _keys(models: xr.Dataset, columns: tuple[str, ...]) -> npt.NDArray[np.str_]:
    """One text for each combination of values; shapes of bioD are 0 for other datasets."""
    frame = pd.DataFrame({name: models[name].values for name in columns}).fillna(0)
    return frame.astype(str).agg("|".join, axis="columns").to_numpy(dtype=str)


def columns_of(models: xr.Dataset) -> pd.DataFrame:
    """Columns of the table with one value per measurement; the index is the position."""
    names = [name for name, v in models.data_vars.items() if v.dims == ("measurement",)]
    return models[names].to_dataframe().reset_index()


def select_models(models: xr.Dataset, model_filter: ModelFilter) -> xr.Dataset:
    """Models that a filter of the laws selects."""
    return models.isel(measurement=model_filter(columns_of(models)).index.to_numpy())
