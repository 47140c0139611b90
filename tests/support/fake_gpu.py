"""A fake GPU without values, which refuses host synchronization and tensors of the CPU.

`python -m tests.support.fake_gpu guard.so` makes a step of every architecture on it. It runs in a
separate process, because it changes torch's global state.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from knowcap.engines.cuda_graph import CudaGraphEngine
from tests.engines.test_cuda_graph import (
    CASES,
    KINDS,
    VOCAB_SIZE,
    build_model,
    init_process_groups,
    run_of,
)
from tests.support.graph_capture import refuse_host_synchronization, tensors

GPU = torch.device("cuda", 0)


class Refusing(TorchDispatchMode):
    """Raises an error for operations that a CUDA graph cannot contain."""

    num_operations = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        refuse_host_synchronization(operation, arguments)
        result = operation(*arguments, **(options or {}))
        found = {x.device for x in tensors((arguments, options, result))}
        assert found <= {GPU}, f"{operation} on {found}"
        self.num_operations += 1
        return result


def gradients(roots: Iterable[Tensor], given: Iterable[Tensor]) -> dict[Any, Tensor]:
    """Return gradients of leaves; torch's own backward pass needs a real device."""
    waiting: dict[Any, dict[int, Tensor]] = {}
    for root, gradient in zip(roots, given, strict=True):
        waiting[root.grad_fn] = {root.output_nr: gradient}
    found = {}
    for node in _in_order(list(waiting)):
        parts = waiting.pop(node, None)
        if parts is None:
            continue
        if hasattr(node, "variable"):
            found[node.variable] = parts[0]
            continue
        for (following, number), gradient in zip(*_passed_on(node, parts), strict=True):
            if following is not None and gradient is not None:
                # as in torch: sum over broadcast dimensions and cast back
                wanted = following._input_metadata[number]
                part = gradient.sum_to_size(wanted.shape).to(wanted.dtype)
                sums = waiting.setdefault(following, {})
                sums[number] = sums[number] + part if number in sums else part
    return found


def _passed_on(node: Any, parts: dict[int, Tensor]) -> tuple[Any, Any]:
    """Return the next nodes of a node, and their gradients."""
    given = [parts.get(number) for number in range(max(parts) + 1)]
    if not hasattr(node, "_forward_cls"):
        back = node(*given)
        return node.next_functions, back if isinstance(back, tuple) else (back,)
    back = node.apply(*given)
    back = back if isinstance(back, tuple) else (back,)
    # In Python functions, inputs that are not tensors have gradients but no nodes.
    needed = [x for x, is_needed in zip(back, node.needs_input_grad, strict=True) if is_needed]
    return [edge for edge in node.next_functions if edge[0] is not None], needed


def _in_order(roots: list[Any]) -> list[Any]:
    """Return the nodes of a graph in topological order."""
    done: dict[Any, None] = {}

    def visit(node: Any) -> None:
        if node is not None and node not in done:
            for following, _ in node.next_functions:
                visit(following)
            done[node] = None

    for root in roots:
        visit(root)
    return list(done)[::-1]


def backward(root: Tensor) -> None:
    """Replacement of torch.autograd.backward."""
    with torch.no_grad():
        for leaf, gradient in gradients([root], [torch.ones_like(root)]).items():
            leaf.grad = gradient


def grad(root: Tensor, leaves: list[Tensor], gradient: Tensor) -> tuple[Tensor, ...]:
    """Replacement of torch.autograd.grad."""
    found = gradients([root], [gradient])
    return tuple(found[leaf] for leaf in leaves)


def check(kind: str, dtype: str) -> int:
    """Capture a step as on a GPU; return its number of operations."""
    run = run_of(KINDS[kind], dtype)
    refusing = Refusing()

    def capture(iterate: Any) -> Any:
        iterate()
        with refusing:
            iterate()
        return iterate

    model = build_model(run.architecture, VOCAB_SIZE, range(4), GPU, getattr(torch, dtype))
    engine = CudaGraphEngine(model, run, 6, capture=capture)
    assert engine.facts() == {"name": "cuda_graph"}
    return refusing.num_operations


def main(guard: str) -> None:
    """Check every architecture."""
    ctypes.CDLL(guard)
    # The only operation of a step without a meta kernel; it returns nothing.
    library = torch.library.Library("aten", "IMPL", "Meta")
    library.impl("_fused_adamw_.tensor_lr", lambda *_, **__: None)
    init_process_groups()
    torch.autograd.backward, torch.autograd.grad = backward, grad  # type: ignore[assignment]
    with FakeTensorMode():
        for kind, dtype in CASES:
            print(kind, dtype, check(kind, dtype))


if __name__ == "__main__":
    main(sys.argv[1])
