"""How long a study's stages take beside its training: what renders, measures and judges.

They are made anew of the study's models, one after the other, in a folder that is thrown away.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from knowcap.artifacts import files, identity
from knowcap.config import PRECISION_STAGES, Evaluation, Precision, Run
from knowcap.config.study import Study, load_study
from knowcap.data.corpus import load_corpus
from knowcap.evaluation.after_training import early_losses_path, evaluate_after_training
from knowcap_benchmarks.commands import timed
from knowcap_benchmarks.machine import describe

RENDERINGS = 3
"""How often a block of windows is rendered; the fastest counts."""


def time_stages(study_file: Path) -> dict[str, Any]:
    """Time what a study's trainings need and what follows them, and read how long these took.

    Rendering is timed alone, as it goes on in a thread beside a training's steps; a block of a
    training's windows stands for all of them.

    Raises
    ------
    UserError
        If the study is not done.
    """
    study = load_study(study_file)
    machine = describe(1, "cpu", [])
    asked: dict[Run, list[Precision]] = {}
    for run, precision in study.measurements():
        asked.setdefault(run, []).append(precision)
    trained = {run: float(_kept(study, run, "timing.json")["train_s"]) for run in asked}
    rendered = [_rendering_s(study, run) for run in asked]
    shares = [seconds / of_run for seconds, of_run in zip(rendered, trained.values(), strict=True)]
    stages = {"train": list(trained.values()), "render": rendered}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for run, precisions in asked.items():
            for precision, seconds in _asked_s(study, run, precisions, folder).items():
                stages.setdefault(PRECISION_STAGES[precision], []).append(seconds)
        stages |= {name: [seconds] for name, seconds in _judged_s(study_file, folder).items()}
    return {
        "format": 1,
        "kind": "stages",
        "name": f"stages-{study.study}",
        "study": study.study,
        "machine": {**machine, "load_after": round(os.getloadavg()[0], 2)},
        "num_models": sum(len(run.replicates.pairs) for run in asked),
        "stages": stages,
        "largest_render_share": max(shares),
    }


def _run_folder(study: Study, run: Run) -> Path:
    return Path(study.results) / "runs" / identity.run_name(run)


def _corpus_folder(study: Study, run: Run) -> Path:
    return Path(study.results) / "corpora" / identity.corpus_name(run.corpus)


def _kept(study: Study, run: Run, file: str) -> Any:
    """What a file of a run's folder says."""
    return files.read_json(_run_folder(study, run) / file)


def _rendering_s(study: Study, run: Run) -> float:
    """Seconds that all windows of a training take to render, from a block of them."""
    from knowcap.engines.dataloader import BLOCK_TOKENS

    optimization, seeds = run.optimization, run.replicates.seeds
    corpus_reader = load_corpus(_corpus_folder(study, run))
    streams = [corpus_reader.stream(optimization.exposures, seed) for seed in seeds]
    num_steps = int(_kept(study, run, "run.json")["train_iters"])
    step_tokens = len(seeds) * optimization.global_batch_size * optimization.seq_length
    num_rendered = min(num_steps, max(1, BLOCK_TOKENS // step_tokens))
    fastest = float("inf")
    for _ in range(RENDERINGS):
        begun = time.perf_counter()
        for stream in streams:
            num_windows = num_rendered * optimization.global_batch_size
            stream.windows(num_windows, optimization.seq_length, stream.start)
        fastest = min(fastest, time.perf_counter() - begun)
    return fastest * num_steps / num_rendered


def _asked_s(
    study: Study, run: Run, precisions: list[Precision], folder: Path
) -> dict[Precision, float]:
    """Seconds to ask as a training does and to take the answers over, as the rule does."""
    from knowcap.training.run_dir import DONE_FILE, FILES

    kept = _run_folder(study, run)
    run_folder = folder / "runs" / kept.name
    run_folder.mkdir(parents=True)
    for file in (*FILES, DONE_FILE):
        (run_folder / file).symlink_to((kept / file).resolve())
    corpus = _corpus_folder(study, run)
    seconds = _asked_ahead(run, run_folder, corpus, study.evaluation, precisions)
    for precision in precisions:
        measurement = identity.measurement_name(run, precision, study.evaluation)
        answers = early_losses_path(run_folder, measurement)
        seconds[precision] += timed(["mv", str(answers), str(folder / "losses.nc")])
    return seconds


def _asked_ahead(
    run: Run, run_folder: Path, corpus: Path, evaluation: Evaluation, precisions: list[Precision]
) -> dict[Precision, float]:
    """Ask as a training does, in a process that has trained and not yet quantised."""
    import knowcap.training.train  # noqa: F401  what a training has in memory

    context = multiprocessing.get_context("fork")
    answers, answered = context.Pipe(duplex=False)

    def ask_ahead() -> None:
        folders = (run_folder, corpus, run_folder)
        answered.send(evaluate_after_training(run, *folders, evaluation, precisions, 1))

    child = context.Process(target=ask_ahead)
    child.start()
    seconds: dict[Precision, float] = answers.recv()
    child.join()
    return seconds


def _judged_s(study: Path, folder: Path) -> dict[str, float]:
    """Seconds that the stages take which read all measurements, each a command."""
    table, laws, figures = folder / "capacity.nc", folder / "laws.nc", folder / "figures"
    made_of = {"capacity": table, "laws": laws}
    return {
        "table": _command_s("table", study=study, output=table, index=folder / "index.csv"),
        "laws": _command_s("laws", capacity=table, output=laws, markdown=folder / "laws.md"),
        "figures": _command_s("figures", **made_of, output=figures),
        "report": _command_s(
            "report", study=study, **made_of, figures=figures, output=folder / "report.html"
        ),
    }


def _command_s(command: str, **options: Path) -> float:
    """Seconds that a command of ours takes."""
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return timed([sys.executable, "-m", "knowcap", command, *given])
