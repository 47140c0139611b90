"""Float32 products are exact by either library, and the choice ends with its block."""

import pytest
import torch

from knowcap.model.matmul import ONEDNN, fast_matmul, is_onednn_exact

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [(1, 5, 3, 4), (4, 128, 32, 96), (2, 96, 128, 261)])
def test_a_product_is_exact_to_float32(shape):
    num_groups, num_rows, num_inner, num_columns = shape
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(num_groups, num_rows, num_inner, generator=generator)
    right = torch.randn(num_groups, num_inner, num_columns, generator=generator)
    exact = left.double() @ right.double()
    bound = left.double().abs() @ right.double().abs()
    with fast_matmul(CPU):
        results = (
            torch.bmm(left, right),
            torch.bmm(right.mT, left.mT).mT,
            torch.baddbmm(torch.zeros(num_groups, 1, num_columns), left, right),
        )
    for result in results:
        # a sum of n rounded products is off by at most n half units of the sum of magnitudes
        assert ((result - exact).abs() <= num_inner * 2**-24 * bound).all()


def test_the_setting_of_torch_is_restored():
    before = ONEDNN.fp32_precision
    is_onednn_exact.cache_clear()
    with fast_matmul(CPU):
        assert (ONEDNN.fp32_precision == "bf16") == is_onednn_exact()
    assert ONEDNN.fp32_precision == before


def test_products_on_a_gpu_keep_the_setting():
    before = ONEDNN.fp32_precision
    with fast_matmul(torch.device("cuda")):
        assert ONEDNN.fp32_precision == before
