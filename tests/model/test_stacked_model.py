"""A stacked model equals its replicates, and each replicate equals a plain GPT2."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, gelu, layer_norm

from knowcap.config import Architecture, Replicates
from knowcap.model.megatron_config import gpt_model
from knowcap.model.megatron_core import init_process_groups
from knowcap.model.optimizer import AdamW
from knowcap.model.stacked_model import StackedModel, build_model
from tests.support.variants import NUM_SEQUENCES, OPTIMIZATION, SEQ_LENGTH, VOCAB_SIZE

ARCHITECTURE = Architecture(
    family="GPT2",
    num_layers=2,
    num_attention_heads=2,
    kv_channels=8,
    rotary_percent=0.5,
    rotary_base=10_000,
    init_method_std=0.02,
)


def stacked(*seeds: int, dtype: torch.dtype = torch.float32) -> StackedModel:
    return build_model(ARCHITECTURE, VOCAB_SIZE, seeds, init_process_groups(), dtype)


def windows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCAB_SIZE, shape, generator=torch.Generator().manual_seed(seed))


def with_larger_weights(model: StackedModel) -> StackedModel:
    """Add noise to the initial weights, which make attention uniform and biases zero."""
    generator = torch.Generator().manual_seed(7)
    model.flat += 0.3 * torch.randn(model.flat.shape, generator=generator)
    return model


def plain_loss(state: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """Loss of a GPT2 with rotary embedding, written without optimizations."""
    inputs, targets = tokens[:, :-1].clamp(min=0), tokens[:, 1:]
    num_sequences, seq_length = inputs.shape
    heads, channels = ARCHITECTURE.num_attention_heads, ARCHITECTURE.kv_channels
    rotated = ARCHITECTURE.rotary_dim

    def norm(x: Tensor, name: str) -> Tensor:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return layer_norm(x, x.shape[-1:], weight, bias, 1e-5)

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def rotate(x: Tensor) -> Tensor:
        out = x.clone()
        for pair in range(rotated // 2):
            angle = torch.arange(seq_length, dtype=x.dtype) / 10_000 ** (2 * pair / rotated)
            cos, sin = angle.cos(), angle.sin()
            even, odd = x[..., 2 * pair], x[..., 2 * pair + 1]
            out[..., 2 * pair] = even * cos - odd * sin
            out[..., 2 * pair + 1] = even * sin + odd * cos
        return out

    table = state["embedding.word_embeddings.weight"]
    x = table[inputs]
    mask = torch.full((seq_length, seq_length), -torch.inf, dtype=x.dtype).triu(1)
    for layer in range(ARCHITECTURE.num_layers):
        prefix = f"decoder.layers.{layer}"
        qkv = linear(norm(x, f"{prefix}.input_layernorm"), f"{prefix}.self_attention.linear_qkv")
        qkv = qkv.view(num_sequences, seq_length, heads, 3, channels).permute(3, 0, 2, 1, 4)
        q, k, v = rotate(qkv[0]), rotate(qkv[1]), qkv[2]
        gathered = (q @ k.mT / math.sqrt(channels) + mask).softmax(-1) @ v
        gathered = gathered.transpose(1, 2).flatten(2)
        x = x + linear(gathered, f"{prefix}.self_attention.linear_proj")
        inner = linear(norm(x, f"{prefix}.pre_mlp_layernorm"), f"{prefix}.mlp.linear_fc1")
        x = x + linear(gelu(inner), f"{prefix}.mlp.linear_fc2")
    logits = norm(x, "decoder.final_layernorm") @ table.T
    return cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)


def test_the_initial_loss_is_that_of_uniform_guessing():
    loss = stacked(1, 2).loss(windows(2, 32, 33))
    # weights of 0.02 move logits by less than 0.1
    torch.testing.assert_close(loss, torch.full((2,), math.log(VOCAB_SIZE)), rtol=0, atol=0.1)


def test_loss_and_gradients_equal_those_of_a_plain_gpt2():
    model = with_larger_weights(stacked(1, 2))
    tokens = windows(2, NUM_SEQUENCES, SEQ_LENGTH + 1)
    tokens[1, 2, 5:] = -1
    losses = model.loss(tokens)
    losses.sum().backward()
    for replicate in range(2):
        state = {
            name: value.double().requires_grad_()
            for name, value in model.unstack(replicate).items()
        }
        loss = plain_loss(state, tokens[replicate])
        loss.backward()
        # float32 against float64
        torch.testing.assert_close(losses[replicate].double(), loss, rtol=1e-5, atol=0)
        for name, parameter in model.named_parameters():
            gradient = parameter.grad[replicate].double().squeeze(0)
            if gradient.ndim == 2 and "embedding" not in name:
                gradient = gradient.T
            torch.testing.assert_close(gradient, state[name].grad, rtol=1e-3, atol=1e-6)


def test_logits_equal_those_of_megatrons_gpt_model():
    model = with_larger_weights(stacked(1, 2))
    tokens = windows(2, NUM_SEQUENCES, SEQ_LENGTH)
    with torch.no_grad():
        logits = model.logits(tokens)
        for replicate in range(2):
            gpt = gpt_model(ARCHITECTURE, VOCAB_SIZE, max_sequence_length=SEQ_LENGTH)
            gpt.load_state_dict(model.unstack(replicate), strict=False)
            expected = gpt(tokens[replicate], None, None)
            # float32 sums in another order
            torch.testing.assert_close(logits[replicate], expected, rtol=1e-4, atol=1e-4)


def test_a_replicate_has_all_parameters_of_megatrons_gpt_model():
    gpt = gpt_model(ARCHITECTURE, VOCAB_SIZE, max_sequence_length=SEQ_LENGTH)
    shapes = {name: parameter.shape for name, parameter in gpt.named_parameters()}
    assert {name: value.shape for name, value in stacked(5).unstack(0).items()} == shapes


def test_initial_weights_depend_only_on_the_seed():
    beside_others, alone = stacked(4, 5, 6), stacked(5)
    assert torch.equal(beside_others.flat[1], alone.flat[0])
    assert not torch.equal(beside_others.flat[0], beside_others.flat[1])


def test_initial_weights_of_residual_outputs_are_smaller():
    weights = dict(stacked(*range(20)).named_parameters())
    std = weights["decoder.layers.0.mlp.linear_fc1.weight"].std().item()
    residual_std = weights["decoder.layers.0.mlp.linear_fc2.weight"].std().item()
    # 20 480 draws: their standard deviation is known to 0.5 %
    assert std == pytest.approx(0.02, rel=0.02)
    assert residual_std == pytest.approx(0.02 / math.sqrt(4), rel=0.02)


def test_one_set_of_tokens_can_be_shared_by_all_replicates():
    model = stacked(1, 2)
    tokens = windows(1, NUM_SEQUENCES, SEQ_LENGTH)
    with torch.no_grad():
        assert torch.equal(model.logits(tokens), model.logits(tokens.expand(2, -1, -1)))


def test_padding_changes_no_loss():
    model = stacked(1)
    tokens = windows(1, 2, SEQ_LENGTH + 1)
    shorter = tokens.clone()
    shorter[:, :, 6:] = -1
    expected = model.loss(tokens[:, :, :6])
    torch.testing.assert_close(model.loss(shorter), expected, rtol=1e-6, atol=0)


def test_a_replicate_without_targets_has_zero_loss_and_gradients():
    model = stacked(1, 2)
    tokens = windows(2, 2, SEQ_LENGTH + 1)
    tokens[1] = -1
    loss = model.loss(tokens)
    loss.sum().backward()
    assert loss[1].item() == 0
    assert all(not parameter.grad[1].any() for parameter in model.parameters())


def train(
    seeds: tuple[int, ...], tokens: Tensor, steps: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    model, lr = stacked(*seeds, dtype=dtype), 1e-2
    optimizer = AdamW(model, OPTIMIZATION, Replicates(seeds=seeds, lr=(lr,)), steps)
    losses = []
    for iteration in range(steps):
        loss = model.loss(tokens[:, iteration % tokens.shape[1]])
        loss.sum().backward()
        optimizer.step(iteration)
        losses.append(loss.detach())
    return torch.stack(losses)


def test_replicates_train_as_they_would_alone():
    tokens = windows(3, 20, NUM_SEQUENCES, SEQ_LENGTH + 1)
    together = train((1, 2, 3), tokens, steps=20)
    for replicate, seed in enumerate((1, 2, 3)):
        alone = train((seed,), tokens[replicate : replicate + 1], steps=20)
        # batched products may sum in another order, and 20 steps let the difference grow
        torch.testing.assert_close(together[:, replicate], alone[:, 0], rtol=1e-4, atol=0)


def test_one_batch_can_be_memorized():
    losses = train((1, 2), windows(2, 1, 2, SEQ_LENGTH + 1), steps=150)
    # the first token of a window has no context and cannot be predicted
    assert losses[-1].max().item() < 0.05 * losses[0].min().item()


def test_bfloat16_products_leave_the_loss_nearly_unchanged():
    tokens = windows(2, NUM_SEQUENCES, SEQ_LENGTH + 1)
    exact = with_larger_weights(stacked(1, 2)).loss(tokens)
    rounded = with_larger_weights(stacked(1, 2, dtype=torch.bfloat16)).loss(tokens)
    # bfloat16 has 8 bits
    torch.testing.assert_close(rounded, exact, rtol=2e-2, atol=0)


def test_training_with_bfloat16_products_follows_that_in_float32():
    tokens = windows(2, 2, NUM_SEQUENCES, SEQ_LENGTH + 1)
    exact, rounded = (
        train((1, 2), tokens, steps=150, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    assert not torch.equal(exact, rounded)
    assert exact[-1].max() < 0.1
    # nats; the loss falls by three nats, a step earlier or later where it falls fastest
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.15)
    torch.testing.assert_close(rounded[-1], exact[-1], rtol=0, atol=0.02)


def test_bfloat16_gradients_are_float32_and_close():
    tokens = windows(2, NUM_SEQUENCES, SEQ_LENGTH + 1)
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        model = with_larger_weights(stacked(1, 2, dtype=dtype))
        model.loss(tokens).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    exact, rounded = gradients
    assert rounded.dtype == torch.float32
    # a few bfloat16 roundings in a row, relative to the whole gradient
    assert (rounded - exact).norm() < 0.05 * exact.norm()
