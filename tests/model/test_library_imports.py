"""Contexts for imports change nothing after their block."""

import importlib
import sys

import pytest
import torch

from knowcap.model.library_imports import (
    without_compiler,
    without_package,
    without_triton_kernels,
)


def test_functions_are_not_compiled_in_the_block_only() -> None:
    compiler = torch.compile
    with without_compiler():
        assert torch.compile(abs) is abs
        assert torch.compile(mode="max-autotune")(abs) is abs
    assert torch.compile is compiler


def test_a_package_is_hidden_in_the_block_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "xmlrpc", raising=False)
    with without_package("xmlrpc"), pytest.raises(ImportError):
        importlib.import_module("xmlrpc")
    assert importlib.import_module("xmlrpc")


def test_an_imported_package_is_not_hidden() -> None:
    with without_package("sys"):
        assert importlib.import_module("sys") is sys


def test_triton_kernels_are_replaced_in_the_block_only(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "megatron.core.transformer.moe.ops.paged_stash"
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    with without_triton_kernels():
        assert importlib.import_module(name).paged_stash_copy_kernel is None
    assert name not in sys.modules
