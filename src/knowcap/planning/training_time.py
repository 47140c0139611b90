"""Estimates of training time from measured steps or from an assumed speed."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, ValidationError, field_validator

from knowcap.config import Positive, Record, Run
from knowcap.config.yaml_file import YamlFile
from knowcap.errors import UserError, record_errors
from knowcap.planning.cost import Cost


class TrainingTime(NamedTuple):
    """An estimate of the training times of a study's runs."""

    seconds: Callable[[Run, Cost], float]
    """Returns the training time of a run; NaN if it is unknown."""
    source: str
    """A sentence that names the source of the estimate."""


UNKNOWN = TrainingTime(
    lambda run, cost: math.nan,
    "The time left is unknown until a run in this results folder is finished; --throughput or "
    "--tflops estimates it.",
)


class MeasuredStep(Record):
    """A measured optimizer step, all replicates together."""

    flops: Positive
    seconds: Positive


class Throughput(Record):
    """Measured step times of a device, in the format of `results/reference/throughput.yaml`."""

    device: str
    """Name of the device."""
    source: str
    """How the steps were measured."""
    steps: Annotated[tuple[MeasuredStep, ...], Field(min_length=1)]
    """In ascending order of FLOPs."""

    @field_validator("steps")
    @classmethod
    def _check_order(cls, steps: tuple[MeasuredStep, ...]) -> tuple[MeasuredStep, ...]:
        flops = [step.flops for step in steps]
        if flops != sorted(set(flops)):
            raise ValueError("flops are not in ascending order")
        return steps

    def training_seconds(self, cost: Cost) -> float:
        """Training time of a run."""
        return cost.train_iters * self.step_seconds(cost.flops / cost.train_iters)

    def step_seconds(self, flops: float) -> float:
        """Time of a step.

        Interpolated by a power law between two measured steps. Below the smallest step the time is
        constant, as launches dominate it; above the largest the FLOPs per second are constant.
        """
        steps = self.steps
        above = bisect.bisect_left([step.flops for step in steps], flops)
        if above == 0:
            return steps[0].seconds
        low = steps[above - 1]
        if above == len(steps):
            return low.seconds * flops / low.flops
        high = steps[above]
        exponent = math.log(high.seconds / low.seconds) / math.log(high.flops / low.flops)
        return float(low.seconds * (flops / low.flops) ** exponent)


def load_throughput(path: Path) -> Throughput:
    """Load measured step times.

    Raises
    ------
    UserError
        If the file is missing or not in the format of :class:`Throughput`.
    """
    file = YamlFile(path)
    if file.errors:
        raise file.all_errors(file.errors)
    try:
        return Throughput.model_validate(file.values)
    except ValidationError as error:
        raise UserError.of_lines(f"{path}: {line}" for line in record_errors(error)) from None


def from_throughput(path: Path) -> TrainingTime:
    """Estimate from the measured step times in a file."""
    measured = load_throughput(path)
    return TrainingTime(
        lambda run, cost: measured.training_seconds(cost),
        f"The time left is estimated from steps measured on {measured.device}.",
    )


def from_tflops(tflops: float, origin: str = "--tflops") -> TrainingTime:
    """Estimate from an assumed speed in 10^12 floating-point operations per second.

    Parameters
    ----------
    tflops
        The speed.
    origin
        Option or file that gives it.
    """
    return TrainingTime(
        lambda run, cost: cost.flops / (tflops * 1e12),
        f"The time left ASSUMES {tflops:g} TFLOP/s ({origin}), which is not measured: small "
        f"models are limited by launches and take longer.",
    )
