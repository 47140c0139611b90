"""The SIMD engine makes the steps of the stacked engine, for every architecture."""

import math

import pytest
import torch
from torch import Tensor

from knowcap.artifacts import c_extension
from knowcap.config import Architecture, Run
from knowcap.config.run import Optimization, Replicates
from knowcap.engines.base import Engine, Step
from knowcap.engines.select import build_engine
from knowcap.engines.simd import ffi, support
from knowcap.engines.simd.engine import SimdEngine
from knowcap.engines.simd.support import (
    are_options_implemented,
    divide_replicates,
    is_supported,
    lanes_per_group,
)
from knowcap.engines.stacked import StackedEngine
from knowcap.model.megatron_core import init_process_groups
from tests.support.tiny import tiny_run
from tests.support.variants import (
    EXPERTS,
    NUM_SEQUENCES,
    SEQ_LENGTH,
    VARIANTS,
    VOCAB_SIZE,
    architecture,
    stacked,
    windows,
    with_larger_weights,
)

DROPPING = architecture("GPT2", **EXPERTS, moe_expert_capacity_factor=0.8)
PAIRS = {  # PAPER D: the other settings of (topk, capacity)
    f"experts ({topk}, {capacity:g})": VARIANTS["GPT2 of experts"].model_copy(
        update={"moe_router_topk": topk, "moe_expert_capacity_factor": capacity}
    )
    for topk, capacity in ((2, 1.0), (2, 2.0))
}
KINDS = {**VARIANTS, "experts that drop tokens": DROPPING, **PAIRS}
WIDE = VARIANTS["GPT2"].model_copy(update={"kv_channels": 40})
TRAIN_ITERS = 20

LARGE = {name: kind.model_copy(update={"kv_channels": 40}) for name, kind in VARIANTS.items()}
"""Large enough for a group each; no size is a multiple of a register's."""

SMOOTH = {
    name: kind.model_copy(update={"moe_router_topk": kind.num_moe_experts or None})
    for name, kind in LARGE.items()
}
"""The same, where every token has all experts: rounding cannot change the choice of one."""

pytestmark = pytest.mark.skipif(
    ffi.find_library(4, "float32") is None, reason="there is no C compiler"
)
in_bfloat16 = pytest.mark.skipif(
    ffi.find_library(1, "bfloat16") is None, reason="this processor has no AVX-512 BF16"
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


def assert_same_step(found: Step, expected: Step) -> None:
    # float32 sums in another order; erf is exact to 1.5e-7
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.grad_norm, expected.grad_norm, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_steps_equal_those_of_the_stacked_engine(kind):
    run = run_of(kind, num_seeds=3)
    simd, expected = engine(SimdEngine, run), engine(StackedEngine, run)
    for iteration in range(3):
        tokens = tokens_of(run, iteration)
        tokens[1, 2, 5:] = -1
        tokens[2, 1:] = -1
        assert_same_step(simd.step(tokens, iteration), expected.step(tokens, iteration))
        assert simd.metrics() == expected.metrics()
    weights = expected.weights()
    assert simd.weights().keys() == weights.keys()
    for name, value in simd.weights().items():
        # AdamW's first steps have size lr even for tiny gradients, so their rounding errors show
        torch.testing.assert_close(value, weights[name], rtol=1e-3, atol=2e-4, msg=name)


@pytest.mark.parametrize(
    "shape",
    [
        {"seq_length": 40, "global_batch_size": 1},  # three blocks of queries, the last one short
        {"seq_length": 16, "global_batch_size": 3},  # exact blocks
        {"seq_length": 2, "global_batch_size": 1},
    ],
)
def test_windows_of_any_length_and_number_are_supported(shape):
    run = run_of(**shape)
    tokens = tokens_of(run, 0)
    assert_same_step(
        engine(SimdEngine, run).step(tokens, 0), engine(StackedEngine, run).step(tokens, 0)
    )


@pytest.mark.parametrize("kind", [WIDE, VARIANTS["LLaMA"]], ids=["wide", "LLaMA"])
def test_steps_of_several_micro_batches_equal_the_stacked_engine(kind):
    run = run_of(kind, num_seeds=1, seq_length=300, global_batch_size=7)
    simd, expected = engine(SimdEngine, run), engine(StackedEngine, run)
    for iteration in range(2):
        tokens = tokens_of(run, iteration)
        tokens[0, 1, 9:] = -1
        tokens[0, 5:] = -1
        assert_same_step(simd.step(tokens, iteration), expected.step(tokens, iteration))


@in_bfloat16
@pytest.mark.parametrize("kind", SMOOTH.values(), ids=SMOOTH.keys())
def test_bfloat16_gradients_are_closer_to_float32_than_the_stacked_engine_s(kind):
    exact, stacked_bf16, simd_bf16 = (
        first_gradient(make, kind, dtype)
        for make, dtype in (
            *((StackedEngine, "float32"), (StackedEngine, "bfloat16")),
            (SimdEngine, "bfloat16"),
        )
    )
    error, stacked_error = ((g - exact).norm(dim=1) for g in (simd_bf16, stacked_bf16))
    assert (error > 1e-4 * exact.norm(dim=1)).all()  # products are rounded
    assert (error < stacked_error).all()


def first_gradient(make: type, kind: Architecture, dtype: str) -> Tensor:
    """Gradient of each replicate up to a factor: AdamW's first moment after one step, [R, P]."""
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
def test_bfloat16_training_reaches_the_loss_of_float32(num_threads):
    threads_before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        losses = {}
        for dtype in ("float32", "bfloat16"):
            run = run_of(LARGE["GPT2"], seq_length=64, global_batch_size=4, dtype=dtype)
            simd = SimdEngine(stacked(run.architecture, 0, 1), run, 60)
            tokens = tokens_of(run, 0)
            losses[dtype] = [simd.step(tokens, step).loss for step in range(60)][-1]
    finally:
        torch.set_num_threads(threads_before)
    assert (losses["float32"] < 0.3).all()  # of log(23) = 3.1 nats
    torch.testing.assert_close(losses["bfloat16"], losses["float32"], rtol=0, atol=0.1)


def test_more_than_eight_replicates_are_divided_into_groups():
    run = run_of(num_seeds=11)
    simd, expected = engine(SimdEngine, run), engine(StackedEngine, run)
    for iteration in range(2):
        tokens = tokens_of(run, iteration)
        found = simd.step(tokens, iteration)
        assert_same_step(found, expected.step(tokens, iteration))
    assert found.loss.shape == (11,)
    assert len(set(found.loss.tolist())) == 11


def test_each_engine_resumes_from_the_other_s_state():
    run = run_of(num_seeds=3)
    for first, second in ((SimdEngine, StackedEngine), (StackedEngine, SimdEngine)):
        interrupted, uninterrupted = engine(first, run), engine(second, run)
        for each in (interrupted, uninterrupted):
            each.step(tokens_of(run, 0), 0)
        resumed = engine(second, run)
        resumed.load_state_dict(interrupted.state_dict())
        tokens = tokens_of(run, 1)
        assert_same_step(resumed.step(tokens, 1), uninterrupted.step(tokens, 1))


def test_a_replicate_s_loss_does_not_depend_on_the_others():
    many, one = run_of(num_seeds=7), run_of(num_seeds=1)
    grouped, single = engine(SimdEngine, many), engine(SimdEngine, one)
    single.load_state_dict({name: each[:1] for name, each in grouped.state_dict().items()})
    for iteration in range(5):
        tokens = tokens_of(many, iteration)
        found, expected = grouped.step(tokens, iteration), single.step(tokens[:1], iteration)
        torch.testing.assert_close(found.loss[:1], expected.loss, rtol=1e-6, atol=0)


def test_repeated_training_gives_bit_identical_weights():
    run = run_of(num_seeds=5)
    finals = []
    for _ in range(2):
        simd = engine(SimdEngine, run)
        for iteration in range(5):
            simd.step(tokens_of(run, iteration), iteration)
        finals.append(simd.state_dict()["parameters"])
    assert torch.equal(*finals)


def test_a_replicate_without_targets_has_zero_loss_and_gradient():
    run = run_of(num_seeds=2, weight_decay=0.0)
    simd = engine(SimdEngine, run)
    before = simd.state_dict()["parameters"].clone()
    tokens = tokens_of(run, 0)
    tokens[1] = -1
    step = simd.step(tokens, 0)
    after = simd.state_dict()["parameters"]
    assert step.loss[1].item() == step.grad_norm[1].item() == 0
    assert torch.equal(after[1], before[1])
    assert not torch.equal(after[0], before[0])


def test_the_loss_of_a_diverged_model_is_finite():
    run = run_of(num_seeds=1)
    simd = engine(SimdEngine, run)
    state = simd.state_dict()
    simd.load_state_dict({**state, "parameters": 100 * state["parameters"]})
    assert math.isfinite(simd.step(tokens_of(run, 0), 0).loss.item())


def test_a_diverged_replicate_with_experts_does_not_affect_the_others():
    # every choice of a router whose probabilities are NaN is the first expert
    run = run_of(KINDS["LLaMA of experts"], seq_length=64, global_batch_size=8)
    simd, expected = engine(SimdEngine, run), engine(SimdEngine, run)
    state = simd.state_dict()
    state["parameters"][0] = math.nan
    simd.load_state_dict(state)
    for iteration in range(3):
        tokens = tokens_of(run, iteration)
        found, same = simd.step(tokens, iteration), expected.step(tokens, iteration)
        assert found.loss[0].isnan()
        assert torch.equal(found.loss[1], same.loss[1])
    assert torch.equal(simd.state_dict()["parameters"][1], expected.state_dict()["parameters"][1])


def test_small_models_in_float32_on_a_cpu_are_supported():
    run = run_of()
    assert is_supported(run, 100, init_process_groups())
    assert not is_supported(run, 100, torch.device("cuda"))
    assert not is_supported(run_of(num_seeds=1, dtype="bfloat16"), 100, init_process_groups())
    wide = VARIANTS["GPT2"].model_copy(update={"kv_channels": 1024})
    assert not is_supported(run_of(wide), 100, init_process_groups())


@in_bfloat16
def test_bfloat16_is_supported_for_wide_models_on_processors_with_avx512_bf16(monkeypatch):
    run = run_of(LARGE["GPT2"], seq_length=45, dtype="bfloat16")
    assert is_supported(run, 100, init_process_groups())
    experts = run.model_copy(update={"architecture": LARGE["GPT2 of experts"]})
    assert is_supported(experts, 100, init_process_groups())
    monkeypatch.setattr(ffi, "cpu_flags", lambda: frozenset({"avx2"}))
    assert not is_supported(run, 100, init_process_groups())


def test_runs_whose_workspace_exceeds_a_gigabyte_are_not_supported():
    # eight replicates process all windows at once; a single one would use micro batches
    large = run_of(num_seeds=8, seq_length=256, global_batch_size=16)
    assert is_supported(large, 100, init_process_groups())
    assert not is_supported(
        run_of(num_seeds=8, seq_length=2048, global_batch_size=16), 100, init_process_groups()
    )
    assert not is_supported(large, 10**7, init_process_groups())


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
    assert divide_replicates(num_replicates, num_threads) == groups


def test_wide_models_have_a_group_per_replicate():
    assert lanes_per_group(run_of(WIDE, num_seeds=8, seq_length=64), 1) == [1] * 8
    assert lanes_per_group(run_of(WIDE, num_seeds=8, seq_length=8), 1) == [8]
    assert lanes_per_group(run_of(num_seeds=8, seq_length=512), 1) == [8]


@pytest.mark.parametrize("min_params_to_split", [0, 2**40])
@pytest.mark.parametrize(("num_seeds", "num_batch_shards"), [(1, 3), (2, 1), (3, 1)])
def test_threads_divide_replicates_windows_and_parameters(
    monkeypatch, num_seeds, num_batch_shards, min_params_to_split
):
    run = run_of(num_seeds=num_seeds)
    monkeypatch.setattr("knowcap.engines.simd.engine.MIN_MULTIPLICATIONS_TO_SPLIT", 0)
    monkeypatch.setattr("knowcap.engines.simd.engine.MIN_PARAMS_TO_SPLIT", min_params_to_split)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        simd, expected = engine(SimdEngine, run), engine(StackedEngine, run)
    finally:
        torch.set_num_threads(num_threads)
    assert simd.facts()["num_batch_shards"] == num_batch_shards
    for iteration in range(3):
        tokens = tokens_of(run, iteration)
        tokens[0, 1, 5:] = -1
        tokens[0, -1] = -1
        assert_same_step(simd.step(tokens, iteration), expected.step(tokens, iteration))


def test_without_a_compiler_no_run_is_supported(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    c_extension.load_c_extension.cache_clear()
    assert not is_supported(run_of(), 100, init_process_groups())
    c_extension.load_c_extension.cache_clear()


class ExtendedArchitecture(Architecture):
    """An architecture with an option that the C code does not implement."""

    qk_norm: bool = False


class ExtendedOptimization(Optimization):
    """Settings of an optimizer with an option that the C code does not implement."""

    optimizer: str = "adamw"


class ExtendedReplicates(Replicates):
    """Replicates with an option that the C code does not implement."""

    weight_decay: tuple[float, ...] | None = None


def is_routed_to_stacked(run: Run) -> bool:
    """Whether the SIMD engine declines a run, so that another engine is selected."""
    return not are_options_implemented(run) and not is_supported(
        run, VOCAB_SIZE, init_process_groups()
    )


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("architecture", "activation", "relu"),
        ("architecture", "normalization", "BatchNorm"),
        ("optimization", "dtype", "float16"),
    ],
)
def test_runs_with_unknown_values_are_not_supported(section, field, value):
    run = run_of()
    assert are_options_implemented(run)
    changed = getattr(run, section).model_copy(update={field: value})
    assert is_routed_to_stacked(run.model_copy(update={section: changed}))


@pytest.mark.parametrize(
    ("section", "extended", "unknown"),
    [
        ("architecture", ExtendedArchitecture, {"qk_norm": True}),
        ("optimization", ExtendedOptimization, {"optimizer": "lion"}),
        ("replicates", ExtendedReplicates, {"weight_decay": (0.1, 0.2)}),
    ],
)
def test_runs_with_unknown_fields_are_supported_only_at_their_defaults(section, extended, unknown):
    run = run_of()
    values = getattr(run, section).model_dump()
    same = run.model_copy(update={section: extended.model_validate(values)})
    assert is_supported(same, VOCAB_SIZE, init_process_groups())
    other = run.model_copy(update={section: extended.model_validate(values | unknown)})
    assert is_routed_to_stacked(other)


def test_an_unknown_activation_is_trained_by_the_stacked_engine(monkeypatch):
    run = run_of()
    assert isinstance(build_engine(run, VOCAB_SIZE, TRAIN_ITERS, init_process_groups()), SimdEngine)
    monkeypatch.setitem(support.OPTIONS, "architecture.activation", frozenset({"silu"}))
    made = build_engine(run, VOCAB_SIZE, TRAIN_ITERS, init_process_groups())
    assert type(made) is StackedEngine


def test_the_c_code_refuses_an_unknown_parameter():
    run = run_of()
    model = stacked(run.architecture, 0, 1)
    columns = {name: (p.storage_offset(), p.shape[1:]) for name, p in model.named_parameters()}
    columns["decoder.layers.0.self_attention.q_norm.weight"] = (0, torch.Size([8]))
    with pytest.raises(AssertionError, match="q_norm"):
        ffi.param_offsets(columns, run.architecture)


def test_a_model_with_an_unknown_parameter_is_trained_by_the_stacked_engine(monkeypatch):
    known = ffi.parameter_names(run_of().architecture)
    norm = "decoder.layers.1.input_layernorm.weight"
    assert norm in known
    monkeypatch.setattr(support, "parameter_names", lambda architecture: known - {norm})
    made = build_engine(run_of(), VOCAB_SIZE, TRAIN_ITERS, init_process_groups())
    assert type(made) is StackedEngine


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_the_options_of_every_architecture_are_implemented(kind):
    assert are_options_implemented(run_of(kind))


@pytest.mark.parametrize(
    ("section", "record"),
    [("architecture", Architecture), ("optimization", Optimization), ("replicates", Replicates)],
)
def test_the_implemented_options_are_fields_of_the_record(section, record):
    options = {path.partition(".")[2] for path in support.OPTIONS if path.startswith(section)}
    assert options
    assert options <= record.model_fields.keys()
