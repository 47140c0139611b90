"""Times of a finished study's stages: rendering, evaluation, table, laws, figures and report.

The stages are run again from the study's trained models, one after another, in a temporary folder.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from knowcap.artifacts import files, identity
from knowcap.config import PRECISION_STAGES, Evaluation, Precision, Run
from knowcap.config.study import Study, load_study
from knowcap.data.corpus import load_corpus
from knowcap.stages.after_training import early_losses_path, evaluate_after_training
from knowcap_benchmarks.commands import time_command
from knowcap_benchmarks.machine import describe_machine, with_load_after

RENDER_REPEATS = 3
"""Number of times that a block of windows is rendered; the fastest counts."""


def time_stages(study_file: Path) -> dict[str, Any]:
    """Time all stages of a finished study; training times are read from its files.

    Rendering runs in a thread beside the training steps, so it is timed by itself: one block of a
    training's windows is rendered, and its time is scaled to all windows.

    Raises
    ------
    UserError
        If the study is not finished.
    """
    study = load_study(study_file)
    machine = describe_machine(1, "cpu", [])
    precisions_by_run: dict[Run, list[Precision]] = {}
    for run, precision in study.measurements():
        precisions_by_run.setdefault(run, []).append(precision)
    train_s = [_train_s(study, run) for run in precisions_by_run]
    render_s = [_render_s(study, run) for run in precisions_by_run]
    render_shares = [render / train for render, train in zip(render_s, train_s, strict=True)]
    stages = {"train": train_s, "render": render_s}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for run, precisions in precisions_by_run.items():
            for precision, seconds in _evaluate_s(study, run, precisions, folder).items():
                stages.setdefault(PRECISION_STAGES[precision], []).append(seconds)
        stages |= {name: [seconds] for name, seconds in _analysis_s(study_file, folder).items()}
    return {
        "format": 1,
        "kind": "stages",
        "name": f"stages-{study.study}",
        "study": study.study,
        "machine": with_load_after(machine),
        "num_models": sum(len(run.replicates.pairs) for run in precisions_by_run),
        "stages": stages,
        "largest_render_share": max(render_shares),
    }


def _run_folder(study: Study, run: Run) -> Path:
    return Path(study.results) / "runs" / identity.run_name(run)


def _corpus_folder(study: Study, run: Run) -> Path:
    return Path(study.results) / "corpora" / identity.corpus_name(run.corpus)


def _train_s(study: Study, run: Run) -> float:
    """Training time of a finished run in seconds, from `timing.json`."""
    return float(files.read_json(_run_folder(study, run) / "timing.json")["train_s"])


def _render_s(study: Study, run: Run) -> float:
    """Seconds to render all windows of a training, scaled up from one block."""
    from knowcap.engines.dataloader import BLOCK_TOKENS

    optimization, seeds = run.optimization, run.replicates.seeds
    corpus_reader = load_corpus(_corpus_folder(study, run))
    streams = [
        corpus_reader.stream(optimization.exposures, seed, optimization.windows) for seed in seeds
    ]
    num_steps = int(files.read_json(_run_folder(study, run) / "run.json")["train_iters"])
    step_tokens = len(seeds) * optimization.global_batch_size * optimization.seq_length
    block_steps = min(num_steps, max(1, BLOCK_TOKENS // step_tokens))
    fastest_s = float("inf")
    for _ in range(RENDER_REPEATS):
        start = time.perf_counter()
        for stream in streams:
            num_windows = block_steps * optimization.global_batch_size
            stream.windows(num_windows, optimization.seq_length, stream.start)
        fastest_s = min(fastest_s, time.perf_counter() - start)
    return fastest_s * num_steps / block_steps


def _evaluate_s(
    study: Study, run: Run, precisions: list[Precision], folder: Path
) -> dict[Precision, float]:
    """Seconds of the evaluations after a training, and of moving the losses as the rule does."""
    from knowcap.training.run_dir import DONE_FILE, FILES

    trained_folder = _run_folder(study, run)
    run_folder = folder / "runs" / trained_folder.name
    run_folder.mkdir(parents=True)
    for file in (*FILES, DONE_FILE):
        (run_folder / file).symlink_to((trained_folder / file).resolve())
    corpus = _corpus_folder(study, run)
    seconds = _evaluate_in_fork_s(run, run_folder, corpus, study.evaluation, precisions)
    for precision in precisions:
        measurement = identity.measurement_name(run, precision, study.evaluation)
        losses = early_losses_path(run_folder, measurement)
        seconds[precision] += time_command(["mv", str(losses), str(folder / "losses.nc")])
    return seconds


def _evaluate_in_fork_s(
    run: Run, run_folder: Path, corpus: Path, evaluation: Evaluation, precisions: list[Precision]
) -> dict[Precision, float]:
    """Seconds of each evaluation, in a fork that has the training's modules in memory."""
    import knowcap.training.train  # noqa: F401  imported by every training process

    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def evaluate() -> None:
        folders = (run_folder, corpus, run_folder)
        sender.send(evaluate_after_training(run, *folders, evaluation, precisions, 1))

    process = context.Process(target=evaluate)
    process.start()
    seconds: dict[Precision, float] = receiver.recv()
    process.join()
    return seconds


def _analysis_s(study: Path, folder: Path) -> dict[str, float]:
    """Seconds of the commands that read all measurements of the study."""
    table, laws, figures = folder / "capacity.nc", folder / "laws.nc", folder / "figures"
    inputs = {"capacity": table, "laws": laws}
    return {
        "table": _command_s("table", study=study, output=table, index=folder / "index.csv"),
        "laws": _command_s("laws", capacity=table, output=laws, markdown=folder / "laws.md"),
        "figures": _command_s("figures", **inputs, output=figures),
        "report": _command_s(
            "report", study=study, **inputs, figures=figures, output=folder / "report.html"
        ),
    }


def _command_s(command: str, **options: Path) -> float:
    """Seconds of a `knowcap` command."""
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return time_command([sys.executable, "-m", "knowcap", command, *arguments])
