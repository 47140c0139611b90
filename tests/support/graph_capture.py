"""Emulation of CUDA graphs on a CPU: operations are captured with their memory and replayed.

As in a CUDA graph, no Python runs during replay: numbers are constants, tensors have fixed
addresses, and matrix products use the library that was chosen at capture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from knowcap.model.matmul import ONEDNN


def address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def refuse_host_synchronization(operation: torch._ops.OpOverload, arguments: Any) -> None:
    """Raise the error of CUDA if an operation makes the host wait for a tensor's values."""
    synchronizing = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(
        operation.tags
    )
    if operation._schema.name.startswith(("aten::index", "aten::_index", "aten::_unsafe_index")):
        # Integers index directly; the elements of a mask have to be counted first.
        synchronizing = {x.dtype for x in tensors(arguments[1:])} & {torch.bool, torch.uint8}
    if synchronizing:
        raise RuntimeError(f"{operation}: not permitted when stream is capturing")


class CapturedGraph(TorchDispatchMode):
    """Captures the operations in a block, with all memory they read and write.

    Attributes
    ----------
    external
        Storages that existed before capture and that are read or written, by address.
    """

    def __init__(self) -> None:
        super().__init__()
        self._operations: list[tuple[Any, Any, Any, Any, list[Tensor]]] = []
        self._allocated: set[int] = set()
        self.external: dict[int, Tensor] = {}

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        options = options or {}
        refuse_host_synchronization(operation, arguments)
        inputs = tensors((arguments, options))
        self.external.update({address(x): x for x in inputs if address(x) not in self._allocated})
        result = operation(*arguments, **options)
        # Views and in-place results are not newly allocated.
        new = [x for x in tensors(result) if address(x) not in map(address, inputs)]
        self._allocated.update(map(address, new))
        if new or operation._schema.is_mutable:
            library = ONEDNN.fp32_precision
            self._operations.append((library, operation, arguments, options, tensors(result)))
        return result

    def replay(self) -> None:
        """Repeat the operations on the same memory."""
        with torch.no_grad():
            for library, operation, arguments, options, results in self._operations:
                ONEDNN.fp32_precision = library
                values = tensors(operation(*arguments, **options))
                for result, value in zip(results, values, strict=True):
                    if address(result) != address(value):
                        result.copy_(value)


def capture(iterate: Callable[[], None]) -> Callable[[], None]:
    """Capture a function on a CPU, as :func:`knowcap.engines.cuda_graph.capture` on a GPU."""
    iterate()
    graph = CapturedGraph()
    with graph:
        iterate()
    return graph.replay
