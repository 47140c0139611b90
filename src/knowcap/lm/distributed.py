"""The engine of several processes: Megatron's layers, its schedules and its distributed optimizer.

Each replicate is a model of its own, laid out over all processes; replicates take turns within a
step. All begin with the weights that a stacked model would, and make its steps up to rounding:
what padding and experts do is counted over a step, not over a process.

Shapes: R replicates, B windows of a step, S positions of a window.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, distributed

from knowcap.config import Run
from knowcap.layout import Layout
from knowcap.lm import moments, shards
from knowcap.lm.engine import Step
from knowcap.lm.experts import Load, load_metrics
from knowcap.lm.laid_out import LaidOutModel, laid_out_model
from knowcap.lm.megatron import (
    DistributedDataParallel,
    DistributedDataParallelConfig,
    MegatronOptimizer,
    OptimizerConfig,
    ShardedTensor,
    ShardedTensorFactory,
    add_prefix_for_sharding,
    as_on_gpu,
    finalize_model_grads,
    get_forward_backward_func,
    get_megatron_optimizer,
)
from knowcap.lm.model import StackedModel, build_model
from knowcap.lm.optimizer import learning_rate_scale
from knowcap.lm.parallel import parallel_state
from knowcap.lm.routing import routers

MICRO_TOKENS = 2**14
"""Tokens whose activations a process holds at once, at most."""

STAGES_IN_FLIGHT = 4
"""Micro batches for each stage of a pipeline: a fifth of the time is spent waiting."""

PARAMETERS = "parameters"
"""What a checkpoint calls them, beside the kinds of moments."""


def num_micro_batches(layout: Layout, run: Run) -> int:
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
        layout: Layout,
        device: torch.device,
    ) -> None:
        self._run, self._vocab_size, self._peak_lr = run, vocab_size, peak_lr
        self._layout, self._device = layout, device
        self._num_micro_batches = num_micro_batches(layout, run)
        model = laid_out_model(run.architecture, vocab_size, run.optimization.seq_length, layout)
        stacked = _stacked(run, vocab_size, seed)
        whole = {name: value[0] for name, value in stacked.named_parameters()}
        self.shapes = {name: value.shape for name, value in whole.items()}
        shards.fill(model.sharded_state_dict(), whole)
        model.config.finalize_model_grads_func = finalize_model_grads
        sharing = DistributedDataParallelConfig(use_distributed_optimizer=True)
        self._model = DistributedDataParallel(model.config, sharing, model.to(device))
        self._optimizer = _optimizer(run, peak_lr, self._model)

    @property
    def model(self) -> LaidOutModel:
        """The model itself."""
        module: LaidOutModel = self._model.module
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
        whole = None if is_loading else moments.gather(self._optimizer)
        for kind in moments.KINDS:
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
            parameter: {kind: state[kind][name] for kind in moments.KINDS}
            for name, parameter in parameters.items()
        }
        moments.scatter(self._optimizer, whole, iteration)

    def load_whole(self, state: Mapping[str, Tensor], iteration: int) -> None:
        """Restore what the engine of one process gave of this replicate, [P] each."""
        template = self.state_dict(is_loading=True)
        for kind, shard_by_name in template.items():
            prefix = "" if kind == PARAMETERS else f"{kind}."
            shards.fill(shard_by_name, self._named(state[kind]), prefix)
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


class DistributedEngine:
    """Replicates laid out over processes, all of which call each method.

    Parameters
    ----------
    run, vocab_size, train_iters, device
        See :func:`knowcap.lm.engine.start_engine`.
    layout
        Of the processes.
    """

    def __init__(
        self, run: Run, vocab_size: int, train_iters: int, device: torch.device, layout: Layout
    ) -> None:
        self._run, self._vocab_size, self._train_iters = run, vocab_size, train_iters
        self._dtype = getattr(torch, run.optimization.dtype)
        self._device = device
        self._everyone = distributed.new_group(backend="gloo")
        with as_on_gpu():
            self._replicas = [
                Replica(run, vocab_size, seed, lr, layout, device)
                for seed, lr in run.replicates.pairs
            ]

    @property
    def num_bytes(self) -> int:
        """Of a checkpoint."""
        sizes = [math.prod(shape) for shape in self._replicas[0].shapes.values()]
        return 3 * 4 * int(sum(sizes)) * len(self._replicas)

    def step(self, tokens_RBS1: Tensor, iteration: int) -> Step:
        """Make one step, one replicate after the other."""
        scale = learning_rate_scale(self._run.optimization, self._train_iters, iteration)
        is_half = self._dtype != torch.float32
        with as_on_gpu(), torch.autocast(self._device.type, self._dtype, enabled=is_half):
            steps = [
                replica.step(tokens_BS1, scale)
                for replica, tokens_BS1 in zip(self._replicas, tokens_RBS1, strict=True)
            ]
        losses, norms = zip(*steps, strict=True)
        return Step(torch.stack(losses), torch.tensor(norms, device=self._device))

    def metrics(self) -> dict[str, Any]:
        """How experts share the load, if there are any."""
        if not self._run.architecture.num_moe_experts:
            return {}
        mine = {
            (router.layer_number, number): [part.cpu() for part in router.load]
            for number, replica in enumerate(self._replicas)
            for router in routers(replica.model)
        }
        found: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(found, mine, group=self._everyone)
        loads = {place: load for theirs in found for place, load in theirs.items()}
        by_layer = []
        for layer in range(1, self._run.architecture.num_layers + 1):
            parts = [loads[layer, number] for number in range(len(self._replicas))]
            by_layer.append(Load(*(torch.cat(part) for part in zip(*parts, strict=True))))
        return load_metrics(by_layer)

    def state_dict(self) -> dict[str, Any]:
        """Megatron's sharded state dict of all replicates."""
        return self._state_dict(is_loading=False)

    def template(self) -> dict[str, Any]:
        """Sharded state dict to read a checkpoint into, for :meth:`load_state_dict`."""
        return self._state_dict(is_loading=True)

    def _state_dict(self, *, is_loading: bool) -> dict[str, Any]:
        state = {}
        with as_on_gpu():
            for number, replica in enumerate(self._replicas):
                state[f"replicate_{number}"] = replica.state_dict(is_loading=is_loading)
                add_prefix_for_sharding(state[f"replicate_{number}"], f"replicate_{number}.")
        return state

    def load_sharded(self, state: Mapping[str, Any], iteration: int) -> None:
        """Restore what was read into :meth:`template`, after so many steps."""
        with as_on_gpu():
            for number, replica in enumerate(self._replicas):
                replica.load_state_dict(state[f"replicate_{number}"], iteration)

    def load_state_dict(self, state: Mapping[str, Tensor], iteration: int = 0) -> None:
        """Restore what the engine of one process gave after so many steps, [R, P] each."""
        with as_on_gpu():
            for number, replica in enumerate(self._replicas):
                mine = {name: value[number] for name, value in state.items()}
                replica.load_whole(mine, iteration)

    def weights(self) -> dict[str, Tensor]:
        """Each named parameter, on the leader; nothing on the others."""
        found = [
            shards.gather(replica.model.sharded_state_dict(), replica.shapes, self._everyone)
            for replica in self._replicas
        ]
        return {name: torch.stack([weights[name] for weights in found]) for name in found[0]}
