"""Conversion between a stacked model's parameters and Megatron's sharded state dicts.

Megatron stores weights as [out, in]. One key holds a parameter of all layers, with the dimensions
layers, experts if there are any, then those of the parameter. A stacked model has a name per layer
and weights [in, out].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn.functional import pad

from knowcap.engines.megatron.megatron_distributed import ShardedTensor, ShardedTensorFactory

LAYERS = "decoder.layers."

LAYER_PREFIXES = {
    "input_layernorm.": "self_attention.linear_qkv.layer_norm_",
    "pre_mlp_layernorm.": "mlp.linear_fc1.layer_norm_",
    "mlp.experts.": "mlp.experts.experts.",
}
"""Prefixes in a layer of a stacked model, and in Megatron's, as Transformer Engine fuses layers."""


def checkpoint_key(name: str) -> tuple[str, int | None]:
    """Return Megatron's key of a stacked model's parameter, and its layer or None."""
    if not name.startswith(LAYERS):
        return name, None
    layer, _, rest = name.removeprefix(LAYERS).partition(".")
    for prefix, megatron_prefix in LAYER_PREFIXES.items():
        if rest.startswith(prefix):
            rest = megatron_prefix + rest.removeprefix(prefix)
            break
    return LAYERS + rest, int(layer)


def to_megatron(name: str, value: Tensor) -> Tensor:
    """Return a replicate's parameter, [*, in, out] or [*, 1, n], in Megatron's shape."""
    if name.startswith(("embedding", "output_layer")):
        return value
    return value.squeeze(-2) if value.shape[-2] == 1 else value.mT


def from_megatron(name: str, value: Tensor, shape: torch.Size) -> Tensor:
    """Return a parameter in a stacked model's shape, without padding of the vocabulary."""
    if name.startswith(("embedding", "output_layer")):
        return value[: shape[0]]
    return value.view(shape) if shape[-2] == 1 else value.mT


def iterate_shards(sharded: Any) -> Iterator[ShardedTensor]:
    """Yield all shards of a sharded state dict; they share memory with the model."""
    if isinstance(sharded, ShardedTensor):
        yield sharded
    elif isinstance(sharded, ShardedTensorFactory):
        yield from iterate_shards(sharded.build())
    elif isinstance(sharded, Mapping):
        for part in sharded.values():
            yield from iterate_shards(part)
    elif isinstance(sharded, list | tuple):
        for part in sharded:
            yield from iterate_shards(part)


@torch.no_grad()
def copy_into_shards(
    sharded: Mapping[str, Any], full: Mapping[str, Tensor], prefix: str = ""
) -> None:
    """Copy a full state dict into this process's shards.

    Parameters
    ----------
    sharded
        Megatron's state dict of this process.
    full
        All parameters of a replicate, by a stacked model's names.
    prefix
        Prefix of the shards' keys.
    """
    by_key = {checkpoint_key(name): (name, value) for name, value in full.items()}
    for shard in iterate_shards(sharded):
        key = shard.key.removeprefix(prefix)
        name, value = by_key[key, _layer(shard, key)]
        tensor = to_megatron(name, value)
        num_rows = shard.global_shape[shard.prepend_axis_num :][0]
        missing = num_rows - tensor.shape[-shard.data.dim()]
        if missing:  # the vocabulary is padded to a multiple of the tensor parallel size
            tensor = pad(tensor, (0, 0) * (tensor.dim() - 1) + (0, missing))
        shard.data.copy_(tensor[_shard_slices(shard, key)])


def gather_full(
    sharded: Mapping[str, Any], shapes: Mapping[str, torch.Size], group: distributed.ProcessGroup
) -> dict[str, Tensor]:
    """Return a replicate's full parameters on rank 0, nothing on other ranks.

    Parameters
    ----------
    sharded
        Megatron's state dict of this process.
    shapes
        Shapes of a replicate's parameters, by a stacked model's names.
    group
        Group of all processes whose backend communicates CPU tensors.
    """
    local: dict[tuple[str, int | None], list[tuple[Any, Tensor, Any]]] = {}
    for shard in iterate_shards(sharded):
        if all(number == 0 for number in shard.replica_id):
            key = shard.key, _layer(shard, shard.key)
            part = _shard_slices(shard, shard.key), shard.data.cpu(), _layer_shape(shard, shard.key)
            local.setdefault(key, []).append(part)
    is_first = distributed.get_rank() == 0
    gathered = {}
    for name, shape in shapes.items():
        parts: list[Any] | None = [None] * distributed.get_world_size() if is_first else None
        distributed.gather_object(local.get(checkpoint_key(name), []), parts, group=group)
        if parts is None:
            continue
        flat = [part for of_rank in parts for part in of_rank]
        full = torch.zeros(flat[0][2])
        for slices, value, _ in flat:
            full[slices] = value
        gathered[name] = from_megatron(name, full, shape).contiguous()
    return gathered


def _layer(shard: ShardedTensor, key: str) -> int | None:
    """Return a shard's layer, its first offset, or None outside the layers."""
    return int(shard.global_offset[0]) if key.startswith(LAYERS) else None


def _shard_slices(shard: ShardedTensor, key: str) -> tuple[int | slice, ...]:
    """Return the slices of a shard in its layer's parameter."""
    skipped = int(key.startswith(LAYERS))
    added = shard.prepend_axis_num
    offsets = [int(offset) for offset in shard.global_offset]
    lengths = zip(offsets[added:], shard.local_shape, strict=True)
    return (
        *offsets[skipped:added],
        *(slice(offset, offset + length) for offset, length in lengths),
    )


def _layer_shape(shard: ShardedTensor, key: str) -> tuple[int, ...]:
    """Return the shape of a shard's full parameter in one layer."""
    return tuple(shard.global_shape[int(key.startswith(LAYERS)) :])
