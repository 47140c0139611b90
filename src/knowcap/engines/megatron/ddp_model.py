"""One replicate under Megatron's DistributedDataParallel, with its distributed optimizer.

Megatron averages losses over model copies and micro batches. Losses are rescaled here to be sums
over both, so that padding and uneven numbers of windows have no effect.

Shapes: B windows of a step, S positions of a window, P parameters.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, distributed

from knowcap.config import Run
from knowcap.config.parallelism import ParallelDims
from knowcap.engines.megatron import optimizer_state, state_dict
from knowcap.engines.megatron.megatron_distributed import (
    DistributedDataParallel,
    DistributedDataParallelConfig,
    MegatronOptimizer,
    OptimizerConfig,
    ShardedTensor,
    ShardedTensorFactory,
    finalize_model_grads,
    get_forward_backward_func,
    get_megatron_optimizer,
)
from knowcap.engines.megatron.parallel_model import ParallelModel, build_parallel_model
from knowcap.model.attention import document_mask
from knowcap.model.megatron_core import parallel_state
from knowcap.model.stacked_model import StackedModel, build_model

MAX_MICRO_BATCH_TOKENS = 2**14
"""Largest number of tokens whose activations a process stores at once."""

MICRO_BATCHES_PER_STAGE = 4
"""Micro batches for each pipeline stage: stages are idle for a fifth of the time."""

PARAMETERS = "parameters"
"""Key of the parameters in a checkpoint, beside those of the moments."""


def num_micro_batches(parallel_dims: ParallelDims, run: Run) -> int:
    """Return the number of micro batches into which a process divides its windows."""
    num_windows = math.ceil(run.optimization.global_batch_size / parallel_dims.data)
    if run.architecture.num_moe_experts:
        return 1  # capacity and balance of experts are counted over a step
    number = math.ceil(num_windows * run.optimization.seq_length / MAX_MICRO_BATCH_TOKENS)
    if parallel_dims.pipeline > 1:
        number = max(number, MICRO_BATCHES_PER_STAGE * parallel_dims.pipeline)
    return min(number, num_windows)


class DDPReplica:
    """One replicate's model and optimizer: this process's shards of them."""

    def __init__(
        self,
        run: Run,
        vocab_size: int,
        seed: int,
        peak_lr: float,
        parallel_dims: ParallelDims,
        device: torch.device,
    ) -> None:
        self._run, self._vocab_size, self._peak_lr = run, vocab_size, peak_lr
        self._parallel_dims, self._device = parallel_dims, device
        self._num_micro_batches = num_micro_batches(parallel_dims, run)
        model = build_parallel_model(
            run.architecture, vocab_size, run.optimization.seq_length, parallel_dims
        )
        stacked = _stacked(run, vocab_size, seed)
        initial = {name: value[0] for name, value in stacked.named_parameters()}
        self.shapes = {name: value.shape for name, value in initial.items()}
        state_dict.copy_into_shards(model.sharded_state_dict(), initial)
        model.config.finalize_model_grads_func = finalize_model_grads
        ddp_config = DistributedDataParallelConfig(use_distributed_optimizer=True)
        self._model = DistributedDataParallel(model.config, ddp_config, model.to(device))
        self._optimizer = _optimizer(run, peak_lr, self._model)

    @property
    def model(self) -> ParallelModel:
        """The model without its DDP wrapper."""
        module: ParallelModel = self._model.module
        return module

    def step(self, tokens_BS1: Tensor, scale: float) -> tuple[Tensor, float]:
        """Make one step at `scale` times the peak lr; return loss and gradient norm."""
        for group in self._optimizer.param_groups:
            group["lr"] = scale * self._peak_lr
            group["weight_decay"] = self._run.optimization.weight_decay * group["wd_mult"]
        self._model.zero_grad_buffer()
        self._optimizer.zero_grad()
        micro_batches = self._local_micro_batches(tokens_BS1)
        count = (tokens_BS1[:, 1:] >= 0).sum().clamp(min=1)
        losses = get_forward_backward_func()(
            forward_step_func=lambda batches, model: self._forward(batches, model, count),
            data_iterator=iter(micro_batches),
            model=[self._model],
            num_microbatches=len(micro_batches),
            seq_length=tokens_BS1.shape[1] - 1,
            micro_batch_size=len(micro_batches[0]),
            forward_only=False,
        )
        _, grad_norm, _ = self._optimizer.step()
        return self._sum_losses(losses), grad_norm

    def state_dict(self, *, is_loading: bool = False) -> dict[str, dict[str, Any]]:
        """Return Megatron's sharded state dicts of the parameters and of each moment.

        If `is_loading`, moments are zeros to read a checkpoint into.
        """
        model = {
            name: shard
            for name, shard in self.model.sharded_state_dict().items()
            if isinstance(shard, ShardedTensor | ShardedTensorFactory)
        }
        state = {PARAMETERS: model}
        moments = None if is_loading else optimizer_state.gather_moments(self._optimizer)
        for kind in optimizer_state.KINDS:
            state[kind] = {
                name: dataclasses.replace(
                    shard,
                    key=f"{kind}.{shard.key}",
                    data=torch.zeros_like(shard.data, device="cpu")
                    if moments is None
                    else moments[shard.data][kind],
                )
                for name, shard in model.items()
            }
        return state

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]], iteration: int) -> None:
        """Restore a state read into :meth:`state_dict`, saved after `iteration` steps."""
        parameters = {
            name: shard.data for name, shard in self.state_dict(is_loading=True)[PARAMETERS].items()
        }
        for name, parameter in parameters.items():
            parameter.copy_(state[PARAMETERS][name])
        moments = {
            parameter: {kind: state[kind][name] for kind in optimizer_state.KINDS}
            for name, parameter in parameters.items()
        }
        optimizer_state.scatter_moments(self._optimizer, moments, iteration)

    def load_full(self, state: Mapping[str, Tensor], iteration: int) -> None:
        """Restore this replicate from a single-process engine's state, [P] each."""
        template = self.state_dict(is_loading=True)
        for kind, shard_by_name in template.items():
            prefix = "" if kind == PARAMETERS else f"{kind}."
            state_dict.copy_into_shards(shard_by_name, self._unflatten(state[kind]), prefix)
        loaded = {
            kind: {name: shard.data for name, shard in shard_by_name.items()}
            for kind, shard_by_name in template.items()
        }
        self.load_state_dict(loaded, iteration)

    def _unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        """Return the named parameters in a row of a stacked model's buffer."""
        stacked = _stacked(self._run, self._vocab_size, 0)
        stacked.flat.copy_(flat)
        return {name: value[0] for name, value in stacked.named_parameters()}

    def _local_micro_batches(self, tokens_BS1: Tensor) -> list[Tensor]:
        """Return this model copy's windows in micro batches of one size, filled with padding."""
        rank, number = parallel_state.get_data_parallel_rank(), self._num_micro_batches
        size = math.ceil(len(tokens_BS1) / (self._parallel_dims.data * number))
        missing = size * number * self._parallel_dims.data - len(tokens_BS1)
        padding = tokens_BS1.new_full((missing, tokens_BS1.shape[1]), -1)
        local = torch.cat((tokens_BS1, padding)).chunk(self._parallel_dims.data)[rank]
        return list(local.chunk(number))

    def _forward(self, batches: Iterator[Tensor], model: Any, count: Tensor) -> tuple[Tensor, Any]:
        """Run a micro batch through this process's layers: Megatron's `forward_step_func`."""
        tokens_BS1 = next(batches)
        inputs_BS, labels_BS = tokens_BS1[:, :-1], tokens_BS1[:, 1:]
        is_real_BS, tokens_BS = labels_BS >= 0, inputs_BS.clamp(min=0)
        is_masked = self._run.optimization.reset_attention_mask
        output = model(
            tokens_BS,
            None,
            document_mask(tokens_BS) if is_masked else None,
            labels=labels_BS.clamp(min=0),
            padding_mask=inputs_BS < 0,
        )

        def loss(loss_BS: Tensor) -> tuple[Tensor, Tensor]:
            """Return the micro batch's share of the loss, scaled up as Megatron averages it."""
            share = (loss_BS * is_real_BS).sum() / count
            num_averaged = self._num_micro_batches * self._parallel_dims.data
            return share * num_averaged, share.detach()

        return output, loss

    def _sum_losses(self, losses: list[Tensor]) -> Tensor:
        """Return the sum of losses over micro batches and model copies, on every process."""
        total = torch.zeros((), device=self._device)
        if losses:  # only on the last pipeline stage
            total += torch.stack(losses).sum()
            if parallel_state.get_tensor_model_parallel_rank():
                total.zero_()
        distributed.all_reduce(total)
        return total


def _stacked(run: Run, vocab_size: int, seed: int) -> StackedModel:
    """Return a stacked model of one replicate with initial weights."""
    cpu = torch.device("cpu")
    return build_model(run.architecture, vocab_size, [seed], cpu, torch.float32)


def _optimizer(run: Run, lr: float, model: DistributedDataParallel) -> MegatronOptimizer:
    """Return Megatron's AdamW, which shards its moments over model copies."""
    settings = run.optimization
    config = OptimizerConfig(
        optimizer="adam",
        lr=lr,
        min_lr=0.0,
        weight_decay=settings.weight_decay,
        adam_beta1=settings.adam_beta1,
        adam_beta2=settings.adam_beta2,
        adam_eps=settings.adam_eps,
        clip_grad=settings.clip_grad,
        use_distributed_optimizer=True,
    )
    return get_megatron_optimizer(config, [model], use_gloo_process_groups=False)
