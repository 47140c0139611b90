"""Contexts for imports of large libraries, which skip parts that are not used here.

This module imports no other library than torch, so that it can be imported before all of them.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch


@contextmanager
def without_compiler() -> Iterator[None]:
    """Make torch.compile return functions unchanged, for libraries that call it at import.

    None of the fused paths of Megatron and modelopt is used, and torch's compiler takes two seconds
    to import.
    """
    compiler = torch.compile
    torch.compile = lambda function=None, **_: function or (lambda given: given)  # type: ignore
    try:
        yield
    finally:
        torch.compile = compiler


@contextmanager
def without_package(name: str) -> Iterator[None]:
    """Hide an installed package from libraries that import it only where it is installed.

    Its modules can be imported afterwards. A package that is already imported is not hidden.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # Python's own mark of a missing module
    try:
        yield
    finally:
        del sys.modules[name]


@contextmanager
def without_triton_kernels() -> Iterator[None]:
    """Let Megatron-core be imported without triton, which a CPU build of torch does not have.

    Everywhere else triton is optional for Megatron. These kernels are called only if
    `moe_paged_stash` is set.
    """
    kernels = "megatron.core.transformer.moe.ops.paged_stash"
    if kernels in sys.modules or importlib.util.find_spec("triton") is not None:
        yield
        return
    sys.modules[kernels] = _NoKernels(kernels)
    try:
        yield
    finally:
        del sys.modules[kernels]


class _NoKernels(ModuleType):
    """A module in which every name is None."""

    def __getattr__(self, name: str) -> None:
        """Return None for any name."""
