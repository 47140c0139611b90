"""Short labels of datasets, settings and precisions, such as `N = 400` and `int4, GPTQ`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from knowcap.capacity.laws.quantization import METHOD_LABELS
from knowcap.capacity.table_columns import BIOD_SHAPE

TEMPLATES: Mapping[str, str] = {
    "num_people": "N = {:,}",
    "num_attributes": "K = {:g}",
    "num_chunks": "C = {:g}",
    "diversity": "D = {:,g}",
    "chunk_length": "L = {:g}",
    "alphabet_size": "T = {:,g}",
    "exposures": "E = {:,}",
    "num_versions": "{} versions",
    "tokenizer": "{} tokenizer",
    "useful_share": "{:.3g} useful",
    "num_junk_people": "{:,} junk people",
    "seed": "population {}",
}
"""Text of a setting by its name; the letters are the paper's."""

DATASET_COLUMNS = ("kind", "num_people", *BIOD_SHAPE, "num_versions", "rewriter")
"""Columns of the table that the name of a dataset stands for."""


def setting_label(name: str, value: Any) -> str:
    """Text of one setting, empty if it does not apply.

    Parameters
    ----------
    name
        Name of a column of the table or of a field of the record, without the names before dots.
    value
        Its value; None, NaN and empty text mean that a record does not have the field.
    """
    if value is None or value == "" or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, bool | np.bool_):
        words = name.replace("_", " ")
        return words if value else f"no {words}"
    if name == "precision":
        return precision_label(value)
    if name == "num_versions" and value < 2:
        return "1 version" if value else "fresh biographies"
    if name in TEMPLATES:
        return TEMPLATES[name].format(value)
    return str(value) if isinstance(value, str) else f"{name} = {value}"


def precision_label(precision: str) -> str:
    """Text of a precision, such as `as trained` or `int4, GPTQ`."""
    if precision == "trained":
        return "as trained"
    bits, underscore, method = precision.partition("_")
    return f"{bits}, {METHOD_LABELS.get(underscore + method, method)}"


def dataset_labels(models: xr.Dataset) -> dict[str, str]:
    """Label of each dataset, sorted by N: its kind, N, and what is not as in most datasets.

    For example `N = 400`, `N = 70, K = 8` and, if there are several kinds, `bioS, N = 30`.
    """
    columns = [name for name in DATASET_COLUMNS if name in models]
    frame = pd.DataFrame({name: models[name].values for name in ("knowledge", *columns)})
    settings = frame.drop_duplicates("knowledge").set_index("knowledge")
    common = settings.mode().iloc[0]
    named = ["kind"] if settings["kind"].nunique() > 1 else []
    labels = {}
    for name, row in settings.sort_values("num_people", kind="stable").iterrows():
        others = [c for c in columns if c not in ("kind", "num_people") and row[c] != common[c]]
        texts = [setting_label(column, row[column]) for column in [*named, "num_people", *others]]
        labels[str(name)] = ", ".join(filter(None, texts))
    return labels
