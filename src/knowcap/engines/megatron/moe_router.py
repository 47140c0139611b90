"""MoE router whose expert capacity and auxiliary loss are counted over all ranks.

Megatron's router counts both within one process and one micro batch. A stacked model
(:mod:`knowcap.model.moe`) counts them within a step. Here ranks exchange their choices, so that
the results are equal.

Shapes: S positions of this process, B windows of this process, E experts, K experts per token,
T tokens of a model copy.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed

from knowcap.engines.megatron.megatron_distributed import MoEAuxLossAutoScaler, TopKRouter
from knowcap.model.megatron_core import parallel_state
from knowcap.model.moe import Load


class GlobalCapacityRouter(TopKRouter):  # type: ignore[misc]
    """Megatron's top-k router with the capacity and balance of a stacked model.

    Attributes
    ----------
    load
        Load of the experts in the last step, over all ranks.
    """

    capacity_factor: float | None = None
    """Capacity of an expert, as a multiple of its even share of a step; None: unlimited."""
    load: Load

    def forward(self, input: Tensor, padding_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights of each token's experts, [S B, E], and a mask of these experts.

        Parameters
        ----------
        input
            Hidden states, [S, B, H].
        padding_mask
            Which tokens are padding, [S, B]. Padding is routed to no expert.
        """
        # ASSUME: routers compute in float32 for every dtype, as in tutel
        with torch.autocast(input.device.type, enabled=False):
            probs_SBE = self.gating(input.float()).softmax(-1)
        weight_SBK, expert_SBK = probs_SBE.topk(self.topk, -1)
        if self.topk > 1:
            weight_SBK = weight_SBK / weight_SBK.sum(-1, keepdim=True)
        is_real_SB = ~padding_mask
        chosen_SBKE = torch.nn.functional.one_hot(expert_SBK, self.num_experts)
        chosen_SBKE = chosen_SBKE * is_real_SB[:, :, None, None]
        ranks = _rank_choices(chosen_SBKE)
        is_kept_SBK = is_real_SB.unsqueeze(2)
        count_E = ranks.total.sum(0)
        if self.capacity_factor is not None:
            limit = torch.ceil(count_E.sum().double() / self.num_experts * self.capacity_factor)
            is_kept_SBK = is_kept_SBK & (ranks.rank < limit)
        kept_SBKE = chosen_SBKE * is_kept_SBK.unsqueeze(3)
        dense_SBE = (weight_SBK.unsqueeze(3) * kept_SBKE).sum(2)
        aux_loss = self._aux_loss(probs_SBE, is_real_SB, count_E, kept_SBKE)
        dense_SBE = MoEAuxLossAutoScaler.apply(dense_SBE, aux_loss)
        return dense_SBE.flatten(0, 1), kept_SBKE.sum(2).bool().flatten(0, 1)

    def _aux_loss(
        self, probs_SBE: Tensor, is_real_SB: Tensor, count_E: Tensor, kept_SBKE: Tensor
    ) -> Tensor:
        """Record the load of the experts; return this process's part of the auxiliary loss."""
        num_choices = count_E.sum().clamp(min=1)
        share_E = count_E / num_choices
        sums_E = (probs_SBE * is_real_SB.unsqueeze(2)).sum((0, 1))
        num_tokens = _all_reduce(is_real_SB.sum()).clamp(min=1)
        weight = self.config.moe_aux_loss_coeff * self.num_experts
        aux_loss = weight * (share_E * sums_E).sum() / num_tokens
        self.load = Load(
            aux_loss=_all_reduce(aux_loss.detach().clone()).unsqueeze(0),
            share=share_E.unsqueeze(0),
            dropped=((count_E.sum() - _all_reduce(kept_SBKE.sum())) / num_choices).unsqueeze(0),
        )
        # Megatron averages gradients over model copies, but this loss is a sum over them.
        result: Tensor = aux_loss * parallel_state.get_data_parallel_world_size()
        return result


class _Ranks(NamedTuple):
    """Order in which choices fill the capacity of their experts."""

    rank: Tensor
    """Number of choices of the same expert before a choice, [S, B, K]."""
    total: Tensor
    """Number of choices over all ranks, [K, E]."""


def _rank_choices(chosen_SBKE: Tensor) -> _Ranks:
    """Rank choices: all first choices, then all second ones, window after window."""
    group = parallel_state.get_tensor_and_data_parallel_group()
    tensor_rank = parallel_state.get_tensor_model_parallel_rank()
    num_tensor = parallel_state.get_tensor_model_parallel_world_size()
    num_data = parallel_state.get_data_parallel_world_size()
    # Tensor parallel ranks hold different positions of the same windows.
    parts = [torch.empty_like(chosen_SBKE) for _ in range(num_tensor * num_data)]
    distributed.all_gather(parts, chosen_SBKE.contiguous(), group=group)
    group_ranks = distributed.get_process_group_ranks(group)
    by_rank = {_parallel_ranks(rank): part for rank, part in zip(group_ranks, parts, strict=True)}
    copies = [
        torch.cat([by_rank[copy, part] for part in range(num_tensor)]) for copy in range(num_data)
    ]
    all_KTE = torch.cat([copy.transpose(0, 1).flatten(0, 1) for copy in copies]).transpose(0, 1)
    before_NE = all_KTE.flatten(0, 1).cumsum(0) - all_KTE.flatten(0, 1)
    rank_KT = (before_NE.view_as(all_KTE) * all_KTE).sum(2)
    seq_length, num_windows = num_tensor * chosen_SBKE.shape[0], chosen_SBKE.shape[1]
    rank_KDBS = rank_KT.view(len(rank_KT), num_data, num_windows, seq_length)
    rank_KBS = rank_KDBS[:, parallel_state.get_data_parallel_rank()]
    positions = slice(tensor_rank * chosen_SBKE.shape[0], (tensor_rank + 1) * chosen_SBKE.shape[0])
    return _Ranks(rank_KBS[:, :, positions].permute(2, 1, 0), all_KTE.sum(1))


def _parallel_ranks(rank: int) -> tuple[int, int]:
    """Return the data and tensor parallel rank of a global rank, which counts tensors first."""
    num_tensor = parallel_state.get_tensor_model_parallel_world_size()
    num_data = parallel_state.get_data_parallel_world_size()
    return rank // num_tensor % num_data, rank % num_tensor


def _all_reduce(value: Tensor) -> Tensor:
    """Return the sum of a value over the ranks that have the same layers."""
    distributed.all_reduce(value, group=parallel_state.get_tensor_and_data_parallel_group())
    return value


def find_routers(model: Any) -> list[GlobalCapacityRouter]:
    """Return the routers of a model's layers in this process."""
    return [module for module in model.modules() if isinstance(module, GlobalCapacityRouter)]
