"""Replayed CUDA graphs make the same steps as the stacked engine, bit by bit."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from knowcap.config import Architecture, Run
from knowcap.engines.cuda_graph import CudaGraphEngine, is_capturable
from knowcap.engines.stacked import StackedEngine
from knowcap.model import attention
from knowcap.model.megatron_core import init_process_groups
from knowcap.model.rotary import rotary_factors
from knowcap.model.stacked_model import build_model
from tests.support import graph_capture
from tests.support.tiny import tiny_run
from tests.support.variants import EXPERTS, VARIANTS, VOCAB_SIZE, architecture, windows

NUM_STEPS, NUM_WINDOWS, SEQ_LENGTH = 6, 4, 9
CAPTURE_ERROR = "not permitted when stream is capturing"
GPU = torch.device("cuda", 0)

CAPACITY = {"moe_expert_capacity_factor": 1.25}
KINDS = {
    **{name: kind for name, kind in VARIANTS.items() if not kind.num_moe_experts},
    "GPT2 of experts": architecture("GPT2", **EXPERTS, **CAPACITY),
    "LLaMA of experts": architecture("LLaMA", **EXPERTS | CAPACITY | {"moe_router_topk": 2}),
}
BF16_KINDS = ("GPT2", "LLaMA", "LLaMA of experts")
CASES = [(kind, "float32") for kind in KINDS] + [(kind, "bfloat16") for kind in BF16_KINDS]


def run_of(kind: Architecture, dtype: str = "float32", *, mask: bool = False) -> Run:
    run = tiny_run(
        optimization__reset_attention_mask=mask,
        optimization__seq_length=SEQ_LENGTH,
        optimization__global_batch_size=NUM_WINDOWS,
        optimization__dtype=dtype,
    )
    return run.model_copy(update={"architecture": kind})


def engine(run: Run, make: Callable[..., StackedEngine] = StackedEngine, **how: Any) -> Any:
    seeds = [seed for seed, _ in run.replicates.pairs]
    dtype = getattr(torch, run.optimization.dtype)
    init_process_groups()
    model = build_model(run.architecture, VOCAB_SIZE, seeds, torch.device("cpu"), dtype)
    model.reset_attention_mask = run.optimization.reset_attention_mask
    return make(model, run, NUM_STEPS, **how)


def captured(run: Run, capture: Any = graph_capture.capture) -> CudaGraphEngine:
    return engine(run, CudaGraphEngine, capture=capture)


def tokens(iteration: int) -> Tensor:
    """Windows of a step; some steps have padding."""
    given = windows(4, NUM_WINDOWS, SEQ_LENGTH + 1, seed=iteration).int()
    if iteration % 3 == 1:
        given[:, 1, 4:] = -1
        given[2] = -1
    return given


def assert_same(found: CudaGraphEngine, expected: StackedEngine, first: int = 0) -> None:
    """Make the remaining steps with both engines and compare all bits."""
    for iteration in range(first, NUM_STEPS):
        step, reference = (each.step(tokens(iteration), iteration) for each in (found, expected))
        assert torch.equal(step.loss, reference.loss)
        assert torch.equal(step.grad_norm, reference.grad_norm)
        assert found.metrics() == expected.metrics()
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


@pytest.mark.parametrize(("kind", "dtype"), CASES, ids=[" ".join(case) for case in CASES])
def test_replayed_steps_equal_those_of_the_stacked_engine(kind: str, dtype: str) -> None:
    run = run_of(KINDS[kind], dtype)
    found = captured(run)
    assert found.facts() == {"name": "cuda_graph"}
    assert_same(found, engine(run))


def test_replayed_steps_with_document_masks_equal_those_of_the_stacked_engine() -> None:
    run = run_of(KINDS["Mistral"], mask=True)
    assert_same(captured(run), engine(run))


@pytest.mark.parametrize("kind", KINDS)
def test_capture_changes_no_state(kind: str) -> None:
    run = run_of(KINDS[kind])
    found, expected = captured(run).state_dict(), engine(run).state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_step_s_results_are_not_overwritten_by_the_next_step() -> None:
    found = captured(run_of(KINDS["GPT2"]))
    first = found.step(tokens(0), 0)
    before = [value.clone() for value in first]
    found.step(tokens(1), 1)
    assert all(map(torch.equal, first, before))


def test_a_captured_engine_resumes_from_a_checkpoint() -> None:
    run = run_of(KINDS["LLaMA"])
    found, expected = captured(run), engine(run)
    for iteration in range(3):
        expected.step(tokens(iteration), iteration)
    found.load_state_dict({name: value.clone() for name, value in expected.state_dict().items()})
    assert_same(found, expected, first=3)


@pytest.mark.parametrize(("kind", "mask"), [*((kind, False) for kind in KINDS), ("Mistral", True)])
def test_a_graph_accesses_only_tensors_at_fixed_addresses(kind: str, mask: bool) -> None:
    graph = graph_capture.CapturedGraph()

    def capture(iterate: Callable[[], None]) -> Callable[[], None]:
        iterate()
        with graph:
            iterate()
        return graph.replay

    run = run_of(KINDS[kind], mask=mask)
    found = captured(run, capture)
    optimizer = found._optimizer
    rotary = rotary_factors(run.architecture, SEQ_LENGTH, torch.device("cpu"), torch.float32)
    fixed = {
        "tokens": found._tokens,
        "results": found._results,
        "gradient": optimizer._grad,
        "learning rate": optimizer._lr_R1,
        "number of steps": optimizer._num_steps,
        "rotary factors": rotary,
        **found.state_dict(),
    }
    if not mask:
        fixed["causal mask"] = attention._causal_mask(SEQ_LENGTH, SEQ_LENGTH, torch.float32)
    addresses = {graph_capture.address(value): name for name, value in fixed.items()}
    assert graph.external.keys() == addresses.keys()


class FailingCapture(TorchDispatchMode):
    """Fails at the end of the backward pass, when there are gradients already."""

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        if operation is torch.ops.aten.embedding_dense_backward.default:
            raise RuntimeError(CAPTURE_ERROR)
        return operation(*arguments, **(options or {}))


def test_training_continues_without_a_graph_if_capture_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = run_of(KINDS["GPT2"])

    def fail(iterate: Callable[[], None]) -> Callable[[], None]:
        with FailingCapture():
            iterate()
        raise AssertionError("capture did not fail")

    with caplog.at_level(logging.WARNING, "knowcap"):
        found = captured(run, fail)
    assert caplog.messages == [
        f"training without a CUDA graph, because capture failed: {CAPTURE_ERROR}"
    ]
    assert found.facts() == engine(run).facts() == {"name": "stacked"}
    assert all(parameter.grad is None for parameter in found._model.parameters())
    assert_same(found, engine(run))


def test_experts_without_a_capacity_factor_are_not_capturable() -> None:
    run = run_of(architecture("GPT2", **EXPERTS))
    assert not is_capturable(run, GPU)
    stacked = engine(run)
    with graph_capture.CapturedGraph(), pytest.raises(RuntimeError, match=CAPTURE_ERROR):
        stacked.iterate(tokens(0))


def test_only_gpus_capture_graphs() -> None:
    for kind in KINDS.values():
        assert is_capturable(run_of(kind), GPU)
        assert not is_capturable(run_of(kind), torch.device("cpu"))


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_a_step_on_a_gpu_never_synchronizes_with_the_host(tmp_path: Path) -> None:
    guard, torch_folder = tmp_path / "guard.so", Path(torch.__file__).parent
    command = ["g++", "-std=c++20", "-shared", "-fPIC", f"-I{torch_folder / 'include'}"]
    command += [str(Path(__file__).parents[1] / "support" / "guard.cpp"), "-o", str(guard)]
    command += [f"-L{torch_folder / 'lib'}", "-lc10"]
    subprocess.run(command, check=True)
    fake = [sys.executable, "-m", "tests.support.fake_gpu", str(guard)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    shown = subprocess.run(fake, env=environment, check=True, text=True, stdout=subprocess.PIPE)
    assert [line.rpartition(" ")[0] for line in shown.stdout.splitlines()] == [
        " ".join(case) for case in CASES
    ]
