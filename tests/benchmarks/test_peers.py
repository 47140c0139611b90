"""Implementations: equal sizes, equal losses, and the plain model against Megatron and torch."""

import importlib.util
import math

import pytest
import torch
from torch import Tensor

from knowcap.model.megatron_core import init_process_groups
from knowcap.model.num_params import num_params
from knowcap_benchmarks.cases import CASES, Case, case_architecture, case_run
from knowcap_benchmarks.implementations import IMPLEMENTATIONS
from knowcap_benchmarks.peers import BUILDERS, build
from knowcap_benchmarks.plain import LinearCrossEntropy, PlainGPT2
from knowcap_benchmarks.token_feed import TokenFeed

CPU = torch.device("cpu")
STEPS = 30
CASE = CASES["replicates-16"].model_copy(update={"num_replicates": 1, "seq_length": 130})
"""Its windows fill two blocks of queries of the plain model."""

EAGER = (
    *("transformers", "llama", "transformers-trainer", "litgpt", "nanogpt", "megatron"),
    *("plain", "knowcap"),
)


def losses(name: str, case: Case = CASE) -> tuple[float, float]:
    torch.manual_seed(0)
    implementation = IMPLEMENTATIONS[name]._replace(compiled=False)
    module = implementation.package.replace("-", ".")
    if name != "knowcap" and not importlib.util.find_spec(module):
        pytest.skip(f"{implementation.package} is not installed")
    feed = TokenFeed(case, 1, CPU, STEPS, seconds=0)
    build(case, implementation, CPU).train(feed)
    assert feed.losses is not None
    return feed.losses


@pytest.fixture(scope="module")
def knowcap_losses() -> tuple[float, float]:
    return losses("knowcap")


@pytest.mark.parametrize("name", EAGER)
def test_losses_start_at_chance_and_fall_as_those_of_knowcap(
    name: str, knowcap_losses: tuple[float, float]
) -> None:
    first, last = losses(name)
    assert first == pytest.approx(math.log(CASE.vocab_size), abs=0.05)
    assert last < first - 0.15
    assert last == pytest.approx(knowcap_losses[1], abs=0.05)


@pytest.mark.parametrize("name", EAGER)
def test_models_have_as_many_parameters_as_the_case(name: str) -> None:
    implementation = IMPLEMENTATIONS[name]._replace(compiled=False)
    if not implementation.package_version:
        pytest.skip(f"{implementation.package} is not installed")
    case = CASES["training-2-64"]
    expected = num_params(case_architecture(case), case.vocab_size)["total"]
    actual = build(case, implementation, CPU).num_params
    # GPT-2 of transformers and nanoGPT have learned positions.
    has_positions = "transformers" in name or "nanogpt" in name
    positions = case.seq_length * case.hidden_size if has_positions else 0
    assert actual == pytest.approx(expected + positions, rel=0.01)


def test_every_implementation_has_a_builder() -> None:
    assert {each.builder for each in IMPLEMENTATIONS.values()} == set(BUILDERS)
    for case in CASES.values():
        assert set(case.implementations) <= set(IMPLEMENTATIONS)
        assert case.baseline in case.implementations
        case_run(case, "float32")


def test_the_plain_model_has_the_logits_of_megatron_core() -> None:
    """The weights are equal but for the order of a head's channels."""
    from knowcap.model.megatron_config import gpt_model

    init_process_groups()
    architecture = case_architecture(CASE).model_copy(update={"rotary_percent": 1.0})
    megatron = gpt_model(architecture, CASE.vocab_size, CASE.seq_length)
    plain = PlainGPT2(
        vocab_size=CASE.vocab_size,
        num_layers=2,
        num_heads=2,
        kv_channels=8,
        rotary_dim=8,
        seq_length=CASE.seq_length,
        dtype=torch.float32,
    )
    with torch.no_grad():
        for parameter in megatron.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        plain.embedding.weight.copy_(megatron.embedding.word_embeddings.weight)
        copy_layer(plain.norm, megatron.decoder.final_layernorm)
        for block, layer in zip(plain.blocks, megatron.decoder.layers, strict=True):
            copy_layer(block.attention_norm, layer.input_layernorm)
            block.qkv.weight.copy_(reorder_qkv(layer.self_attention.linear_qkv.weight))
            block.qkv.bias.copy_(reorder_qkv(layer.self_attention.linear_qkv.bias))
            copy_layer(block.proj, layer.self_attention.linear_proj)
            copy_layer(block.mlp_norm, layer.pre_mlp_layernorm)
            copy_layer(block.fc1, layer.mlp.linear_fc1)
            copy_layer(block.fc2, layer.mlp.linear_fc2)
        tokens = torch.randint(CASE.vocab_size, (3, CASE.seq_length))
        expected = megatron(tokens, None, None)
        actual = plain(tokens) @ plain.embedding.weight.T
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def copy_layer(target: torch.nn.Module, source: torch.nn.Module) -> None:
    target.weight.copy_(source.weight)  # type: ignore[operator, union-attr]
    target.bias.copy_(source.bias)  # type: ignore[operator, union-attr]


def reorder_qkv(qkv: Tensor) -> Tensor:
    """Order rows as queries, keys, values of all heads, with even channels before odd ones."""
    heads = qkv.unflatten(0, (2, 3, 4, 2)).transpose(0, 1)  # q/k/v, head, channel pair, even/odd
    halves = heads.transpose(2, 3).clone()
    halves[2] = heads[2].reshape(halves[2].shape)  # values are not rotated
    return halves.flatten(0, 3)


def test_the_chunked_loss_has_the_gradients_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knowcap_benchmarks.plain.LOGITS_CHUNK", 70)
    hidden, weight = (torch.randn(n, 4, dtype=torch.float64) for n in (23, 11))
    inputs = (hidden.requires_grad_(), weight.requires_grad_())
    targets = torch.randint(11, (23,))

    def loss(*inputs: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(inputs[0] @ inputs[1].T, targets)

    expected = torch.autograd.grad(loss(*inputs), inputs)
    # The softmax is in float32, also where the products are in float64.
    actual = torch.autograd.grad(LinearCrossEntropy.apply(*inputs, targets, torch.float64), inputs)
    for actual_grad, expected_grad in zip(actual, expected, strict=True):
        torch.testing.assert_close(actual_grad, expected_grad, rtol=1e-4, atol=1e-6)
