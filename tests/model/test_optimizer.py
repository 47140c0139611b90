"""AdamW equals torch's for each replicate, with its own learning rate and clipping."""

import math

import pytest
import torch

from knowcap.config import Architecture, Optimization, Replicates
from knowcap.model.megatron_core import init_process_groups
from knowcap.model.optimizer import AdamW, learning_rate_scale
from knowcap.model.stacked_model import StackedModel, build_model

ARCHITECTURE = Architecture(
    family="GPT2",
    num_layers=1,
    num_attention_heads=1,
    kv_channels=4,
    rotary_percent=1.0,
    rotary_base=10_000,
    init_method_std=0.02,
)
SETTINGS = {
    "exposures": 1,
    "seq_length": 4,
    "global_batch_size": 1,
    "lr_warmup_iters": 4,
    "min_lr_fraction": 0.1,
    "weight_decay": 0.1,
    "adam_beta1": 0.9,
    "adam_beta2": 0.98,
    "adam_eps": 1e-6,
    "clip_grad": 1.0,
    "dtype": "float32",
}
TRAIN_ITERS = 12


def optimization(**changes) -> Optimization:
    return Optimization(**{**SETTINGS, **changes})


def stacked(num_replicates: int) -> StackedModel:
    return build_model(ARCHITECTURE, 7, range(num_replicates), init_process_groups(), torch.float32)


def set_gradients(model: StackedModel, iteration: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(iteration)
    for parameter in model.parameters():
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)


def test_learning_rate_rises_linearly_then_falls_by_half_a_cosine():
    scales = [learning_rate_scale(optimization(), TRAIN_ITERS, i) for i in range(TRAIN_ITERS)]
    assert scales[:4] == [0.25, 0.5, 0.75, 1.0]
    assert scales[7] == pytest.approx(0.55)  # half way: the mean of peak and end
    assert scales[-1] == pytest.approx(0.1)


def test_warm_up_can_be_a_share_of_the_steps():
    settings = optimization(lr_warmup_iters=None, lr_warmup_fraction=0.5)
    assert learning_rate_scale(settings, TRAIN_ITERS, 5) == 1.0
    assert learning_rate_scale(settings, TRAIN_ITERS, 2) == 0.5


def test_without_warm_up_the_first_step_is_near_the_peak():
    settings = optimization(lr_warmup_iters=0)
    expected = 0.1 + 0.9 * (1 + math.cos(math.pi / TRAIN_ITERS)) / 2
    assert learning_rate_scale(settings, TRAIN_ITERS, 0) == pytest.approx(expected)


def test_steps_equal_torchs_for_each_replicate():
    replicates = Replicates(seeds=(1, 2), lr=(1e-2, 3e-3))
    model = stacked(4)
    optimizer = AdamW(model, optimization(), replicates, TRAIN_ITERS)
    copies, references = [], []
    for replicate, (_, lr) in enumerate(replicates.pairs):
        copy = [
            torch.nn.Parameter(p.detach()[replicate].clone(memory_format=torch.contiguous_format))
            for p in model.parameters()
        ]
        groups = [
            {"params": [p for p in copy if len(p) > 1], "weight_decay": 0.1},
            {"params": [p for p in copy if len(p) == 1], "weight_decay": 0.0},
        ]
        copies.append(copy)
        references.append(torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-6))
    for iteration in range(TRAIN_ITERS):
        set_gradients(model, iteration)
        for replicate, (copy, reference) in enumerate(zip(copies, references, strict=True)):
            for single, parameter in zip(copy, model.parameters(), strict=True):
                single.grad = parameter.grad[replicate].clone()
            torch.nn.utils.clip_grad_norm_(copy, 1.0)
            scale = learning_rate_scale(optimization(), TRAIN_ITERS, iteration)
            for group in reference.param_groups:
                group["lr"] = scale * replicates.pairs[replicate][1]
            reference.step()
        optimizer.step(iteration)
    for replicate, copy in enumerate(copies):
        for single, parameter in zip(copy, model.parameters(), strict=True):
            # torch clips by the norm plus 1e-6
            torch.testing.assert_close(parameter[replicate], single, rtol=1e-5, atol=1e-6)


def test_step_returns_the_norm_of_each_replicate_before_clipping():
    model = stacked(2)
    set_gradients(model, 0)
    expected = [
        math.sqrt(sum(p.grad[r].square().sum().item() for p in model.parameters()))
        for r in range(2)
    ]
    optimizer = AdamW(model, optimization(), Replicates(seeds=(1, 2), lr=(1e-3,)), TRAIN_ITERS)
    assert optimizer.step(0).tolist() == pytest.approx(expected, rel=1e-5)


def test_a_large_gradient_of_one_replicate_does_not_change_the_others():
    finals = []
    for scale in (1.0, 1e6):
        model = stacked(2)
        optimizer = AdamW(model, optimization(), Replicates(seeds=(1, 2), lr=(1e-3,)), TRAIN_ITERS)
        set_gradients(model, 0)
        for parameter in model.parameters():
            parameter.grad[0] *= scale
        optimizer.step(0)
        finals.append(model.flat.clone())
    assert torch.equal(finals[0][1], finals[1][1])
    # the direction is the same and both are clipped to norm 1
    torch.testing.assert_close(finals[0][0], finals[1][0], rtol=1e-5, atol=1e-7)


def test_zero_gradients_only_decay_matrices():
    model = stacked(1)
    before = model.flat.clone()
    optimizer = AdamW(model, optimization(), Replicates(seeds=(1,), lr=(1e-2,)), TRAIN_ITERS)
    set_gradients(model, 0, scale=0.0)
    optimizer.step(0)
    decayed = model.num_decayed
    shrunk = before[:, :decayed] * (1 - 0.1 * 1e-2 / 4)
    torch.testing.assert_close(model.flat[:, :decayed], shrunk, rtol=1e-6, atol=0)
    assert torch.equal(model.flat[:, decayed:], before[:, decayed:])


def test_gradients_are_freed():
    model = stacked(1)
    set_gradients(model, 0)
    AdamW(model, optimization(), Replicates(seeds=(1,), lr=(1e-2,)), TRAIN_ITERS).step(0)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_training_resumes_bit_identically_from_saved_state(tmp_path):
    replicates = Replicates(seeds=(1, 2), lr=(1e-2,))

    def run(stop: int | None) -> torch.Tensor:
        model = stacked(2)
        optimizer = AdamW(model, optimization(), replicates, TRAIN_ITERS)
        for iteration in range(TRAIN_ITERS):
            if iteration == stop:
                torch.save((model.flat, optimizer.state_dict()), tmp_path / "state.pt")
                model = stacked(2)
                optimizer = AdamW(model, optimization(), replicates, TRAIN_ITERS)
                flat, state = torch.load(tmp_path / "state.pt")
                model.flat.copy_(flat)
                optimizer.load_state_dict(state)
            set_gradients(model, iteration)
            optimizer.step(iteration)
        return model.flat

    assert torch.equal(run(stop=None), run(stop=5))
