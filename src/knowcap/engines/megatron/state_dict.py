"""A model in the names and shapes of Megatron's checkpoints, and its parts in a process.

Megatron keeps a layer's weight as [out, in], and a parameter of all layers as one tensor under one
key, [layers, ...], experts after that. A stacked model has names by layer and weights [in, out].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn.functional import pad

from knowcap.engines.megatron.megatron_core import ShardedTensor, ShardedTensorFactory

LAYERS = "decoder.layers."

RENAMED = {
    "input_layernorm.": "self_attention.linear_qkv.layer_norm_",
    "pre_mlp_layernorm.": "mlp.linear_fc1.layer_norm_",
    "mlp.experts.": "mlp.experts.experts.",
}
"""Within a layer; keys are those of Transformer Engine's fused layers."""


def place(name: str) -> tuple[str, int | None]:
    """Key of a stacked model's parameter, and its layer if it is one's."""
    if not name.startswith(LAYERS):
        return name, None
    layer, _, rest = name.removeprefix(LAYERS).partition(".")
    for ours, theirs in RENAMED.items():
        if rest.startswith(ours):
            rest = theirs + rest.removeprefix(ours)
            break
    return LAYERS + rest, int(layer)


def turned(name: str, value: Tensor) -> Tensor:
    """Give one replicate's parameter, [*, in, out] or [*, 1, n], Megatron's shape."""
    if name.startswith(("embedding", "output_layer")):
        return value
    return value.squeeze(-2) if value.shape[-2] == 1 else value.mT


def turned_back(name: str, value: Tensor, shape: torch.Size) -> Tensor:
    """Undo :func:`turned`, for a parameter of a shape, and leave out rows that only fill up."""
    if name.startswith(("embedding", "output_layer")):
        return value[: shape[0]]
    return value.view(shape) if shape[-2] == 1 else value.mT


def tensors(sharded: Any) -> Iterator[ShardedTensor]:
    """All parts of a sharded state dict; they share memory with what it was made of."""
    if isinstance(sharded, ShardedTensor):
        yield sharded
    elif isinstance(sharded, ShardedTensorFactory):
        yield from tensors(sharded.build())
    elif isinstance(sharded, Mapping):
        for part in sharded.values():
            yield from tensors(part)
    elif isinstance(sharded, list | tuple):
        for part in sharded:
            yield from tensors(part)


@torch.no_grad()
def fill(sharded: Mapping[str, Any], whole: Mapping[str, Tensor], prefix: str = "") -> None:
    """Copy this process's parts of a whole model into its tensors.

    Parameters
    ----------
    sharded
        Megatron's state dict of the process.
    whole
        A replicate's parameters by the names of a stacked model, all of them.
    prefix
        Of the keys.
    """
    by_place = {place(name): (name, value) for name, value in whole.items()}
    for shard in tensors(sharded):
        key = shard.key.removeprefix(prefix)
        name, value = by_place[key, _layer(shard, key)]
        full = turned(name, value)
        missing = shard.global_shape[shard.prepend_axis_num :][0] - full.shape[-shard.data.dim()]
        if missing:  # rows that fill the vocabulary up to what can be shared out
            full = pad(full, (0, 0) * (full.dim() - 1) + (0, missing))
        shard.data.copy_(full[_window(shard, key)])


def gather(
    sharded: Mapping[str, Any], shapes: Mapping[str, torch.Size], group: distributed.ProcessGroup
) -> dict[str, Tensor]:
    """Put a replicate's parameters together on the first process; empty on the others.

    Parameters
    ----------
    sharded
        Megatron's state dict of the process.
    shapes
        Of a replicate's parameters, by the names of a stacked model.
    group
        All processes, by a backend that sends what is in the memory of CPUs.
    """
    mine: dict[tuple[str, int | None], list[tuple[Any, Tensor, Any]]] = {}
    for shard in tensors(sharded):
        if all(number == 0 for number in shard.replica_id):
            at = shard.key, _layer(shard, shard.key)
            part = _window(shard, shard.key), shard.data.cpu(), _shape(shard, shard.key)
            mine.setdefault(at, []).append(part)
    is_first = distributed.get_rank() == 0
    gathered = {}
    for name, shape in shapes.items():
        parts: list[Any] | None = [None] * distributed.get_world_size() if is_first else None
        distributed.gather_object(mine.get(place(name), []), parts, group=group)
        if parts is None:
            continue
        flat = [part for theirs in parts for part in theirs]
        full = torch.zeros(flat[0][2])
        for window, value, _ in flat:
            full[window] = value
        gathered[name] = turned_back(name, full, shape).contiguous()
    return gathered


def _layer(shard: ShardedTensor, key: str) -> int | None:
    """Which layer a part belongs to: the first of its offsets."""
    return int(shard.global_offset[0]) if key.startswith(LAYERS) else None


def _window(shard: ShardedTensor, key: str) -> tuple[int | slice, ...]:
    """Where a part is in its layer's parameter."""
    skipped = int(key.startswith(LAYERS))
    added = shard.prepend_axis_num
    offsets = [int(offset) for offset in shard.global_offset]
    lengths = zip(offsets[added:], shard.local_shape, strict=True)
    return (
        *offsets[skipped:added],
        *(slice(offset, offset + length) for offset, length in lengths),
    )


def _shape(shard: ShardedTensor, key: str) -> tuple[int, ...]:
    """Shape of the parameter that it is a part of, in one layer."""
    return tuple(shard.global_shape[int(key.startswith(LAYERS)) :])
