"""Replicates of small models in the lanes of a CPU's vectors: a whole step is two calls of C.

What `engine.c` beside this file computes is what :class:`knowcap.engines.stacked.StackedEngine` computes,
up to rounding, without the hundred library calls that a step of it takes. It is for models so
small that these calls, not their arithmetic, are what one waits for, and for those that are wider
but whose products are as fast here: in bfloat16 too, of wide models, where the processor multiplies
in it. Then factors of products are rounded, and everything else is float32.

Replicates are divided into groups of up to eight, wide ones into groups of one, and each group's
windows into parts, so that there is work for all threads.

Shapes: R replicates, B windows, S positions, P parameters, L lanes.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from knowcap.config import Run
from knowcap.engines.base import Step
from knowcap.engines.simd.ffi import compiled, num_workspace_bytes
from knowcap.engines.simd.replica_buffers import Group
from knowcap.model.moe import rounded_loads
from knowcap.model.optimizer import learning_rate_scale
from knowcap.model.stacked_model import StackedModel

NUM_LANES = (1, 2, 4, 8)
"""Lanes that a group may have."""

WIDEST = 768
"""Hidden size up to which lanes are no slower than libraries' products of matrices, as measured."""

WIDE = 64
WORTH_A_VECTOR = 2**14
"""Hidden size, and that times tokens of a step, from which one model alone fills vectors, and stays
in caches that several would share."""

LARGEST_BYTES = 2**30
"""Of memory to work in, beyond which libraries' blocks of attention are to be preferred."""

WORTH_A_THREAD = 2**25
"""Multiplications of a step from which threads share its windows; waking one takes 0.1 ms."""

WORTH_SHARING = 2**18
"""Parameters of all lanes from which threads share them as they are brought forward."""


def is_supported(run: Run, vocab_size: int, device: torch.device) -> bool:
    """Whether a run's replicates can train in lanes, and are so small that they should."""
    lanes = lanes_of(run, torch.get_num_threads())
    return (
        device.type == "cpu"
        and run.architecture.hidden_size <= WIDEST
        and (run.optimization.dtype == "float32" or _is_wide(run))
        and all(compiled(each, run.optimization.dtype) is not None for each in set(lanes))
        and num_workspace_bytes(run, vocab_size, lanes) <= LARGEST_BYTES
    )


def lanes_of(run: Run, num_threads: int) -> list[int]:
    """Lanes of each group of a run's replicates, one of each for those worth a vector."""
    num_replicates = len(run.replicates.pairs)
    return [1] * num_replicates if _is_wide(run) else groups_of(num_replicates, num_threads)


def _is_wide(run: Run) -> bool:
    """Whether each replicate is worth a vector."""
    architecture, optimization = run.architecture, run.optimization
    width = architecture.hidden_size
    num_tokens = optimization.global_batch_size * optimization.seq_length
    fills_vectors = width >= WIDE and width * num_tokens >= WORTH_A_VECTOR
    return fills_vectors and not architecture.num_moe_experts


def groups_of(num_replicates: int, num_threads: int) -> list[int]:
    """Lanes of each group, which hold so many replicates and are at least three quarters full.

    There are as many groups as threads, where there are so many replicates.
    """
    wanted = min(math.ceil(num_replicates / num_threads), NUM_LANES[-1])
    most = min(n for n in NUM_LANES if n >= wanted)
    groups = []
    while num_replicates > 0:
        num_lanes = min((n for n in NUM_LANES if n >= num_replicates), default=most)
        if num_lanes > most or 4 * num_replicates < 3 * num_lanes:
            num_lanes = max(n for n in NUM_LANES if n <= min(most, num_replicates))
        groups.append(num_lanes)
        num_replicates -= num_lanes
    return groups


class SimdEngine:
    """Replicates in lanes. :func:`is_supported` says for which runs.

    Parameters
    ----------
    model
        Gives the initial weights, and where in a row of P each parameter is.
    run
        What is trained.
    train_iters
        Steps in all.
    """

    def __init__(self, model: StackedModel, run: Run, train_iters: int) -> None:
        self._settings = run.optimization
        self._train_iters = train_iters
        self._has_experts = run.architecture.num_moe_experts > 0
        self._lr_R = np.array([lr for _, lr in run.replicates.pairs], dtype=np.float32)
        named = dict(model.named_parameters())
        self._columns = {name: (p.storage_offset(), p.shape[1:]) for name, p in named.items()}
        num_threads = torch.get_num_threads()
        self._num_lanes = lanes_of(run, num_threads)
        num_parts = self._num_parts(run, model.flat.shape[1], num_threads)
        self._is_shared = num_threads > 1 and model.flat.numel() >= WORTH_SHARING
        num_shares = math.ceil(num_threads / len(self._num_lanes)) if self._is_shared else 1
        first, self._groups = 0, []
        for num_lanes in self._num_lanes:
            members = slice(first, first + num_lanes)
            sizes = {"num_lanes": num_lanes, "num_parts": num_parts, "num_shares": num_shares}
            self._groups.append(Group(model, run, self._columns, members, **sizes))
            first += num_lanes
        self._parts = [part for group in self._groups for part in group.parts]
        self._shares = [share for group in self._groups for share in group.shares]
        self._pool = (
            ThreadPoolExecutor(num_threads, thread_name_prefix="lanes")
            if num_threads > 1 and (self._is_shared or len(self._parts) > 1)
            else None
        )

    def _num_parts(self, run: Run, num_params: int, num_threads: int) -> int:
        """Parts of each group's windows."""
        optimization = run.optimization
        num_tokens = optimization.global_batch_size * optimization.seq_length
        per_group = 3 * num_tokens * num_params * len(self._lr_R) // len(self._num_lanes)
        if self._has_experts or per_group < WORTH_A_THREAD:  # experts' places are for all windows
            return 1
        return min(max(1, num_threads // len(self._num_lanes)), optimization.global_batch_size)

    @property
    def num_bytes(self) -> int:
        """Of a checkpoint."""
        return 3 * sum(group.parameters.nbytes for group in self._groups)

    def step(self, tokens_RBS1: Tensor, iteration: int) -> Step:
        """Make one step."""
        settings = self._settings
        lr_R = self._lr_R * learning_rate_scale(settings, self._train_iters, iteration)
        decay_R = 1 - settings.weight_decay * lr_R
        corrections = [
            ctypes.c_float(1 - beta ** (iteration + 1))
            for beta in (settings.adam_beta1, settings.adam_beta2)
        ]
        tokens = tokens_RBS1.to(torch.int32).numpy()
        for group in self._groups:
            group.prepare(lr_R[group.members], decay_R[group.members])
        self._for_each(self._parts, lambda part: part.differentiate(tokens))
        if self._is_shared:
            self._for_each(self._shares, lambda share: share.add_up())
            self._for_each(self._shares, lambda share: share.go_along(corrections))
        else:
            for share in self._shares:
                share.update(corrections)
        loss_R, norm_R = np.empty_like(lr_R), np.empty_like(lr_R)
        for group in self._groups:
            loss_R[group.members], norm_R[group.members] = group.results()
        return Step(torch.from_numpy(loss_R), torch.from_numpy(norm_R))

    def _for_each(self, items: list[Any], do: Callable[[Any], None]) -> None:
        """Do something by as many threads as there are."""
        if self._pool is None:
            for item in items:
                do(item)
        else:
            list(self._pool.map(do, items))

    def facts(self) -> dict[str, Any]:
        """Lanes of each group, and the parts of its windows."""
        lanes = " + ".join(map(str, self._num_lanes))
        return {"name": "lanes", "num_lanes": lanes, "num_parts": len(self._groups[0].parts)}

    def metrics(self) -> dict[str, Any]:
        """How experts share the load, if there are any."""
        if not self._has_experts:
            return {}
        loads_RLE = torch.cat([group.loads() for group in self._groups])
        return rounded_loads(loads_RLE[..., :-1], loads_RLE[..., -1])

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and moments, [R, P] each."""
        return {
            name: torch.cat(
                [getattr(group, name).T[: group.num_replicates] for group in self._groups]
            )
            for name in ("parameters", "exp_avg", "exp_avg_sq")
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore parameters and moments."""
        for group in self._groups:
            for name, values_RP in state.items():
                getattr(group, name)[:, : group.num_replicates] = values_RP[group.members].T

    def weights(self) -> dict[str, Tensor]:
        """Each named parameter."""
        flat_RP = self.state_dict()["parameters"]
        return {
            name: flat_RP[:, first : first + math.prod(shape)].reshape(-1, *shape).clone()
            for name, (first, shape) in self._columns.items()
        }
