"""However a run is laid out over processes, it is the run that one process trains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from knowcap.config.parallelism import ParallelDims, WorldSize
from knowcap.model.megatron_core import start
from knowcap.training import checkpoint as files
from knowcap.training.multi_process import MultiProcess
from tests.lm import world
from tests.support.world import (
    KINDS,
    LAYOUTS,
    NUM_STEPS,
    RESUMED,
    SAVED_STEPS,
    alone,
    laid_out,
    steps,
)

REPOSITORY = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def references() -> dict[str, dict[str, Any]]:
    """What one process makes of each kind."""
    start()
    found = {}
    for kind in KINDS:
        engine = alone(kind)
        begun = steps(engine, last=SAVED_STEPS)
        saved = {name: value.clone() for name, value in engine.state_dict().items()}
        rest = steps(engine, first=SAVED_STEPS)
        found[kind] = {"begun": begun, "rest": rest, "weights": engine.weights(), "saved": saved}
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worlds")


@pytest.fixture(scope="module", params=[2, 4], ids=["2 processes", "4 processes"])
def found(
    request: pytest.FixtureRequest, folder: Path, references: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """What a world of processes makes, by kind and layout."""
    state = world.checkpoint("GPT2", SAVED_STEPS)
    files.save({**state, "engine": references["GPT2"]["saved"]}, folder / "alone")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "tests.support.world", str(request.param), str(folder)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made: dict[str, dict[str, Any]] = torch.load(folder / f"{request.param}.pt")
    made["names"] = {
        "layouts": [
            f"{kind}, {name}"
            for name, (kinds, _) in LAYOUTS[request.param].items()
            for kind in kinds
        ],
        "resumed": [f"GPT2, {name}" for name in RESUMED[request.param]],
    }
    return made


def assert_same_steps(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Losses within 10^-5 nats and norms within 3 in 10^4, experts' loads to the last digit.

    Sums in another order differ by some 10^-7; ten steps at a large learning rate let that grow.
    """
    torch.testing.assert_close(found["loss"], expected["loss"], rtol=0, atol=1e-5)
    torch.testing.assert_close(found["grad_norm"], expected["grad_norm"], rtol=3e-4, atol=0)
    assert found["metrics"] == expected["metrics"]


def assert_same_weights(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """AdamW makes steps of a hundredth of what differs in its direction alone."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=3e-4, msg=name)


def test_every_layout_gives_the_losses_norms_and_loads_of_one_process(found, references):
    for name in found["names"]["layouts"]:
        reference = references[name.partition(",")[0]]
        assert_same_steps(found[name]["begun"], reference["begun"])
        assert_same_steps(found[name]["rest"], reference["rest"])


def test_every_layout_ends_with_the_weights_of_one_process(found, references):
    for name in found["names"]["layouts"]:
        reference = references[name.partition(",")[0]]
        assert_same_weights(found[name]["weights"], reference["weights"])


def test_a_checkpoint_is_resumed_in_another_layout(found, references):
    for name in found["names"]["resumed"]:
        assert_same_steps(found[name]["rest"], references["GPT2"]["rest"])
        assert_same_weights(found[name]["weights"], references["GPT2"]["weights"])


def test_one_process_goes_on_from_the_checkpoint_of_several(found, folder, references):
    for name in ("TP2", "PP2 DP2"):
        if not (folder / name).exists():
            continue
        together = MultiProcess(WorldSize(1, 1, on_gpus=False), ParallelDims())
        together.start()
        engine = laid_out("GPT2", ParallelDims())
        state = together.load("GPT2", engine, folder / name, CPU)
        assert state is not None
        assert_same_steps(steps(engine, first=SAVED_STEPS), references["GPT2"]["rest"])


def test_bfloat16_products_are_rounded_as_one_process_rounds_them(found):
    if "bfloat16" not in found:
        pytest.skip("tested with two processes")
    expected = steps(alone("GPT2", "bfloat16"), last=NUM_STEPS)
    # bfloat16 has 8 bits; positions are turned in float32 by one process alone
    torch.testing.assert_close(found["bfloat16"]["loss"], expected["loss"], rtol=0, atol=5e-3)
