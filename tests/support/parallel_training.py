"""Training of tiny models by several processes with all parallel dimensions that they allow."""

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
from knowcap.training.launch import is_torchrun_worker, launch, reduce_garbage_collection
from knowcap.training.multi_process import MultiProcess
from tests.support.tiny import tiny_run
from tests.support.variants import EXPERTS, VARIANTS, architecture

# Tensor parallelism pads an odd vocabulary.
VOCAB_SIZE, NUM_STEPS, SAVED_STEPS = 23, 6, 3

KINDS = {
    "GPT2": VARIANTS["GPT2"],
    "GPT2 with document masks": VARIANTS["GPT2"],
    "GPT2 of one layer": architecture("GPT2", size="1-4"),
    "Mistral": VARIANTS["Mistral"],
    "GPT2 of experts": VARIANTS["GPT2 of experts"],
    "one layer of experts": architecture("GPT2", size="1-4", **EXPERTS),
    "LLaMA that drops tokens": architecture(
        "LLaMA", **EXPERTS | {"moe_router_topk": 2}, moe_expert_capacity_factor=0.75
    ),
}

CONFIGURATIONS: dict[int, dict[str, tuple[tuple[str, ...], ParallelDims]]] = {
    2: {
        "TP2": (
            ("GPT2", "GPT2 with document masks", "GPT2 of one layer", "Mistral"),
            ParallelDims(tensor=2),
        ),
        "PP2": (("GPT2", "GPT2 with document masks"), ParallelDims(pipeline=2)),
        "DP2": (("GPT2", "GPT2 of one layer"), ParallelDims(data=2)),
        "EP2": (
            ("GPT2 of experts", "one layer of experts", "LLaMA that drops tokens"),
            ParallelDims(expert=2, data=2),
        ),
    },
    4: {
        "TP2 DP2": (
            ("GPT2", "GPT2 of one layer", "GPT2 of experts", "LLaMA that drops tokens"),
            ParallelDims(tensor=2, data=2),
        ),
        "PP2 DP2": (("GPT2",), ParallelDims(pipeline=2, data=2)),
        "TP2 EP4 DP2": (
            ("GPT2 of experts", "one layer of experts"),
            ParallelDims(tensor=2, expert=4, data=2),
        ),
    },
}
"""Models and parallel dimensions, by number of processes and name."""

RESUMED = {
    2: {"one process, then TP2": ("one process", "TP2"), "TP2, then PP2": ("TP2", "PP2")},
    4: {"PP2 DP2, then TP2 DP2": ("PP2 DP2", "TP2 DP2")},
}
"""Names of the saving and the resuming configuration, by number of processes and name."""


SAVED = [before for resumed in RESUMED.values() for before, _ in resumed.values()]


def run_of(kind: str, dtype: str = "float32") -> Run:
    """Two replicates, whose five windows do not divide evenly among model copies."""
    run = tiny_run(
        optimization__global_batch_size=5,
        optimization__dtype=dtype,
        optimization__reset_attention_mask=kind.endswith("document masks"),
        replicates__seeds=[7],
        replicates__lr=[1e-2, 3e-3],
    )
    return run.model_copy(update={"architecture": KINDS[kind]})


def batches() -> list[Tensor]:
    """Windows of each step; one step has windows that are partly or all padding."""
    generator = torch.Generator().manual_seed(3)
    steps = [torch.randint(VOCAB_SIZE, (2, 5, 17), generator=generator) for _ in range(NUM_STEPS)]
    steps[2][:, 2, 9:] = -1
    steps[2][:, 3:] = -1
    return steps


def stacked_engine(kind: str, dtype: str = "float32") -> StackedEngine:
    """The engine of a single process."""
    run = run_of(kind, dtype)
    seeds = [seed for seed, _ in run.replicates.pairs]
    cpu = torch.device("cpu")
    model = build_model(run.architecture, VOCAB_SIZE, seeds, cpu, getattr(torch, dtype))
    model.reset_attention_mask = run.optimization.reset_attention_mask
    return StackedEngine(model, run, NUM_STEPS)


def steps(engine: Engine, first: int = 0, last: int = NUM_STEPS) -> dict[str, Any]:
    """Make steps; return their losses, gradient norms and metrics."""
    made = [
        (engine.step(tokens, number), engine.metrics())
        for number, tokens in list(enumerate(batches()))[first:last]
    ]
    return {
        "loss": torch.stack([step.loss for step, _ in made]),
        "grad_norm": torch.stack([step.grad_norm for step, _ in made]),
        "metrics": [metrics for _, metrics in made],
    }


def process_group(number: int, parallel_dims: ParallelDims) -> MultiProcess:
    """Reinitialize these processes with other parallel dimensions."""
    if megatron_core.parallel_state.model_parallel_is_initialized():
        megatron_core.parallel_state.destroy_model_parallel()
    megatron_core.init_process_groups.cache_clear()
    group = MultiProcess(WorldSize(1, number, on_gpus=False), parallel_dims)
    group.start()
    return group


def megatron_engine(
    kind: str, parallel_dims: ParallelDims, dtype: str = "float32"
) -> MegatronEngine:
    """The engine of these processes, after :func:`process_group`."""
    cpu = torch.device("cpu")
    return MegatronEngine(run_of(kind, dtype), VOCAB_SIZE, NUM_STEPS, cpu, parallel_dims)


def checkpoint(kind: str, iteration: int) -> dict[str, Any]:
    """State that is saved beside an engine's."""
    return {"identity": kind, "iteration": iteration}


def main(number: int, folder: Path) -> None:
    """Train every configuration of a number of processes."""
    found: dict[str, Any] = {}
    dims = {name: parallel_dims for name, (_, parallel_dims) in CONFIGURATIONS[number].items()}
    for name, (kinds, parallel_dims) in CONFIGURATIONS[number].items():
        group = process_group(number, parallel_dims)
        for kind in kinds:
            engine = megatron_engine(kind, parallel_dims)
            first = steps(engine, last=SAVED_STEPS)
            if kind == "GPT2" and name in SAVED:
                group.save(checkpoint(kind, SAVED_STEPS), engine, folder / name)
            rest = steps(engine, first=SAVED_STEPS)
            found[f"{kind}, {name}"] = {"first": first, "rest": rest, "weights": engine.weights()}
    for name, (before, after) in RESUMED[number].items():
        group = process_group(number, dims[after])
        engine = megatron_engine("GPT2", dims[after])
        state = group.load("GPT2", engine, folder / before, torch.device("cpu"))
        assert state is not None
        assert state["iteration"] == SAVED_STEPS
        found[f"GPT2, {name}"] = {
            "rest": steps(engine, first=SAVED_STEPS),
            "weights": engine.weights(),
        }
    if number == 2:
        process_group(number, dims["TP2"])
        engine = megatron_engine("GPT2", dims["TP2"], "bfloat16")
        found["bfloat16"] = steps(engine)
    if distributed.get_rank() == 0:
        torch.save(found, folder / f"{number}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


def start(number: int, folder: Path) -> None:
    """Start this program as several processes; rank 0 writes its results to the folder."""
    if not is_torchrun_worker():
        sys.exit(launch(WorldSize(1, number, on_gpus=False), 1, folder))
    reduce_garbage_collection()
    torch.set_num_threads(1)
    main(number, folder)
