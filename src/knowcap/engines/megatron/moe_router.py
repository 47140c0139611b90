"""The choice of experts when processes share it: the very choice that one process makes.

Megatron's router gives places to experts, and weighs their balance, within a process and a micro
batch. A stacked model (:mod:`knowcap.model.moe`) does so within a step: so here processes
tell one another how many tokens chose what.

Shapes: S positions of this process, B windows of this process, E experts, K choices of a token.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed

from knowcap.engines.megatron.megatron_core import MoEAuxLossAutoScaler, TopKRouter
from knowcap.model.megatron_core import parallel_state
from knowcap.model.moe import Load


class Router(TopKRouter):  # type: ignore[misc]
    """Megatron's router with a stacked model's choice.

    Attributes
    ----------
    load
        How the last step spread tokens over experts, in all processes.
    """

    capacity_factor: float | None = None
    """Places of an expert, as a multiple of its even share of a step; None is for all."""
    load: Load

    def forward(self, input: Tensor, padding_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of the experts of each token, [S B, E], and which they are.

        Parameters
        ----------
        input
            Hidden states, [S, B, H].
        padding_mask
            Which tokens are padding, [S, B]. Padding goes to no expert.
        """
        # ASSUME: routers compute in float32 whatever the dtype, as tutel's
        with torch.autocast(input.device.type, enabled=False):
            probs_SBE = self.gating(input.float()).softmax(-1)
        weight_SBK, expert_SBK = probs_SBE.topk(self.topk, -1)
        if self.topk > 1:
            weight_SBK = weight_SBK / weight_SBK.sum(-1, keepdim=True)
        is_real_SB = ~padding_mask
        chosen_SBKE = torch.nn.functional.one_hot(expert_SBK, self.num_experts)
        chosen_SBKE = chosen_SBKE * is_real_SB[:, :, None, None]
        queue = _stand_in_line(chosen_SBKE)
        is_placed_SBK = is_real_SB.unsqueeze(2)
        count_E = queue.total.sum(0)
        if self.capacity_factor is not None:
            limit = torch.ceil(count_E.sum().double() / self.num_experts * self.capacity_factor)
            is_placed_SBK = is_placed_SBK & (queue.rank < limit)
        placed_SBKE = chosen_SBKE * is_placed_SBK.unsqueeze(3)
        dense_SBE = (weight_SBK.unsqueeze(3) * placed_SBKE).sum(2)
        aux_loss = self._balance(probs_SBE, is_real_SB, count_E, placed_SBKE)
        dense_SBE = MoEAuxLossAutoScaler.apply(dense_SBE, aux_loss)
        return dense_SBE.flatten(0, 1), placed_SBKE.sum(2).bool().flatten(0, 1)

    def _balance(
        self, probs_SBE: Tensor, is_real_SB: Tensor, count_E: Tensor, placed_SBKE: Tensor
    ) -> Tensor:
        """Measure the balance of the experts, and answer this process's part of its loss."""
        num_choices = count_E.sum().clamp(min=1)
        share_E = count_E / num_choices
        sums_E = (probs_SBE * is_real_SB.unsqueeze(2)).sum((0, 1))
        num_tokens = _total(is_real_SB.sum()).clamp(min=1)
        weight = self.config.moe_aux_loss_coeff * self.num_experts
        aux_loss = weight * (share_E * sums_E).sum() / num_tokens
        self.load = Load(
            aux_loss=_total(aux_loss.detach().clone()).unsqueeze(0),
            share=share_E.unsqueeze(0),
            dropped=((count_E.sum() - _total(placed_SBKE.sum())) / num_choices).unsqueeze(0),
        )
        # Megatron takes the mean of the copies' gradients; this is a sum over all processes.
        result: Tensor = aux_loss * parallel_state.get_data_parallel_world_size()
        return result


class _Line(NamedTuple):
    """Choices of an expert in the order in which they get its places."""

    rank: Tensor
    """How many come before a choice, [S, B, K]."""
    total: Tensor
    """How many there are in all processes, [K, E]."""


def _stand_in_line(chosen_SBKE: Tensor) -> _Line:
    """Order choices: all first ones, then all second ones, each window after window."""
    group = parallel_state.get_tensor_and_data_parallel_group()
    mine = parallel_state.get_tensor_model_parallel_rank()
    num_tensor = parallel_state.get_tensor_model_parallel_world_size()
    num_data = parallel_state.get_data_parallel_world_size()
    # Windows of this copy of the model, of which tensor parallelism gives each process positions.
    parts = [torch.empty_like(chosen_SBKE) for _ in range(num_tensor * num_data)]
    distributed.all_gather(parts, chosen_SBKE.contiguous(), group=group)
    ours = distributed.get_process_group_ranks(group)
    by_place = {_place(rank): part for rank, part in zip(ours, parts, strict=True)}
    copies = [
        torch.cat([by_place[copy, part] for part in range(num_tensor)]) for copy in range(num_data)
    ]
    all_KTE = torch.cat([copy.transpose(0, 1).flatten(0, 1) for copy in copies]).transpose(0, 1)
    before_NE = all_KTE.flatten(0, 1).cumsum(0) - all_KTE.flatten(0, 1)
    rank_KT = (before_NE.view_as(all_KTE) * all_KTE).sum(2)
    seq_length, num_windows = num_tensor * chosen_SBKE.shape[0], chosen_SBKE.shape[1]
    rank_KDBS = rank_KT.view(len(rank_KT), num_data, num_windows, seq_length)
    rank_KBS = rank_KDBS[:, parallel_state.get_data_parallel_rank()]
    positions = slice(mine * chosen_SBKE.shape[0], (mine + 1) * chosen_SBKE.shape[0])
    return _Line(rank_KBS[:, :, positions].permute(2, 1, 0), all_KTE.sum(1))


def _place(rank: int) -> tuple[int, int]:
    """Copy of the model and part of it that a process has; ranks count tensors first."""
    num_tensor = parallel_state.get_tensor_model_parallel_world_size()
    num_data = parallel_state.get_data_parallel_world_size()
    return rank // num_tensor % num_data, rank % num_tensor


def _total(value: Tensor) -> Tensor:
    """Add up a number over the processes that have the same layers."""
    distributed.all_reduce(value, group=parallel_state.get_tensor_and_data_parallel_group())
    return value


def routers(model: Any) -> list[Router]:
    """Find the routers of a model's layers in this process."""
    return [module for module in model.modules() if isinstance(module, Router)]
