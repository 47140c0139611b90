"""Rows of the report on the scales of a study: what was trained, and what it cost."""

from __future__ import annotations

from typing import Any

import pandas as pd
import xarray as xr

PAPER_MIN_PARAMS = 700_000
"""Models with fewer parameters are smaller than all models of the paper."""
# PAPER 4.1: the smallest model, GPT2-2-2, has 816,000 parameters with its vocabulary; other
# vocabularies may be a little smaller.

PAPER_MIN_PEOPLE = 10_000
"""Corpora with fewer people are smaller than all corpora of the paper."""
# PAPER 4.1: N from 10,000 to 10,000,000.


def scale_rows(table: xr.Dataset, models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per scale: numbers, sizes and cost of its models."""
    rows = []
    for scale in dict.fromkeys(table["scale"].values.tolist()):
        group = pd.DataFrame([model for model in models if scale in model["scales"]])
        if group.empty:
            continue
        # A run has a row for each of its precisions, but was trained once.
        trained = group.drop_duplicates("run")
        params, people = group["num_params"], group["num_people"]
        rows.append(
            {
                "name": scale,
                "num_models": len(trained),
                "precisions": list(dict.fromkeys(group["precision"])),
                "num_trainings": int(trained["num_replicates"].sum()),
                "params": (int(params.min()), int(params.max())),
                "people": (int(people.min()), int(people.max())),
                "exposures": sorted(set(group["exposures"]), reverse=True),
                "kinds": list(dict.fromkeys(group["kind"])),
                "seeds": (int(group["num_seeds"].min()), int(group["num_seeds"].max())),
                "train_s": float(trained["train_s"].sum(min_count=1)),
                "is_scale_model": bool(
                    params.min() < PAPER_MIN_PARAMS or people.min() < PAPER_MIN_PEOPLE
                ),
            }
        )
    return rows
