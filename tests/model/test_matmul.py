"""Products are exact to float32 whichever library computes them."""

import pytest
import torch

from knowcap.model import matmul


@pytest.mark.parametrize("smallest", [0, float("inf")], ids=["oneDNN", "MKL"])
@pytest.mark.parametrize("shape", [(1, 5, 3, 4), (4, 128, 32, 96), (2, 96, 128, 261)])
def test_a_product_is_exact_to_float32(shape, smallest, monkeypatch):
    monkeypatch.setattr(matmul, "MIN_MULTIPLICATIONS", smallest)
    num_groups, num_rows, num_inner, num_columns = shape
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(num_groups, num_rows, num_inner, generator=generator)
    right = torch.randn(num_groups, num_inner, num_columns, generator=generator)
    exact = left.double() @ right.double()
    bound = left.double().abs() @ right.double().abs()
    for result in (
        matmul.product(left, right),
        matmul.product(right.mT, left.mT).mT,
        matmul.add_product(torch.zeros(num_groups, 1, num_columns), left, right),
    ):
        # a sum of n rounded products is off by at most n half units of the sum of magnitudes
        assert ((result - exact).abs() <= num_inner * 2**-24 * bound).all()


def test_a_product_can_be_added_to_what_is_there():
    left, right = torch.ones(2, 3, 4), torch.ones(2, 4, 5)
    out = torch.ones(2, 3, 5)
    matmul.product_into(out, left, right, add=True)
    assert torch.equal(out, torch.full((2, 3, 5), 5.0))
    matmul.product_into(out, left, right, add=False)
    assert torch.equal(out, torch.full((2, 3, 5), 4.0))


@pytest.mark.parametrize("add", [False, True], ids=["written", "added"])
def test_a_product_in_bfloat16_can_go_where_float32_is_kept(add):
    left, right = torch.ones(2, 3, 4).bfloat16(), torch.ones(2, 4, 5).bfloat16()
    out = torch.full((2, 3, 5), 1 + 2.0**-20)
    matmul.product_into(out, left, right, add=add)
    assert torch.equal(out, torch.full((2, 3, 5), 5 + 2.0**-20 if add else 4.0))
