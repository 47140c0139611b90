"""A step in lanes is the stacked model's step, for every architecture."""

import math

import pytest
import torch
from torch import Tensor

from knowcap.artifacts import c_extension
from knowcap.config import Architecture, Run
from knowcap.engines.base import Engine, Step
from knowcap.engines.simd import ffi
from knowcap.engines.simd.engine import SimdEngine, groups_of, is_supported, lanes_of
from knowcap.engines.stacked import StackedEngine
from knowcap.model.megatron_core import start
from tests.support.tiny import tiny_run
from tests.support.variants import (
    EXPERTS,
    NUM_SEQUENCES,
    SEQ_LENGTH,
    VARIANTS,
    architecture,
    stacked,
    windows,
    with_larger_weights,
)

CROWDED = architecture("GPT2", **EXPERTS, moe_expert_capacity_factor=0.8)
KINDS = {**VARIANTS, "experts of little capacity": CROWDED}
WIDE = VARIANTS["GPT2"].model_copy(update={"kv_channels": 40})
TRAIN_ITERS = 20

LARGE = {
    name: kind.model_copy(update={"kv_channels": 40})
    for name, kind in VARIANTS.items()
    if not kind.num_moe_experts
}
"""Worth a vector each, and no size of theirs is a multiple of one."""

pytestmark = pytest.mark.skipif(ffi.compiled(4, "float32") is None, reason="there is no C compiler")
in_bfloat16 = pytest.mark.skipif(
    ffi.compiled(1, "bfloat16") is None, reason="this processor does not multiply in bfloat16"
)


def run_of(kind=VARIANTS["GPT2"], num_seeds: int = 2, **optimization) -> Run:
    changes = {f"optimization__{name}": value for name, value in optimization.items()}
    shape = {"seq_length": SEQ_LENGTH, "global_batch_size": NUM_SEQUENCES}
    run = tiny_run(
        **{f"optimization__{name}": value for name, value in shape.items()} | changes,
        replicates__seeds=list(range(num_seeds)),
        replicates__lr=[1e-2],
    )
    return run.model_copy(update={"architecture": kind})


def engine(make: type, run: Run) -> Engine:
    seeds = [seed for seed, _ in run.replicates.pairs]
    return make(with_larger_weights(stacked(run.architecture, *seeds)), run, TRAIN_ITERS)


def tokens_of(run: Run, iteration: int) -> Tensor:
    settings = run.optimization
    window = (settings.global_batch_size, settings.seq_length + 1)
    return windows(len(run.replicates.pairs), *window, seed=iteration)


def assert_alike(found: Step, expected: Step) -> None:
    # float32 sums in another order, and an erf that is exact to 1.5e-7
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.grad_norm, expected.grad_norm, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_steps_are_those_of_the_stacked_model(kind):
    run = run_of(kind, num_seeds=3)
    lanes, expected = engine(SimdEngine, run), engine(StackedEngine, run)
    for iteration in range(3):
        tokens = tokens_of(run, iteration)
        tokens[1, 2, 5:] = -1
        tokens[2, 1:] = -1
        assert_alike(lanes.step(tokens, iteration), expected.step(tokens, iteration))
        assert lanes.metrics() == expected.metrics()
    weights = expected.weights()
    assert lanes.weights().keys() == weights.keys()
    for name, value in lanes.weights().items():
        # AdamW's first steps are lr large whatever the gradient, so a tiny one's rounding shows
        torch.testing.assert_close(value, weights[name], rtol=1e-3, atol=2e-4, msg=name)


@pytest.mark.parametrize(
    "shape",
    [
        {"seq_length": 40, "global_batch_size": 1},  # three blocks of queries, the last one short
        {"seq_length": 16, "global_batch_size": 3},  # exact blocks
        {"seq_length": 2, "global_batch_size": 1},
    ],
)
def test_any_window_will_do(shape):
    run = run_of(**shape)
    tokens = tokens_of(run, 0)
    assert_alike(
        engine(SimdEngine, run).step(tokens, 0), engine(StackedEngine, run).step(tokens, 0)
    )


@pytest.mark.parametrize("kind", [WIDE, VARIANTS["LLaMA"]], ids=["wide", "LLaMA"])
def test_more_windows_than_are_passed_at_once(kind):
    run = run_of(kind, num_seeds=1, seq_length=300, global_batch_size=7)
    lanes, expected = engine(SimdEngine, run), engine(StackedEngine, run)
    for iteration in range(2):
        tokens = tokens_of(run, iteration)
        tokens[0, 1, 9:] = -1
        tokens[0, 5:] = -1
        assert_alike(lanes.step(tokens, iteration), expected.step(tokens, iteration))


@in_bfloat16
@pytest.mark.parametrize("kind", LARGE.values(), ids=LARGE.keys())
def test_products_in_bfloat16_are_nearer_to_float32_than_those_of_layers(kind):
    exact, by_library, found = (
        first_gradient(make, kind, dtype)
        for make, dtype in (
            *((StackedEngine, "float32"), (StackedEngine, "bfloat16")),
            (SimdEngine, "bfloat16"),
        )
    )
    error, usual = ((g - exact).norm(dim=1) for g in (found, by_library))
    assert (error > 1e-4 * exact.norm(dim=1)).all()  # it is rounded
    assert (error < usual).all()


def first_gradient(make: type, kind: Architecture, dtype: str) -> Tensor:
    """Of each replicate, as the optimiser's first moment tells it, [R, P]."""
    run = run_of(kind, seq_length=45, global_batch_size=10, dtype=dtype, clip_grad=1e9)
    seeds = [seed for seed, _ in run.replicates.pairs]
    model = stacked(kind, *seeds, dtype=getattr(torch, dtype))
    engine = make(with_larger_weights(model, 0.1), run, TRAIN_ITERS)
    tokens = tokens_of(run, 0)
    tokens[1, 2, 5:] = -1
    engine.step(tokens, 0)
    return engine.state_dict()["exp_avg"]


@in_bfloat16
@pytest.mark.parametrize("num_threads", [1, 2])
def test_models_learn_by_products_in_bfloat16(num_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        losses = {}
        for dtype in ("float32", "bfloat16"):
            run = run_of(LARGE["GPT2"], seq_length=64, global_batch_size=4, dtype=dtype)
            lanes = SimdEngine(stacked(run.architecture, 0, 1), run, 60)
            tokens = tokens_of(run, 0)
            losses[dtype] = [lanes.step(tokens, step).loss for step in range(60)][-1]
    finally:
        torch.set_num_threads(before)
    assert (losses["float32"] < 0.3).all()  # of log(23) = 3.1 nats
    torch.testing.assert_close(losses["bfloat16"], losses["float32"], rtol=0, atol=0.1)


def test_more_replicates_than_lanes_are_several_groups():
    run = run_of(num_seeds=11)
    lanes, expected = engine(SimdEngine, run), engine(StackedEngine, run)
    for iteration in range(2):
        tokens = tokens_of(run, iteration)
        found = lanes.step(tokens, iteration)
        assert_alike(found, expected.step(tokens, iteration))
    assert found.loss.shape == (11,)
    assert len(set(found.loss.tolist())) == 11


def test_either_engine_goes_on_from_the_others_state():
    run = run_of(num_seeds=3)
    for first, second in ((SimdEngine, StackedEngine), (StackedEngine, SimdEngine)):
        begun, uninterrupted = engine(first, run), engine(second, run)
        for each in (begun, uninterrupted):
            each.step(tokens_of(run, 0), 0)
        resumed = engine(second, run)
        resumed.load_state_dict(begun.state_dict())
        tokens = tokens_of(run, 1)
        assert_alike(resumed.step(tokens, 1), uninterrupted.step(tokens, 1))


def test_a_replicate_is_the_same_alone_and_beside_others():
    many, one = run_of(num_seeds=7), run_of(num_seeds=1)
    together, alone = engine(SimdEngine, many), engine(SimdEngine, one)
    alone.load_state_dict({name: each[:1] for name, each in together.state_dict().items()})
    for iteration in range(5):
        tokens = tokens_of(many, iteration)
        beside, by_itself = (
            each.step(given, iteration) for each, given in ((together, tokens), (alone, tokens[:1]))
        )
        torch.testing.assert_close(beside.loss[:1], by_itself.loss, rtol=1e-6, atol=0)


def test_the_same_steps_give_the_same_bits():
    run = run_of(num_seeds=5)
    finals = []
    for _ in range(2):
        lanes = engine(SimdEngine, run)
        for iteration in range(5):
            lanes.step(tokens_of(run, iteration), iteration)
        finals.append(lanes.state_dict()["parameters"])
    assert torch.equal(*finals)


def test_a_replicate_without_targets_loses_and_learns_nothing():
    run = run_of(num_seeds=2, weight_decay=0.0)
    lanes = engine(SimdEngine, run)
    before = lanes.state_dict()["parameters"].clone()
    tokens = tokens_of(run, 0)
    tokens[1] = -1
    step = lanes.step(tokens, 0)
    after = lanes.state_dict()["parameters"]
    assert step.loss[1].item() == step.grad_norm[1].item() == 0
    assert torch.equal(after[1], before[1])
    assert not torch.equal(after[0], before[0])


def test_a_hopeless_loss_is_large_and_not_infinite():
    run = run_of(num_seeds=1)
    lanes = engine(SimdEngine, run)
    state = lanes.state_dict()
    lanes.load_state_dict({**state, "parameters": 100 * state["parameters"]})
    assert math.isfinite(lanes.step(tokens_of(run, 0), 0).loss.item())


def test_lanes_are_for_small_models_in_float32_on_a_cpu():
    run = run_of()
    assert is_supported(run, 100, start())
    assert not is_supported(run, 100, torch.device("cuda"))
    assert not is_supported(run_of(num_seeds=1, dtype="bfloat16"), 100, start())
    wide = VARIANTS["GPT2"].model_copy(update={"kv_channels": 1024})
    assert not is_supported(run_of(wide), 100, start())


@in_bfloat16
def test_products_in_bfloat16_are_for_wide_models_where_the_processor_has_them(monkeypatch):
    run = run_of(LARGE["GPT2"], seq_length=45, dtype="bfloat16")
    assert is_supported(run, 100, start())
    experts = LARGE["GPT2"].model_copy(update=EXPERTS)
    assert not is_supported(run.model_copy(update={"architecture": experts}), 100, start())
    monkeypatch.setattr(ffi, "abilities", lambda: frozenset({"avx2"}))
    assert not is_supported(run, 100, start())


def test_lanes_are_not_for_what_takes_a_gigabyte_to_work_in():
    # eight replicates share vectors on any number of threads; a lone one passes few windows at once
    large = run_of(num_seeds=8, seq_length=256, global_batch_size=16)
    assert is_supported(large, 100, start())
    assert not is_supported(
        run_of(num_seeds=8, seq_length=2048, global_batch_size=16), 100, start()
    )
    assert not is_supported(large, 10**7, start())


@pytest.mark.parametrize(
    ("num_replicates", "num_threads", "groups"),
    [
        (1, 1, [1]),
        (3, 1, [4]),
        (5, 1, [4, 1]),
        (6, 1, [8]),
        (11, 1, [8, 4]),
        (13, 1, [8, 4, 1]),
        (1, 2, [1]),
        (3, 2, [2, 1]),
        (8, 2, [4, 4]),
        (16, 2, [8, 8]),
        (3, 4, [1, 1, 1]),
    ],
)
def test_groups_are_at_least_three_quarters_full(num_replicates, num_threads, groups):
    assert groups_of(num_replicates, num_threads) == groups


def test_wide_replicates_have_a_group_each():
    assert lanes_of(run_of(WIDE, num_seeds=8, seq_length=64), 1) == [1] * 8
    assert lanes_of(run_of(WIDE, num_seeds=8, seq_length=8), 1) == [8]
    assert lanes_of(run_of(num_seeds=8, seq_length=512), 1) == [8]


@pytest.mark.parametrize("worth_sharing", [0, 2**40])
@pytest.mark.parametrize(("num_seeds", "num_parts"), [(1, 3), (2, 1), (3, 1)])
def test_threads_share_replicates_or_windows(monkeypatch, num_seeds, num_parts, worth_sharing):
    run = run_of(num_seeds=num_seeds)
    monkeypatch.setattr("knowcap.engines.simd.engine.WORTH_A_THREAD", 0)
    monkeypatch.setattr("knowcap.engines.simd.engine.WORTH_SHARING", worth_sharing)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        lanes, expected = engine(SimdEngine, run), engine(StackedEngine, run)
    finally:
        torch.set_num_threads(num_threads)
    assert lanes.facts()["num_parts"] == num_parts
    for iteration in range(3):
        tokens = tokens_of(run, iteration)
        tokens[0, 1, 5:] = -1
        tokens[0, -1] = -1
        assert_alike(lanes.step(tokens, iteration), expected.step(tokens, iteration))


def test_without_a_compiler_nothing_is_for_lanes(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    c_extension.library.cache_clear()
    assert not is_supported(run_of(), 100, start())
    c_extension.library.cache_clear()
