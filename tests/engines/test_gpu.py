"""Training and evaluation on a GPU equal those on a CPU, to the precision of float32."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from knowcap.artifacts import identity
from knowcap.artifacts.files import read_dataset, read_json
from knowcap.config import Evaluation, Run
from knowcap.data.corpus_writer import write_corpus
from knowcap.engines.cuda_graph import CudaGraphEngine
from knowcap.engines.stacked import StackedEngine
from knowcap.model import megatron_core
from knowcap.model.stacked_model import build_model
from knowcap.training import gpu_slots
from tests.engines.test_cuda_graph import KINDS, run_of, tokens
from tests.support.tiny import tiny_run
from tests.support.variants import VOCAB_SIZE

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpu_slots.visible_gpus(), reason="there is no GPU"),
]

RUN = tiny_run()
EVALUATION = Evaluation(num_people=50, seed=5)
ON_CPU = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(RUN.corpus, folder)
    return folder


def start(
    run: Run, corpus: Path, folder: Path, *options: str, environment: Any = None
) -> subprocess.Popen[bytes]:
    """Start `knowcap train` as the workflow does."""
    command = [sys.executable, "-m", "knowcap", "train", "--record", identity.record_json(run)]
    command += ["--corpus", str(corpus), "--output", str(folder / "run")]
    command += ["--scratch", str(folder / "scratch"), *options]
    return subprocess.Popen(command, env=environment)


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def losses(folder: Path) -> np.ndarray:
    return np.array([line["loss_nats"] for line in metrics(folder)])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"architecture__family": "LLaMA"},
        {
            "architecture__num_moe_experts": 4,
            "architecture__moe_router_topk": 1,
            "architecture__moe_aux_loss_coeff": 0.01,
            "architecture__moe_expert_capacity_factor": 2.0,
        },
    ],
    ids=["GPT2", "LLaMA", "experts"],
)
def test_losses_of_training_on_a_gpu_equal_those_on_a_cpu(
    corpus: Path, tmp_path: Path, changes: dict
) -> None:
    run = tiny_run(**changes)
    on_gpu = start(run, corpus, tmp_path / "gpu", "--gpus", "1")
    on_cpu = start(run, corpus, tmp_path / "cpu", environment=ON_CPU)
    assert (on_gpu.wait(), on_cpu.wait()) == (0, 0)
    devices = [read_json(tmp_path / name / "run/timing.json")["device"] for name in ("gpu", "cpu")]
    assert devices == ["cuda", "cpu"]
    # AdamW amplifies rounding errors: from 1e-7 of a loss over 250 steps
    np.testing.assert_allclose(losses(tmp_path / "gpu"), losses(tmp_path / "cpu"), rtol=2e-3)


def test_value_losses_evaluated_on_a_gpu_equal_those_on_a_cpu(corpus: Path, tmp_path: Path) -> None:
    assert start(RUN, corpus, tmp_path, environment=ON_CPU).wait() == 0
    losses_of = {}
    for device, environment in (("gpu", os.environ), ("cpu", ON_CPU)):
        output = tmp_path / f"{device}.nc"
        command = [sys.executable, "-m", "knowcap", "evaluate", "--run", str(tmp_path / "run")]
        command += ["--corpus", str(corpus), "--precision", "trained", "--output", str(output)]
        command += ["--evaluation", EVALUATION.model_dump_json()]
        command += ["--gpus", "1"] if device == "gpu" else []
        subprocess.run(command, env=environment, check=True)
        losses_of[device] = read_dataset(output)
    np.testing.assert_allclose(losses_of["gpu"].value_loss, losses_of["cpu"].value_loss, rtol=1e-4)


def test_bfloat16_training_reaches_the_loss_of_float32(corpus: Path, tmp_path: Path) -> None:
    bf16 = tiny_run(optimization__dtype="bfloat16")
    jobs = [start(RUN, corpus, tmp_path / "32", "--gpus", "1", "--gpu-slots", "2")]
    jobs += [start(bf16, corpus, tmp_path / "16", "--gpus", "1", "--gpu-slots", "2")]
    assert [job.wait() for job in jobs] == [0, 0]  # two jobs on one GPU
    np.testing.assert_allclose(losses(tmp_path / "16")[-1], losses(tmp_path / "32")[-1], rtol=0.03)


@pytest.mark.skipif(len(gpu_slots.visible_gpus()) < 2, reason="there are no two GPUs")
def test_losses_on_two_gpus_equal_those_on_one(corpus: Path, tmp_path: Path) -> None:
    for number in ("1", "2"):
        assert start(RUN, corpus, tmp_path / number, "--gpus", number).wait() == 0
    np.testing.assert_allclose(losses(tmp_path / "2"), losses(tmp_path / "1"), rtol=2e-3)


def build(engine: type[StackedEngine], run: Run) -> StackedEngine:
    """An engine on the GPU of this process."""
    device = megatron_core.init_process_groups()
    seeds = [seed for seed, _ in run.replicates.pairs]
    model = build_model(run.architecture, VOCAB_SIZE, seeds, device, torch.float32)
    return engine(model, run, 6)


@pytest.mark.parametrize("kind", ["GPT2", "LLaMA", "GPT2 of experts"])
def test_replayed_steps_equal_those_of_the_stacked_engine(kind: str) -> None:
    run = run_of(KINDS[kind])
    found, expected = build(CudaGraphEngine, run), build(StackedEngine, run)
    assert found.facts() == {"name": "cuda_graph"}
    for iteration in range(6):
        step, reference = (
            each.step(tokens(iteration).to("cuda"), iteration) for each in (found, expected)
        )
        torch.testing.assert_close(step.loss, reference.loss, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(step.grad_norm, reference.grad_norm, rtol=1e-4, atol=1e-6)
    for name, value in expected.weights().items():
        # AdamW's first steps have size lr even for tiny gradients, so their rounding errors show
        torch.testing.assert_close(found.weights()[name], value, rtol=1e-3, atol=2e-4, msg=name)


def test_a_captured_engine_resumes_from_a_checkpoint() -> None:
    run = run_of(KINDS["GPT2"])
    expected, found = build(CudaGraphEngine, run), build(CudaGraphEngine, run)
    for iteration in range(3):
        expected.step(tokens(iteration).to("cuda"), iteration)
    found.load_state_dict({name: value.clone() for name, value in expected.state_dict().items()})
    for iteration in range(3, 6):
        step, reference = (
            each.step(tokens(iteration).to("cuda"), iteration) for each in (found, expected)
        )
        torch.testing.assert_close(step.loss, reference.loss, rtol=1e-5, atol=1e-6)


def test_graphs_are_captured_while_the_dataloader_renders_windows(
    corpus: Path, tmp_path: Path
) -> None:
    assert start(RUN, corpus, tmp_path, "--gpus", "1").wait() == 0
    engines = read_json(tmp_path / "run/provenance.json")["engines"]
    assert engines == [{"name": "cuda_graph"}]
