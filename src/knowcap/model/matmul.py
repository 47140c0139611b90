"""Library of float32 matrix products on a CPU: oneDNN where it is exact, MKL otherwise.

Torch gives float32 products to MKL unless it may round operands to bfloat16: then it gives them to
oneDNN, which is up to twice as fast on processors that are not of MKL's vendor. Only processors
with bfloat16 tiles make use of the permission to round; there products stay with MKL. So every
product is exact to float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

ONEDNN = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]


@contextmanager
def fast_matmul(device: torch.device) -> Iterator[None]:
    """Use the faster library for float32 products on a CPU, in forward and backward passes.

    The setting is global, as torch's backward pass has no other.
    """
    if device.type != "cpu" or not is_onednn_exact():
        yield
        return
    before = ONEDNN.fp32_precision
    ONEDNN.fp32_precision = "bf16"
    try:
        yield
    finally:
        ONEDNN.fp32_precision = before


@cache
def is_onednn_exact() -> bool:
    """Whether float32 products by oneDNN keep all 24 bits when they need not."""
    if not torch.backends.mkldnn.is_available():
        return False
    before = ONEDNN.fp32_precision
    ONEDNN.fp32_precision = "bf16"
    try:
        return all(map(_is_product_exact, ((128, 32, 96), (96, 128, 32), (512, 256, 1024))))
    finally:
        ONEDNN.fp32_precision = before


def _is_product_exact(shape: tuple[int, int, int]) -> bool:
    """Whether a product keeps a bit that bfloat16 does not have, in both orders of operands."""
    num_rows, num_inner, num_columns = shape
    one_and_a_bit = 1 + 2.0**-12
    left = torch.full((2, num_rows, num_inner), one_and_a_bit)
    right = torch.ones(2, num_inner, num_columns)
    products = (left @ right, (right.mT @ left.mT).mT)
    return all(bool((p == num_inner * one_and_a_bit).all()) for p in products)
