"""What a CUDA graph does, on a CPU: operations are recorded with the memory they use, and replayed.

A recording knows no Python: numbers are as they were when it was made, tensors are where they were,
and products go to the library that they went to.
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


def refuse_what_asks_the_host(operation: torch._ops.OpOverload, arguments: Any) -> None:
    """Raise what CUDA does where the host would have to know a tensor's values."""
    asks = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(operation.tags)
    if operation._schema.name.startswith(("aten::index", "aten::_index", "aten::_unsafe_index")):
        # Numbers say where to look; a mask would have to be counted.
        asks = {x.dtype for x in tensors(arguments[1:])} & {torch.bool, torch.uint8}
    if asks:
        raise RuntimeError(f"{operation}: not permitted when stream is capturing")


class Recording(TorchDispatchMode):
    """Notes down the operations done within, with all they read and write.

    Attributes
    ----------
    read
        Storages that were there before, by address, of which something was read or written.
    """

    def __init__(self) -> None:
        super().__init__()
        self._done: list[tuple[Any, Any, Any, Any, list[Tensor]]] = []
        self._made: set[int] = set()
        self.read: dict[int, Tensor] = {}

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        options = options or {}
        refuse_what_asks_the_host(operation, arguments)
        given = tensors((arguments, options))
        self.read.update({address(x): x for x in given if address(x) not in self._made})
        result = operation(*arguments, **options)
        # Views and what was written in place are memory that is known already.
        new = [x for x in tensors(result) if address(x) not in map(address, given)]
        self._made.update(map(address, new))
        if new or operation._schema.is_mutable:
            library = ONEDNN.fp32_precision
            self._done.append((library, operation, arguments, options, tensors(result)))
        return result

    def replay(self) -> None:
        """Do the same again: from the same memory, to the same memory."""
        with torch.no_grad():
            for library, operation, arguments, options, results in self._done:
                ONEDNN.fp32_precision = library
                again = tensors(operation(*arguments, **options))
                for result, value in zip(results, again, strict=True):
                    if address(result) != address(value):
                        result.copy_(value)


def record(work: Callable[[], None]) -> Callable[[], None]:
    """Record a piece of work on a CPU as :func:`knowcap.engines.cuda_graph.record` does on a GPU."""
    work()
    recording = Recording()
    with recording:
        work()
    return recording.replay
