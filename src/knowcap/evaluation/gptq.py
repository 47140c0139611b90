"""GPTQ in float64, so that the order of sums does not decide how weights are rounded.

In float32 the Hessians of a layer's inputs, their inverses and the compensated weights have
rounding errors that depend on the number of threads and on the processor. Where a compensated
weight is near the middle between two integers, such an error rounds it the other way, and every
later weight is compensated differently. In float64 the errors are a billion times smaller.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from knowcap.model.library_imports import without_compiler, without_package

with without_compiler(), without_package("transformers"):
    from modelopt.torch.quantization import model_calib
    from modelopt.torch.quantization.utils import calib_utils
    from modelopt.torch.utils.network import bind_forward_method


class Float64GPTQ(calib_utils.GPTQHelper):  # type: ignore[misc]
    """modelopt's GPTQ of one matrix, with its Hessian and its weights in float64.

    Attributes
    ----------
    rounded_to_nearest
        Names of the matrices without error compensation. Their Hessian has no inverse, because no
        calibration token reached them, as for an expert that the router never chooses.
    """

    rounded_to_nearest: list[str]
    hessian: Tensor

    def __init__(self, module: Any, name: str, **options: Any) -> None:
        super().__init__(module, name, **options)
        self.hessian = self.hessian.double()

    def setup(self) -> None:
        """Add up the Hessian in the forward passes that follow."""
        helper = self

        def forward(module: Any, inputs: Tensor, *args: Any, **kwargs: Any) -> Any:
            rows = inputs.reshape(-1, inputs.shape[-1]).to(helper.hessian)
            if len(rows):  # an expert may get no tokens
                num_samples = helper.n_samples + len(rows)
                helper.hessian *= helper.n_samples / num_samples
                helper.hessian.addmm_(rows.T, rows, alpha=2 / num_samples)
                helper.n_samples = num_samples
            return module._forward_no_gptq_hessian(inputs, *args, **kwargs)

        bind_forward_method(self.module, forward, self.CACHE_NAME)

    def update_weights(self, block_size: int, perc_damp: float) -> None:
        """Round the weights and compensate their errors."""
        weight = self.module.weight
        self.weight = weight.detach().double().clone()
        self.h_inv = calib_utils.compute_hessian_inverse(
            self.hessian.to(weight.device), self.weight, perc_damp
        )
        if torch.equal(self.h_inv, torch.eye(len(self.h_inv)).to(self.h_inv)):
            self.rounded_to_nearest.append(self.name)
        self._blockwise_update(block_size)
        weight.data = self.weight.reshape(weight.shape).to(weight.dtype)


@contextlib.contextmanager
def gptq_in_float64() -> Iterator[list[str]]:
    """Make modelopt's GPTQ compute in float64; yields the matrices that it rounds to nearest."""
    names: list[str] = []

    class Helper(Float64GPTQ):
        rounded_to_nearest = names

    original = model_calib.GPTQHelper
    model_calib.GPTQHelper = Helper
    try:
        yield names
    finally:
        model_calib.GPTQHelper = original
