"""One replicate that processes share: its model, its optimiser and how they make a step.

Megatron takes means over copies of a model and over micro batches. What is a mean over a step is
made a sum over both here, so that padding and uneven shares change nothing.

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
from knowcap.engines.megatron.megatron_core import (
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
from knowcap.model.megatron_core import parallel_state
from knowcap.model.stacked_model import StackedModel, build_model

MICRO_TOKENS = 2**14
"""Tokens whose activations a process holds at once, at most."""

STAGES_IN_FLIGHT = 4
"""Micro batches for each stage of a pipeline: a fifth of the time is spent waiting."""

PARAMETERS = "parameters"
"""What a checkpoint calls them, beside the kinds of moments."""


def num_micro_batches(layout: ParallelDims, run: Run) -> int:
    """How many parts of a process's windows follow one another."""
    num_windows = math.ceil(run.optimization.global_batch_size / layout.data)
    if run.architecture.num_moe_experts:
        return 1  # the balance of experts is over a step
    number = math.ceil(num_windows * run.optimization.seq_length / MICRO_TOKENS)
    if layout.pipeline > 1:
        number = max(number, STAGES_IN_FLIGHT * layout.pipeline)
    return min(number, num_windows)


class Replica:
    """One replicate's model and optimiser, this process's parts of them."""

    def __init__(
        self,
        run: Run,
        vocab_size: int,
        seed: int,
        peak_lr: float,
        layout: ParallelDims,
        device: torch.device,
    ) -> None:
        self._run, self._vocab_size, self._peak_lr = run, vocab_size, peak_lr
        self._layout, self._device = layout, device
        self._num_micro_batches = num_micro_batches(layout, run)
        model = build_parallel_model(
            run.architecture, vocab_size, run.optimization.seq_length, layout
        )
        stacked = _stacked(run, vocab_size, seed)
        whole = {name: value[0] for name, value in stacked.named_parameters()}
        self.shapes = {name: value.shape for name, value in whole.items()}
        state_dict.fill(model.sharded_state_dict(), whole)
        model.config.finalize_model_grads_func = finalize_model_grads
        sharing = DistributedDataParallelConfig(use_distributed_optimizer=True)
        self._model = DistributedDataParallel(model.config, sharing, model.to(device))
        self._optimizer = _optimizer(run, peak_lr, self._model)

    @property
    def model(self) -> ParallelModel:
        """The model itself."""
        module: ParallelModel = self._model.module
        return module

    def step(self, tokens_BS1: Tensor, scale: float) -> tuple[Tensor, float]:
        """Make one step at a share of the peak learning rate; answer loss and gradient's norm."""
        for group in self._optimizer.param_groups:
            group["lr"] = scale * self._peak_lr
            group["weight_decay"] = self._run.optimization.weight_decay * group["wd_mult"]
        self._model.zero_grad_buffer()
        self._optimizer.zero_grad()
        micro_batches = self._share(tokens_BS1)
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
        return self._total(losses), grad_norm

    def state_dict(self, *, is_loading: bool = False) -> dict[str, dict[str, Any]]:
        """Megatron's sharded state dicts of the parameters, and of each kind of moments.

        Those to be read into share memory with the parameters, and have room for the moments.
        """
        model = {
            name: shard
            for name, shard in self.model.sharded_state_dict().items()
            if isinstance(shard, ShardedTensor | ShardedTensorFactory)
        }
        state = {PARAMETERS: model}
        whole = None if is_loading else optimizer_state.gather(self._optimizer)
        for kind in optimizer_state.KINDS:
            state[kind] = {
                name: dataclasses.replace(
                    shard,
                    key=f"{kind}.{shard.key}",
                    data=torch.zeros_like(shard.data, device="cpu")
                    if whole is None
                    else whole[shard.data][kind],
                )
                for name, shard in model.items()
            }
        return state

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]], iteration: int) -> None:
        """Restore what has been read into :meth:`state_dict` after so many steps."""
        parameters = {
            name: shard.data for name, shard in self.state_dict(is_loading=True)[PARAMETERS].items()
        }
        for name, parameter in parameters.items():
            parameter.copy_(state[PARAMETERS][name])
        whole = {
            parameter: {kind: state[kind][name] for kind in optimizer_state.KINDS}
            for name, parameter in parameters.items()
        }
        optimizer_state.scatter(self._optimizer, whole, iteration)

    def load_whole(self, state: Mapping[str, Tensor], iteration: int) -> None:
        """Restore what the engine of one process gave of this replicate, [P] each."""
        template = self.state_dict(is_loading=True)
        for kind, shard_by_name in template.items():
            prefix = "" if kind == PARAMETERS else f"{kind}."
            state_dict.fill(shard_by_name, self._named(state[kind]), prefix)
        filled = {
            kind: {name: shard.data for name, shard in shard_by_name.items()}
            for kind, shard_by_name in template.items()
        }
        self.load_state_dict(filled, iteration)

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        """Name the parts of a row of a stacked model's buffer."""
        stacked = _stacked(self._run, self._vocab_size, 0)
        stacked.flat.copy_(flat)
        return {name: value[0] for name, value in stacked.named_parameters()}

    def _share(self, tokens_BS1: Tensor) -> list[Tensor]:
        """Take this copy's windows, in micro batches; windows of padding make them equal."""
        copy, number = parallel_state.get_data_parallel_rank(), self._num_micro_batches
        size = math.ceil(len(tokens_BS1) / (self._layout.data * number))
        missing = size * number * self._layout.data - len(tokens_BS1)
        padding = tokens_BS1.new_full((missing, tokens_BS1.shape[1]), -1)
        mine = torch.cat((tokens_BS1, padding)).chunk(self._layout.data)[copy]
        return list(mine.chunk(number))

    def _forward(self, batches: Iterator[Tensor], model: Any, count: Tensor) -> tuple[Tensor, Any]:
        """Pass a micro batch through this process's layers, as Megatron's schedules ask for it."""
        tokens_BS1 = next(batches)
        inputs_BS, labels_BS = tokens_BS1[:, :-1], tokens_BS1[:, 1:]
        is_real_BS = labels_BS >= 0
        output = model(
            inputs_BS.clamp(min=0),
            None,
            None,
            labels=labels_BS.clamp(min=0),
            padding_mask=inputs_BS < 0,
        )

        def loss(loss_BS: Tensor) -> tuple[Tensor, Tensor]:
            """Make of what is a sum over processes the mean that Megatron takes of them."""
            share = (loss_BS * is_real_BS).sum() / count
            parts = self._num_micro_batches * self._layout.data
            return share * parts, share.detach()

        return output, loss

    def _total(self, losses: list[Tensor]) -> Tensor:
        """Add up the losses of all micro batches and copies, and tell every process."""
        total = torch.zeros((), device=self._device)
        if losses:  # of the last stage of a pipeline alone
            total += torch.stack(losses).sum()
            if parallel_state.get_tensor_model_parallel_rank():
                total.zero_()
        distributed.all_reduce(total)
        return total


def _stacked(run: Run, vocab_size: int, seed: int) -> StackedModel:
    """Build a stacked model of one replicate, as it begins."""
    cpu = torch.device("cpu")
    return build_model(run.architecture, vocab_size, [seed], cpu, torch.float32)


def _optimizer(run: Run, lr: float, model: DistributedDataParallel) -> MegatronOptimizer:
    """Build Megatron's AdamW, whose moments are shared out over copies of the model."""
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
