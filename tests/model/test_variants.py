"""Properties of the stacked model for every architecture."""

import math

import pytest
import torch
from torch import Tensor

from knowcap.config import Architecture, Replicates
from knowcap.model.megatron_config import gpt_model
from knowcap.model.num_params import num_params, num_weights
from knowcap.model.optimizer import AdamW
from tests.support.variants import (
    EXPERTS,
    NUM_SEQUENCES,
    OPTIMIZATION,
    SEQ_LENGTH,
    VARIANTS,
    VOCAB_SIZE,
    architecture,
    stacked,
    windows,
    with_larger_weights,
)

for_every_variant = pytest.mark.parametrize("kind", VARIANTS.values(), ids=VARIANTS.keys())


@for_every_variant
def test_logits_equal_those_of_megatrons_gpt_model(kind):
    model = with_larger_weights(stacked(kind, 1, 2))
    tokens = windows(2, NUM_SEQUENCES, SEQ_LENGTH)
    with torch.no_grad():
        logits = model.logits(tokens)
        for replicate in range(2):
            gpt = gpt_model(kind, VOCAB_SIZE, max_sequence_length=SEQ_LENGTH)
            gpt.load_state_dict(model.unstack(replicate), strict=False)
            expected = gpt(tokens[replicate], None, None)
            # float32 sums in another order
            torch.testing.assert_close(logits[replicate], expected, rtol=1e-4, atol=1e-4)


@for_every_variant
def test_a_replicate_has_all_parameters_of_megatrons_gpt_model(kind):
    gpt = gpt_model(kind, VOCAB_SIZE, max_sequence_length=SEQ_LENGTH)
    shapes = {name: parameter.shape for name, parameter in gpt.named_parameters()}
    state = stacked(kind, 5).unstack(0)
    assert {name: value.shape for name, value in state.items()} == shapes


KINDS = {
    "layernorm": "norm",
    "self_attention": "attention",
    "mlp.router": "router",
    "mlp": "mlp",
    "embedding": "embedding",
    "output_layer": "output_layer",
}


@for_every_variant
def test_every_parameter_of_the_model_is_counted_under_its_kind(kind):
    counts = dict.fromkeys(KINDS.values(), 0)
    for name, parameter in stacked(kind, 1).named_parameters():
        counts[next(k for part, k in KINDS.items() if part in name)] += parameter.numel()
    counted = num_params(kind, VOCAB_SIZE)
    del counted["active"]
    assert counted.pop("total") == sum(counts.values())
    assert counted == counts


D, H, F = 32, 4, 88  # width, heads, and 8 D / 3 as a multiple of 8


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("GPT2", 12 * D**2 + 13 * D),
        ("GPT2_quarter", 6 * D**2 + 10 * D),
        ("GPT2_0", 4 * D**2 + 6 * D),
        ("LLaMA", 4 * D**2 + 3 * D * F + 2 * D),
        # keys and values have a quarter of the heads, and 3 * 3.5 is 10.5
        ("Mistral", 2.5 * D**2 + 10.5 * D**2 + 2 * D),
        ("GPT2 of experts", 4 * D**2 + 8 * D + 4 * (2 * D**2 + 2 * D) + 4 * D + 4),
    ],
)
def test_num_params_equals_the_closed_form(name, layer):
    kind = VARIANTS[name]
    norms, tables = (2, 1) if kind.tied else (1, 2)
    expected = tables * VOCAB_SIZE * D + 2 * layer + norms * D
    assert num_params(kind, VOCAB_SIZE)["total"] == expected


def test_the_share_of_active_parameters_equals_the_papers():
    # PAPER 9: 8.8 % of the weights of layers, (4 + 2) d^2 of (4 + 32 * 2) d^2
    kind = architecture("GPT2", kv_channels=64, **EXPERTS | {"num_moe_experts": 32})
    params = num_params(kind, vocab_size=1)
    # the router, biases and norms add some thousandths, all of them active
    assert params["active"] / params["total"] == pytest.approx(6 / 68, abs=0.003)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("GPT2", 12 * D**2),
        ("GPT2_0", 4 * D**2),
        ("LLaMA", 4 * D**2 + 3 * D * F),
        ("Mistral", 13 * D**2),
        ("GPT2 of experts", 4 * D**2 + 2 * D**2 + 4 * D),
        ("LLaMA of experts", 4 * D**2 + 2 * 3 * D * 24 + 4 * D),
    ],
)
def test_num_weights_counts_the_matrices_that_a_token_is_multiplied_by(name, layer):
    assert sum(num_weights(VARIANTS[name], VOCAB_SIZE).values()) == VOCAB_SIZE * D + 2 * layer


@for_every_variant
def test_the_initial_loss_is_that_of_uniform_guessing(kind):
    loss = stacked(kind, 1, 2).loss(windows(2, 32, 33))
    # weights of 0.02 move logits by less than 0.1
    torch.testing.assert_close(loss, torch.full((2,), math.log(VOCAB_SIZE)), rtol=0, atol=0.1)


@for_every_variant
def test_initial_weights_depend_only_on_the_seed(kind):
    beside_others, alone = stacked(kind, 4, 5, 6), stacked(kind, 5)
    assert torch.equal(beside_others.flat[1], alone.flat[0])
    assert not torch.equal(beside_others.flat[0], beside_others.flat[1])


@for_every_variant
def test_matrices_are_random_and_decayed_biases_zero_and_not_decayed(kind):
    model = stacked(kind, 1)
    for name, parameter in model.named_parameters():
        is_decayed = parameter.storage_offset() < model.num_decayed
        if name.endswith("bias"):
            assert not parameter.any()
            assert not is_decayed
        elif "layernorm" in name:
            assert bool((parameter == 1).all())
            assert not is_decayed
        else:
            is_residual = name.endswith(("linear_proj.weight", "linear_fc2.weight"))
            std = 0.02 / math.sqrt(2 * kind.num_layers) if is_residual else 0.02
            # the smallest is a router's, 128 draws
            assert parameter.std().item() == pytest.approx(std, rel=0.3)
            assert is_decayed


@for_every_variant
def test_padding_changes_no_loss_or_gradient(kind):
    model = with_larger_weights(stacked(kind, 1))
    tokens = windows(1, 2, SEQ_LENGTH + 1)
    shorter = tokens.clone()
    shorter[:, :, 6:] = -1
    gradients = []
    for given in (tokens[:, :, :6], shorter):
        loss = model.loss(given)
        loss.sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        model.zero_grad()
    # with experts, the token before the padding is routed too and changes the load-balancing loss
    same = slice(None) if not kind.num_moe_experts else slice(0, 0)
    # float32 sums of other lengths, of gradients up to 1
    torch.testing.assert_close(gradients[1][same], gradients[0][same], rtol=1e-4, atol=5e-6)
    torch.testing.assert_close(model.loss(shorter), model.loss(tokens[:, :, :6]), rtol=1e-5, atol=0)


@for_every_variant
def test_a_replicate_without_targets_has_zero_loss_and_gradients(kind):
    model = stacked(kind, 1, 2)
    tokens = windows(2, 2, SEQ_LENGTH + 1)
    tokens[1] = -1
    loss = model.loss(tokens)
    loss.sum().backward()
    assert loss[1].item() == 0
    assert all(not parameter.grad[1].any() for parameter in model.parameters())


def train(kind: Architecture, seeds: tuple[int, ...], tokens: Tensor, lr: float = 1e-2) -> Tensor:
    model = stacked(kind, *seeds)
    steps = tokens.shape[1]
    optimizer = AdamW(model, OPTIMIZATION, Replicates(seeds=seeds, lr=(lr,)), steps)
    losses = []
    for iteration in range(steps):
        loss = model.loss(tokens[:, iteration])
        loss.sum().backward()
        optimizer.step(iteration)
        losses.append(loss.detach())
    return torch.stack(losses)


CAPPED = architecture("GPT2", **EXPERTS, moe_expert_capacity_factor=1.25)


@pytest.mark.parametrize(
    "kind", [*VARIANTS.values(), CAPPED], ids=[*VARIANTS.keys(), "experts with little capacity"]
)
def test_replicates_train_as_they_would_alone(kind):
    tokens = windows(3, 8, NUM_SEQUENCES, SEQ_LENGTH + 1)
    together = train(kind, (1, 2, 3), tokens)
    for replicate, seed in enumerate((1, 2, 3)):
        alone = train(kind, (seed,), tokens[replicate : replicate + 1])
        # batched products may sum in another order, and 8 steps let the difference grow
        torch.testing.assert_close(together[:, replicate], alone[:, 0], rtol=1e-4, atol=0)


@for_every_variant
def test_one_batch_can_be_memorized(kind):
    tokens = windows(1, 1, 2, SEQ_LENGTH + 1).expand(1, 100, -1, -1)
    losses = train(kind, (1,), tokens)
    # the first token of a window has no context and cannot be predicted
    assert losses[-1].item() < 0.1 * losses[0].item()


@for_every_variant
def test_bfloat16_gradients_are_float32_and_close(kind):
    tokens = windows(1, NUM_SEQUENCES, SEQ_LENGTH + 1)
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        model = with_larger_weights(stacked(kind, 1, dtype=dtype))
        model.loss(tokens).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    exact, rounded = gradients
    assert rounded.dtype == torch.float32
    # a few bfloat16 roundings in a row, relative to the whole gradient; where rounding changes the
    # expert of a token, the difference is larger
    assert (rounded - exact).norm() < (0.3 if kind.num_moe_experts else 0.06) * exact.norm()
