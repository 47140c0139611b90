"""Batched matrix products, each by the library that is faster at its size.

Torch gives float32 products on a CPU to MKL, which is quick to start, unless it may round operands
to bfloat16: then it gives them to oneDNN, which multiplies up to twice as fast on processors that
are not MKL's vendor's. Only processors with bfloat16 tiles make use of the permission to round;
where they do, products stay with MKL. So every product here is exact to float32.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

ONEDNN = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]

MIN_MULTIPLICATIONS = 2**20
"""Multiplications from which oneDNN's speed makes up for its slower start, as measured."""


def product(left_GIJ: Tensor, right_GJK: Tensor) -> Tensor:
    """Left @ right for each of the G pairs."""
    _choose_library(left_GIJ, right_GJK)
    return torch.bmm(left_GIJ, right_GJK)


def product_into(out_GIK: Tensor, left_GIJ: Tensor, right_GJK: Tensor, *, add: bool) -> None:
    """Write left @ right to `out`, or add it, in the dtype of `out`."""
    _choose_library(left_GIJ, right_GJK)
    if out_GIK.dtype == left_GIJ.dtype:
        out_GIK.baddbmm_(left_GIJ, right_GJK, beta=int(add))
    elif add:
        out_GIK.add_(torch.bmm(left_GIJ, right_GJK))
    else:
        out_GIK.copy_(torch.bmm(left_GIJ, right_GJK))


def add_product(term_GIK: Tensor, left_GIJ: Tensor, right_GJK: Tensor) -> Tensor:
    """Term + left @ right, in the term's dtype; the term is broadcast."""
    _choose_library(left_GIJ, right_GJK)
    if term_GIK.dtype == left_GIJ.dtype:
        return torch.baddbmm(term_GIK, left_GIJ, right_GJK)
    return term_GIK + torch.bmm(left_GIJ, right_GJK)


def _choose_library(left_GIJ: Tensor, right_GJK: Tensor) -> None:
    """Direct torch's next float32 product on a CPU to MKL or oneDNN."""
    is_large = left_GIJ.numel() * right_GJK.shape[2] >= MIN_MULTIPLICATIONS
    precision = "bf16" if is_large and _onednn_is_exact() else "ieee"
    ONEDNN.fp32_precision = precision


@cache
def _onednn_is_exact() -> bool:
    """Whether float32 products by oneDNN keep all 24 bits when they need not."""
    if not torch.backends.mkldnn.is_available():
        return False
    ONEDNN.fp32_precision = "bf16"
    one_and_a_bit = 1 + 2.0**-12
    for num_rows, num_inner, num_columns in ((128, 32, 96), (96, 128, 32), (512, 256, 1024)):
        left = torch.full((2, num_rows, num_inner), one_and_a_bit)
        right = torch.ones(2, num_inner, num_columns)
        products = (left @ right, (right.mT @ left.mT).mT)
        if not all(bool((p == num_inner * one_and_a_bit).all()) for p in products):
            return False
    return True
