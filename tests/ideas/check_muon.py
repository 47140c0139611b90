"""Muon equals torch's for each replicate, and leaves all other parameters to AdamW."""

import pytest
import torch

from knowcap.config import Replicates
from knowcap.engines.megatron.support import check_supported
from knowcap.engines.select import build_engine
from knowcap.errors import UserError
from knowcap.model.megatron_core import init_process_groups
from knowcap.model.optimizer import AdamW, Muon
from tests.model.test_optimizer import optimization, set_gradients, stacked
from tests.support.tiny import tiny_run

LRS = (1e-2, 3e-2)


def trained(kind: type[AdamW], **settings: object) -> dict[str, torch.Tensor]:
    model = stacked(2)
    optimizer = kind(model, optimization(**settings), Replicates(seeds=(0,), lr=LRS), 12)
    for iteration in range(3):
        set_gradients(model, iteration)
        optimizer.step(iteration)
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def test_matrices_of_layers_are_updated_as_by_torch():
    name = "decoder.layers.0.mlp.linear_fc1.weight"
    settings = {"optimizer": "Muon", "muon_momentum": 0.95, "clip_grad": 1e9}
    updated = trained(Muon, **settings, lr_warmup_iters=0, min_lr_fraction=1.0)[name]
    model = stacked(2)
    for replicate, lr in enumerate(LRS):
        weight = dict(model.named_parameters())[name][replicate].detach().clone()
        before, parameter = weight.clone(), torch.nn.Parameter(weight)
        theirs = torch.optim.Muon(
            [parameter], lr, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )
        for iteration in range(3):
            set_gradients(model, iteration)
            parameter.grad = dict(model.named_parameters())[name].grad[replicate].clone()
            theirs.step()
        difference = (updated[replicate] - parameter).norm() / (parameter - before).norm()
        assert difference < 0.02  # torch orthogonalizes in bfloat16


def test_all_other_parameters_are_updated_by_adamw():
    muon = trained(Muon, optimizer="Muon", muon_momentum=0.95)
    for name, value in trained(AdamW).items():
        is_layer_matrix = name.startswith("decoder.layers.") and value.shape[-2] > 1
        assert torch.allclose(muon[name], value) != is_layer_matrix, name


def test_its_momentum_must_be_given():
    with pytest.raises(ValueError, match="muon_momentum"):
        optimization(optimizer="Muon")


def test_it_trains_in_the_stacked_engine_and_learns():
    run = tiny_run(optimization__optimizer="Muon", optimization__muon_momentum=0.95)
    with pytest.raises(UserError, match=r"'Muon' is not implemented by several"):
        check_supported(run)
    engine = build_engine(run, 20, 30, init_process_groups())
    assert engine.facts()["name"] == "stacked"
    tokens = torch.arange(4 * 17).view(1, 4, 17).expand(4, -1, -1) % 20
    losses = [engine.step(tokens, iteration).loss for iteration in range(30)]
    assert (losses[-1] < 0.95 * losses[0]).all()
