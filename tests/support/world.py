"""A world of processes that trains tiny models in every layout it can; torchrun starts each.

`python -m tests.support.world 2 folder` writes what the first process saw to the folder.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from knowcap.config import Run
from knowcap.config.parallelism import ParallelDims, WorldSize
from knowcap.engines.base import Engine
from knowcap.engines.megatron.engine import MegatronEngine
from knowcap.engines.stacked import StackedEngine
from knowcap.model import megatron_core
from knowcap.model.stacked_model import build_model
from knowcap.training.launch import is_torchrun_worker, launch
from knowcap.training.multi_process import MultiProcess
from tests.support.tiny import tiny_run
from tests.support.variants import EXPERTS, VARIANTS, architecture

# Tensor parallelism has to fill up an odd vocabulary.
VOCAB_SIZE, NUM_STEPS, SAVED_STEPS = 23, 6, 3

KINDS = {
    "GPT2": VARIANTS["GPT2"],
    "Mistral": VARIANTS["Mistral"],
    "GPT2 of experts": VARIANTS["GPT2 of experts"],
    "LLaMA of few places": architecture(
        "LLaMA", **EXPERTS | {"moe_router_topk": 2}, moe_expert_capacity_factor=0.75
    ),
}

LAYOUTS: dict[int, dict[str, tuple[tuple[str, ...], ParallelDims]]] = {
    2: {
        "TP2": (("GPT2", "Mistral"), ParallelDims(tensor=2)),
        "PP2": (("GPT2",), ParallelDims(pipeline=2)),
        "DP2": (("GPT2",), ParallelDims(data=2)),
        "EP2": (("GPT2 of experts", "LLaMA of few places"), ParallelDims(expert=2, data=2)),
    },
    4: {
        "TP2 DP2": (("GPT2", "LLaMA of few places"), ParallelDims(tensor=2, data=2)),
        "PP2 DP2": (("GPT2",), ParallelDims(pipeline=2, data=2)),
        "TP2 EP4 DP2": (("GPT2 of experts",), ParallelDims(tensor=2, expert=4, data=2)),
    },
}
"""By number of processes and name: what is trained, and how it is laid out."""

RESUMED = {
    2: {"alone, then TP2": ("alone", "TP2"), "TP2, then PP2": ("TP2", "PP2")},
    4: {"PP2 DP2, then TP2 DP2": ("PP2 DP2", "TP2 DP2")},
}
"""By number of processes and name: whose checkpoint is resumed, and how."""


SAVED = [before for resumed in RESUMED.values() for before, _ in resumed.values()]


def run_of(kind: str, dtype: str = "float32") -> Run:
    """Two replicates of a kind, whose five windows no copies can share evenly."""
    run = tiny_run(
        optimization__global_batch_size=5,
        optimization__dtype=dtype,
        replicates__seeds=[7],
        replicates__lr=[1e-2, 3e-3],
    )
    return run.model_copy(update={"architecture": KINDS[kind]})


def batches() -> list[Tensor]:
    """Windows of each step; one step has half a window of padding and two windows of it."""
    generator = torch.Generator().manual_seed(3)
    steps = [torch.randint(VOCAB_SIZE, (2, 5, 17), generator=generator) for _ in range(NUM_STEPS)]
    steps[2][:, 2, 9:] = -1
    steps[2][:, 3:] = -1
    return steps


def alone(kind: str, dtype: str = "float32") -> StackedEngine:
    """One process's engine."""
    run = run_of(kind, dtype)
    seeds = [seed for seed, _ in run.replicates.pairs]
    cpu = torch.device("cpu")
    model = build_model(run.architecture, VOCAB_SIZE, seeds, cpu, getattr(torch, dtype))
    return StackedEngine(model, run, NUM_STEPS)


def steps(engine: Engine, first: int = 0, last: int = NUM_STEPS) -> dict[str, Any]:
    """Make steps and tell what they were like."""
    made = [
        (engine.step(tokens, number), engine.metrics())
        for number, tokens in list(enumerate(batches()))[first:last]
    ]
    return {
        "loss": torch.stack([step.loss for step, _ in made]),
        "grad_norm": torch.stack([step.grad_norm for step, _ in made]),
        "metrics": [metrics for _, metrics in made],
    }


def process_group(number: int, layout: ParallelDims) -> MultiProcess:
    """These processes in a layout, whatever they were in before."""
    if megatron_core.parallel_state.model_parallel_is_initialized():
        megatron_core.parallel_state.destroy_model_parallel()
    megatron_core.start.cache_clear()
    together = MultiProcess(WorldSize(1, number, on_gpus=False), layout)
    together.start()
    return together


def laid_out(kind: str, layout: ParallelDims, dtype: str = "float32") -> MegatronEngine:
    """The engine of these processes, once a process_group has started."""
    cpu = torch.device("cpu")
    return MegatronEngine(run_of(kind, dtype), VOCAB_SIZE, NUM_STEPS, cpu, layout)


def checkpoint(kind: str, iteration: int) -> dict[str, Any]:
    """What is saved beside an engine."""
    return {"identity": kind, "iteration": iteration}


def main(number: int, folder: Path) -> None:
    """Train in every layout of so many processes."""
    found: dict[str, Any] = {}
    layouts = {name: layout for name, (_, layout) in LAYOUTS[number].items()}
    for name, (kinds, layout) in LAYOUTS[number].items():
        together = process_group(number, layout)
        for kind in kinds:
            engine = laid_out(kind, layout)
            begun = steps(engine, last=SAVED_STEPS)
            if kind == "GPT2" and name in SAVED:
                together.save(checkpoint(kind, SAVED_STEPS), engine, folder / name)
            rest = steps(engine, first=SAVED_STEPS)
            found[f"{kind}, {name}"] = {"begun": begun, "rest": rest, "weights": engine.weights()}
    for name, (before, after) in RESUMED[number].items():
        together = process_group(number, layouts[after])
        engine = laid_out("GPT2", layouts[after])
        state = together.load("GPT2", engine, folder / before, torch.device("cpu"))
        assert state is not None
        assert state["iteration"] == SAVED_STEPS
        found[f"GPT2, {name}"] = {
            "rest": steps(engine, first=SAVED_STEPS),
            "weights": engine.weights(),
        }
    if number == 2:
        process_group(number, layouts["TP2"])
        engine = laid_out("GPT2", layouts["TP2"], "bfloat16")
        found["bfloat16"] = steps(engine)
    if distributed.get_rank() == 0:
        torch.save(found, folder / f"{number}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    size = int(sys.argv[1])
    if not is_torchrun_worker():
        sys.exit(launch(WorldSize(1, size, on_gpus=False), 1))
    torch.set_num_threads(1)
    main(size, Path(sys.argv[2]))
