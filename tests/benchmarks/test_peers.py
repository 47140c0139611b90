"""Every implementation does equal work and learns alike."""

import importlib.util
import math

import pytest
import torch
from torch import Tensor

from knowcap.model.megatron_core import start
from knowcap.model.num_params import num_params
from knowcap_benchmarks.cases import CASES, Case, architecture_of, run_of
from knowcap_benchmarks.implementations import IMPLEMENTATIONS
from knowcap_benchmarks.peers import BUILDERS, build
from knowcap_benchmarks.plain import LinearCrossEntropy, PlainGPT2
from knowcap_benchmarks.token_feed import Feed

CPU = torch.device("cpu")
STEPS = 30
CASE = CASES["replicates-16"].model_copy(update={"num_replicates": 1, "seq_length": 130})
"""Long enough for two blocks of queries."""

EAGER = ("transformers", "llama", "transformers-trainer", "litgpt", "megatron", "plain", "knowcap")


def losses(name: str, case: Case = CASE) -> tuple[float, float]:
    torch.manual_seed(0)
    implementation = IMPLEMENTATIONS[name]._replace(compiled=False)
    module = implementation.package.replace("-", ".")
    if name != "knowcap" and not importlib.util.find_spec(module):
        pytest.skip(f"{implementation.package} is not installed")
    feed = Feed(case, 1, CPU, STEPS, seconds=0)
    build(case, implementation, CPU).train(feed)
    assert feed.losses is not None
    return feed.losses


@pytest.fixture(scope="module")
def ours() -> tuple[float, float]:
    return losses("knowcap")


@pytest.mark.parametrize("name", EAGER)
def test_losses_begin_and_fall_alike(name: str, ours: tuple[float, float]) -> None:
    first, last = losses(name)
    assert first == pytest.approx(math.log(CASE.vocab_size), abs=0.05)
    assert last < first - 0.15
    assert last == pytest.approx(ours[1], abs=0.05)


@pytest.mark.parametrize("name", EAGER)
def test_models_are_of_one_size(name: str) -> None:
    implementation = IMPLEMENTATIONS[name]._replace(compiled=False)
    if not implementation.package_version:
        pytest.skip(f"{implementation.package} is not installed")
    case = CASES["training-2-64"]
    wanted = num_params(architecture_of(case), case.vocab_size)["total"]
    found = build(case, implementation, CPU).num_params
    positions = case.seq_length * case.hidden_size if "transformers" in name else 0  # GPT-2's own
    assert found == pytest.approx(wanted + positions, rel=0.01)


def test_every_implementation_has_a_builder() -> None:
    assert {each.model for each in IMPLEMENTATIONS.values()} == set(BUILDERS)
    for case in CASES.values():
        assert set(case.implementations) <= set(IMPLEMENTATIONS)
        assert case.baseline in case.implementations
        run_of(case, "float32")


def test_the_plain_model_is_megatrons() -> None:
    """Same weights, same logits; only the order of a head's channels differs."""
    from knowcap.model.megatron_config import gpt_model

    start()
    architecture = architecture_of(CASE).model_copy(update={"rotary_percent": 1.0})
    theirs = gpt_model(architecture, CASE.vocab_size, CASE.seq_length)
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
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        plain.embedding.weight.copy_(theirs.embedding.word_embeddings.weight)
        copy(plain.norm, theirs.decoder.final_layernorm)
        for block, layer in zip(plain.blocks, theirs.decoder.layers, strict=True):
            copy(block.attention_norm, layer.input_layernorm)
            block.qkv.weight.copy_(by_kind(layer.self_attention.linear_qkv.weight))
            block.qkv.bias.copy_(by_kind(layer.self_attention.linear_qkv.bias))
            copy(block.proj, layer.self_attention.linear_proj)
            copy(block.mlp_norm, layer.pre_mlp_layernorm)
            copy(block.fc1, layer.mlp.linear_fc1)
            copy(block.fc2, layer.mlp.linear_fc2)
        tokens = torch.randint(CASE.vocab_size, (3, CASE.seq_length))
        expected = theirs(tokens, None, None)
        found = plain(tokens) @ plain.embedding.weight.T
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def copy(to: torch.nn.Module, of: torch.nn.Module) -> None:
    to.weight.copy_(of.weight)  # type: ignore[operator, union-attr]
    to.bias.copy_(of.bias)  # type: ignore[operator, union-attr]


def by_kind(qkv: Tensor) -> Tensor:
    """Queries of all heads, then keys, then values; even channels before odd ones."""
    heads = qkv.unflatten(0, (2, 3, 4, 2)).transpose(0, 1)  # kind, head, pair, member
    halves = heads.transpose(2, 3).clone()
    halves[2] = heads[2].reshape(halves[2].shape)  # values are not rotated
    return halves.flatten(0, 3)


def test_the_chunked_loss_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knowcap_benchmarks.plain.LOGITS_CHUNK", 70)
    hidden, weight = (torch.randn(n, 4, dtype=torch.float64) for n in (23, 11))
    inputs = (hidden.requires_grad_(), weight.requires_grad_())
    targets = torch.randint(11, (23,))

    def loss(*inputs: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(inputs[0] @ inputs[1].T, targets)

    expected = torch.autograd.grad(loss(*inputs), inputs)
    # Its softmax is in float32 whatever the products are.
    found = torch.autograd.grad(LinearCrossEntropy.apply(*inputs, targets, torch.float64), inputs)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
