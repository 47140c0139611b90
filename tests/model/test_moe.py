"""Routing, expert capacity and load-balancing loss of the mixture of experts."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from knowcap.config import Architecture, Evaluation
from knowcap.data.corpus_writer import write_corpus
from knowcap.evaluation.evaluate import evaluate, trained_weights
from knowcap.model.megatron_config import transformer_config
from knowcap.model.megatron_core import init_process_groups
from knowcap.model.moe import Load, MoEBlock, Routing
from knowcap.training.train import train
from tests.support.tiny import tiny_run
from tests.support.variants import EXPERTS, architecture, stacked, windows, with_larger_weights

NUM_REPLICATES, NUM_TOKENS, WIDTH, NUM_EXPERTS = 2, 12, 32, 4


def moe_architecture(family: str = "GPT2", **fields: float) -> Architecture:
    return architecture(family, **EXPERTS | fields)


def layer(kind: Architecture, seed: int = 0) -> MoEBlock:
    """One layer's experts in float64, with random weights and biases."""
    init_process_groups()
    module = MoEBlock(transformer_config(kind), NUM_REPLICATES).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.normal_(0, 0.3, generator=generator)
    return module


def inputs(seed: int = 1) -> Tensor:
    shape = (NUM_REPLICATES, NUM_TOKENS, WIDTH)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def outputs(
    module: MoEBlock, hidden: Tensor, factor: float | None, is_real: Tensor | None = None
) -> tuple[Tensor, Load]:
    if is_real is None:
        is_real = torch.ones(hidden.shape[:2], dtype=torch.bool)
    routing = Routing(is_real, factor, [])
    return module(hidden, routing, torch.float64), routing.loads[0]


def by_token(module: MoEBlock, hidden: Tensor, topk: int) -> Tensor:
    """Outputs of a layer of experts, computed one token at a time."""
    rows = []
    for r in range(NUM_REPLICATES):
        for token in hidden[r]:
            logits = token @ module.router.weight[r]
            if module.router.bias is not None:
                logits = logits + module.router.bias[r, 0]
            probs = logits.softmax(-1)
            chosen = probs.argsort(descending=True)[:topk]
            total = 1 if topk == 1 else probs[chosen].sum()
            row = torch.zeros_like(token)
            for expert in chosen:
                fc1, fc2 = module.experts.linear_fc1, module.experts.linear_fc2
                inner = token @ fc1.weight[r, expert]
                inner = inner if fc1.bias is None else inner + fc1.bias[r, expert, 0]
                if module.experts.is_gated:
                    gate, up = inner.chunk(2)
                    inner = module.experts.function(gate) * up
                else:
                    inner = module.experts.function(inner)
                out = inner @ fc2.weight[r, expert]
                out = out if fc2.bias is None else out + fc2.bias[r, expert, 0]
                row = row + probs[expert] / total * out
            rows.append(row)
    return torch.stack(rows).view_as(hidden)


@pytest.mark.parametrize("family", ["GPT2", "LLaMA"])
@pytest.mark.parametrize("topk", [1, 2, 3])
def test_outputs_and_gradients_equal_those_of_one_token_at_a_time(family, topk):
    module, hidden = layer(moe_architecture(family, moe_router_topk=topk)), inputs()
    wanted = torch.randn(hidden.shape, dtype=torch.float64)
    results = []
    for made in (outputs(module, hidden, None)[0], by_token(module, hidden, topk)):
        parameters = [hidden, *module.parameters()]
        gradients = torch.autograd.grad((made * wanted).sum(), parameters)
        results.append((made, *gradients))
    torch.testing.assert_close(results[0], results[1])


def test_an_expert_processes_its_first_tokens_up_to_capacity_and_drops_the_rest():
    module, hidden = layer(moe_architecture()), inputs()
    module.router.weight.data.zero_()
    module.router.bias.data[:, 0, 2] += 20  # all tokens choose expert 2
    unlimited, _ = outputs(module, hidden, None)
    # a factor of 1.5 on an even share of 12 / 4 tokens
    capped, load = outputs(module, hidden, 1.5)
    num_kept = 5
    torch.testing.assert_close(capped[:, :num_kept], unlimited[:, :num_kept])
    assert not capped[:, num_kept:].any()
    assert load.dropped.tolist() == pytest.approx([7 / 12] * NUM_REPLICATES)
    assert load.share[:, 2].tolist() == [1.0, 1.0]


def test_first_choices_come_before_second_ones():
    module, hidden = layer(moe_architecture(moe_router_topk=2)), inputs()
    module.router.weight.data.zero_()
    # the first half of the tokens would choose 0 then 1, the second half 1 then 0
    module.router.bias.data.zero_()
    module.router.weight.data[:, 0, 0], module.router.weight.data[:, 0, 1] = 1, -1
    module.router.bias.data[..., 2:] -= 20
    hidden = hidden.detach().clone()
    hidden[:, :6, 0], hidden[:, 6:, 0] = 1, -1
    # each expert has 12 of 24 choices and capacity for 6, so only first choices are kept
    _, load = outputs(module, hidden, 1.0)
    assert load.dropped.tolist() == [0.5, 0.5]
    capped, _ = outputs(module, hidden, 1.0)
    weight = torch.sigmoid(torch.tensor(2.0, dtype=torch.float64))
    module.router.bias.data[..., 1] -= (
        40  # the first half keeps only its first choice, with weight 1
    )
    expected, _ = outputs(module, hidden, None)
    torch.testing.assert_close(capped[:, :6], weight * expected[:, :6])


def test_enough_capacity_drops_nothing():
    module, hidden = layer(moe_architecture(moe_router_topk=2)), inputs()
    dropless, _ = outputs(module, hidden, None)
    capped, load = outputs(module, hidden, float(NUM_EXPERTS))
    torch.testing.assert_close(capped, dropless)
    assert not load.dropped.any()


def test_padding_neither_uses_nor_adds_capacity():
    module, hidden = layer(moe_architecture()), inputs()
    is_real = torch.ones(NUM_REPLICATES, NUM_TOKENS, dtype=torch.bool)
    is_real[0, 8:] = is_real[1, :8] = False
    padded, load = outputs(module, hidden, 1.0, is_real)
    shorter, shorter_load = outputs(module, hidden[:, :8], 1.0)
    torch.testing.assert_close(padded[0, :8], shorter[0])
    assert not padded[0, 8:].any()
    torch.testing.assert_close([x[0] for x in load], [x[0] for x in shorter_load])


def test_the_load_balancing_loss_equals_megatrons():
    from megatron.core.transformer.moe.moe_utils import switch_load_balancing_loss_func

    module, hidden = layer(moe_architecture(moe_router_topk=2)), inputs()
    _, load = outputs(module, hidden, 1.0)
    for r in range(NUM_REPLICATES):
        logits = hidden[r] @ module.router.weight[r] + module.router.bias[r]
        chosen = logits.topk(2, -1).indices.flatten().bincount(minlength=NUM_EXPERTS)
        expected = switch_load_balancing_loss_func(
            probs=logits.softmax(-1),
            tokens_per_expert=chosen,
            total_num_tokens=NUM_TOKENS,
            topk=2,
            num_experts=NUM_EXPERTS,
            moe_aux_loss_coeff=EXPERTS["moe_aux_loss_coeff"],
        )
        torch.testing.assert_close(load.aux_loss[r], expected)


def test_the_load_balancing_loss_of_an_even_load_is_its_coefficient():
    module, hidden = layer(moe_architecture()), inputs().detach()
    module.router.weight.data.zero_()
    module.router.bias.data.zero_()
    for expert in range(NUM_EXPERTS):
        module.router.weight.data[:, expert, expert] = 50
    hidden[:] = torch.eye(WIDTH, dtype=torch.float64)[torch.arange(NUM_TOKENS) % NUM_EXPERTS]
    _, load = outputs(module, hidden, 1.0)
    assert load.share.unique().tolist() == [0.25]
    assert not load.dropped.any()
    assert load.aux_loss.tolist() == pytest.approx([EXPERTS["moe_aux_loss_coeff"]] * 2)


def test_the_loss_is_the_cross_entropy_but_its_gradient_includes_load_balancing():
    tokens = windows(2, 4, 10)
    results = []
    for coefficient in (0.0, 0.01, 0.02):
        model = with_larger_weights(stacked(moe_architecture(moe_aux_loss_coeff=coefficient), 1, 2))
        loss = model.loss(tokens)
        loss.sum().backward()
        gradient = torch.cat([p.grad.flatten(1) for p in model.parameters()], 1)
        results.append((loss.detach(), gradient, sum(load.aux_loss for load in model.loads)))
    (loss, plain, no_aux), (balanced_loss, once, aux), (_, twice, _) = results
    assert torch.equal(loss, balanced_loss)
    assert not no_aux.any()
    assert bool((aux > 0.01 * 2).all())  # two layers, neither even
    assert bool((once - plain).any())
    torch.testing.assert_close(twice - once, once - plain, rtol=1e-3, atol=1e-5)


def test_logits_do_not_depend_on_the_rest_of_the_batch_with_unlimited_capacity():
    model = with_larger_weights(stacked(moe_architecture(), 1))
    tokens = windows(1, 6, 9)
    with torch.no_grad():
        together, alone = model.logits(tokens), model.logits(tokens[:, 4:5])
    torch.testing.assert_close(together[:, 4:5], alone, rtol=1e-4, atol=1e-4)


def test_training_and_evaluation_have_capacity_factors_of_their_own():
    tokens = windows(1, 4, 10)
    capped = {"moe_expert_capacity_factor": 0.5, "moe_eval_capacity_factor": 4.0}
    unlimited, limited = (
        with_larger_weights(stacked(moe_architecture(**factors), 1)) for factors in ({}, capped)
    )
    with torch.no_grad():
        torch.testing.assert_close(unlimited.logits(tokens), limited.logits(tokens))
        assert unlimited.loss(tokens).item() != pytest.approx(limited.loss(tokens).item(), rel=1e-3)
    assert not torch.stack([load.dropped for load in unlimited.loads]).any()
    # each of 4 experts keeps half of its even share of 36 tokens, rounded up
    assert min(load.dropped.item() for load in limited.loads) >= 1 - 4 * 5 / 36 - 1e-6


def test_a_run_with_experts_is_trained_and_evaluated_and_logs_expert_load(tmp_path: Path):
    run = tiny_run(
        **{f"architecture__{name}": value for name, value in EXPERTS.items()},
        architecture__moe_expert_capacity_factor=1.0,
        optimization__exposures=2,
    )
    write_corpus(run.corpus, tmp_path / "corpus")
    train(run, tmp_path / "corpus", tmp_path / "run", tmp_path / "scratch")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    for line in map(json.loads, lines):
        share, dropped = torch.tensor(line["expert_share"]), torch.tensor(line["dropped_share"])
        assert share.shape == (4, 2, 4)  # replicates, layers, experts
        # the last windows are padding for replicates whose corpus is shorter
        sums = share.sum(-1).flatten()
        assert bool((((sums - 1).abs() < 1e-3) | (sums == 0)).all())
        assert dropped.shape == (4, 2)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["num_params"]["active"] < facts["num_params"]["total"]
    assert facts["num_params"]["router"] > 0
    evaluate(
        tmp_path / "run",
        tmp_path / "corpus",
        "trained",
        Evaluation(num_people=9, seed=0),
        tmp_path / "losses.nc",
        backend=trained_weights,
    )
    assert (tmp_path / "losses.nc").exists()
