"""Simulated replicates: the rows that estimators read, of models whose capacity is chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass
class Grid:
    """Models and the noise of training them."""

    rng: np.random.Generator
    noise: float = 0.02
    """Standard deviation of a capacity ratio between seeds, relative."""
    num_seeds: int = 4

    def models(
        self,
        ratios: np.ndarray | list[float],
        *,
        num_params: np.ndarray | list[int] | int = 1_000_000,
        max_ratio: np.ndarray | list[float] | float = 3.0,
        exposures: int = 1000,
        num_layers: np.ndarray | list[int] | int = 2,
        rates: tuple[float, ...] = (1.0,),
    ) -> pd.DataFrame:
        """Replicates of models with mean capacity ratios `ratios` at their best learning rate.

        `rates` are the shares of that which each learning rate reaches.
        """
        count = len(ratios)
        shape = pd.DataFrame(
            {
                "measurement": [f"m{index}/trained" for index in range(count)],
                "precision": "trained",
                "knowledge": "bioS(1000)",
                "model": [f"GPT2-{index}" for index in range(count)],
                "exposures": exposures,
                "num_params": num_params,
                "num_layers": num_layers,
                "max_capacity_ratio": max_ratio,
                "mean": np.asarray(ratios, dtype=float),
            }
        )
        rows = shape.loc[np.repeat(shape.index, len(rates) * self.num_seeds)].reset_index(drop=True)
        rows["lr"] = np.tile(np.repeat(np.arange(1, len(rates) + 1) * 1e-3, self.num_seeds), count)
        rows["seed"] = np.tile(np.arange(self.num_seeds), len(rates) * count)
        reached = np.tile(np.repeat(rates, self.num_seeds), count)
        luck = 1 + self.noise * self.rng.standard_normal(len(rows))
        rows["capacity_ratio"] = rows["mean"] * reached * luck
        rows["bits"] = rows["capacity_ratio"] * rows["num_params"]
        return rows.drop(columns="mean")
