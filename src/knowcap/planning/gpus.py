"""Speeds of GPUs, for the cost of trainings that are not measured."""

from __future__ import annotations

from collections.abc import Mapping

PEAK_TFLOPS: Mapping[str, float] = {
    "V100": 125,
    "A100": 312,
    "RTX4090": 165,
    "L40S": 362,
    "H100": 989,
    "H200": 989,
    "B200": 2250,
}
"""Dense bfloat16 peak (float16 for V100) by the data sheets, in 10^12 operations a second."""

UTILIZATION = 0.4
"""Share of the peak that a training reaches."""
# ASSUME: usual for models of a hundred million parameters and more; small models are limited by
# launches and reach far less.
