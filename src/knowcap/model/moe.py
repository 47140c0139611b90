"""Mixture of experts of stacked replicates: router, expert capacity, load-balancing loss.

The experts of all replicates are one batched product. Each has the same capacity; tokens beyond it
are dropped, so that only the residual connection passes them on (Shazeer et al. 2017, arXiv
1701.06538; Fedus et al. 2021, arXiv 2101.03961).

Shapes: R replicates, T tokens (sequences one after the other), H hidden, E experts, K experts per
token, N = K T choices (the first choices of all tokens, then the second ones), P = E x capacity
slots.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from knowcap.model.block import MLPBlock
from knowcap.model.linear import StackedLinear
from knowcap.model.megatron_core import TransformerConfig


class Load(NamedTuple):
    """Distribution of a layer's tokens over its experts."""

    aux_loss: Tensor
    """Load-balancing loss, [R], differentiable; equal to its coefficient for an even load."""
    share: Tensor
    """Share of the choices that each expert gets, [R, E]."""
    dropped: Tensor
    """Share of the choices beyond expert capacity, [R]."""


class Routing(NamedTuple):
    """Inputs and results of the routers in one forward pass."""

    is_real: Tensor
    """Whether each token is not padding, [R, T]. Padding is not routed."""
    capacity_factor: float | None
    """Expert capacity as a multiple of the even share of the choices; None is unlimited."""
    loads: list[Load]
    """Load of each layer, appended by the layers."""


class _Slots(NamedTuple):
    """Assignment of choices to slots of experts."""

    slot: Tensor
    """Slot of each choice, [R, N]; P if it is dropped."""
    choice: Tensor
    """Choice in each slot, [R, P]; N if it is empty."""
    is_kept: Tensor
    """Whether a choice has a slot, [R, N]."""
    num_choices: Tensor
    """Choices of each expert, kept or dropped, [R, E]."""


def _assign_slots(
    expert_RN: Tensor, is_real_RN: Tensor, num_experts: int, num_tokens: int, factor: float | None
) -> _Slots:
    """Give the slots of each expert to its first choices."""
    # one_hot would copy expert indices to the host, to check them.
    experts_E = torch.arange(num_experts, device=expert_RN.device)
    chosen_RNE = (expert_RN.unsqueeze(2) == experts_E) & is_real_RN.unsqueeze(2)
    count_RE = chosen_RNE.sum(1)
    rank_RN = chosen_RNE.cumsum(1).gather(2, expert_RN.unsqueeze(2)).squeeze(2) - 1
    num_choices = expert_RN.shape[1]
    if factor is None:
        capacity = max(1, int(count_RE.max()))
        is_kept_RN = is_real_RN
    else:
        # Capacity is a share of the real tokens, padding does not raise it.
        limit_R1 = torch.ceil(count_RE.sum(1, keepdim=True).double() / num_experts * factor)
        capacity = min(num_tokens, math.ceil(num_choices / num_experts * factor))
        is_kept_RN = is_real_RN & (rank_RN < limit_R1)
    num_slots = num_experts * capacity
    slot_RN = (expert_RN * capacity + rank_RN).masked_fill(~is_kept_RN, num_slots)
    choice_RP = slot_RN.new_full((len(slot_RN), num_slots + 1), num_choices)
    index_RN = torch.arange(num_choices, device=slot_RN.device).expand_as(slot_RN)
    choice_RP.scatter_(1, slot_RN, index_RN)
    return _Slots(slot_RN, choice_RP[:, :-1], is_kept_RN, count_RE)


def _take_rows(rows_RNH: Tensor, index_RP: Tensor) -> Tensor:
    """Rows of each replicate, [R, P, H]; the index N is a row of zeros."""
    num_replicates, num_rows, width = rows_RNH.shape
    padded = torch.cat((rows_RNH, rows_RNH.new_zeros(num_replicates, 1, width)), 1)
    first_R1 = torch.arange(num_replicates, device=index_RP.device).unsqueeze(1) * (num_rows + 1)
    return embedding(index_RP + first_R1, padded.flatten(0, 1))


class MoEBlock(nn.Module):
    """Router and experts of R replicates, with Megatron's parameter names."""

    def __init__(self, config: TransformerConfig, num_replicates: int) -> None:
        super().__init__()
        self.config = config
        self.num_experts = config.num_moe_experts
        # ASSUME: the router has a bias where other linear layers have one, as in Megatron
        self.router = StackedLinear(config, (num_replicates,), config.hidden_size, self.num_experts)
        self.experts = MLPBlock(config, (num_replicates, self.num_experts))

    def forward(self, inputs_RTH: Tensor, routing: Routing, dtype: torch.dtype) -> Tensor:
        """Return the sums of the chosen experts' outputs, weighted by the router, [R, T, H].

        Parameters
        ----------
        inputs_RTH
            Normalized hidden states in float32.
        routing
            Padding and capacity; the layer's load is appended.
        dtype
            Dtype of the experts' products.
        """
        topk, num_tokens = self.config.moe_router_topk, inputs_RTH.shape[1]
        # ASSUME: routers compute in float32 whatever the dtype, as in tutel
        probs_RTE = self.router(inputs_RTH).softmax(-1)
        weight_RTK, expert_RTK = probs_RTE.topk(topk, -1)
        # ASSUME: as in tutel, the output of a single expert is weighted by its probability, those
        # of several experts by their probabilities normalized to a sum of 1
        if topk > 1:
            weight_RTK = weight_RTK / weight_RTK.sum(-1, keepdim=True)
        expert_RN = expert_RTK.mT.flatten(1)
        is_real_RN = routing.is_real.repeat(1, topk)
        slots = _assign_slots(
            expert_RN, is_real_RN, self.num_experts, num_tokens, routing.capacity_factor
        )
        routing.loads.append(self._load(probs_RTE, routing.is_real, is_real_RN, slots))
        # Each choice is a row of its own, so that no two gradients add up in an undefined order.
        inputs_RPH = _take_rows(inputs_RTH.to(dtype).repeat(1, topk, 1), slots.choice)
        by_expert = inputs_RPH.unflatten(1, (self.num_experts, -1)).flatten(0, 1)
        outputs_RPH = self.experts(by_expert).view_as(inputs_RPH).to(inputs_RTH.dtype)
        outputs_RNH = _take_rows(outputs_RPH, slots.slot)
        outputs_RKTH = outputs_RNH.unflatten(1, (topk, num_tokens))
        weighted_RTH: Tensor = (outputs_RKTH * weight_RTK.mT.unsqueeze(3)).sum(1)
        return weighted_RTH

    def _load(
        self, probs_RTE: Tensor, is_real_RT: Tensor, is_real_RN: Tensor, slots: _Slots
    ) -> Load:
        """Load of the experts and its load-balancing loss."""
        num_choices_R = is_real_RN.sum(1).clamp(min=1)
        share_RE = slots.num_choices / num_choices_R.unsqueeze(1)
        # ASSUME: the loss of the Switch Transformer, which for one expert per token is tutel's
        sums_RE = (probs_RTE * is_real_RT.unsqueeze(2)).sum(1)
        probs_RE = sums_RE / is_real_RT.sum(1, keepdim=True).clamp(min=1)
        imbalance_R = self.num_experts * (share_RE * probs_RE).sum(1)
        return Load(
            aux_loss=self.config.moe_aux_loss_coeff * imbalance_R,
            share=share_RE,
            dropped=(is_real_RN & ~slots.is_kept).sum(1) / num_choices_R,
        )


def load_metrics(loads: list[Load]) -> dict[str, Any]:
    """Expert load by replicate and layer for the metrics log, empty without experts."""
    if not loads:
        return {}
    share_RLE = torch.stack([load.share for load in loads], 1)
    return rounded_loads(share_RLE, torch.stack([load.dropped for load in loads], 1))


def rounded_loads(share_RLE: Tensor, dropped_RL: Tensor) -> dict[str, Any]:
    """Shares of experts and of dropped choices, rounded to four decimals."""
    return {
        "expert_share": share_RLE.double().round(decimals=4).tolist(),
        "dropped_share": dropped_RL.double().round(decimals=4).tolist(),
    }
