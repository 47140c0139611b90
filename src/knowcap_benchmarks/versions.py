"""Training speed of this version beside an older one, in interleaved rounds.

Each measurement runs in a process that imports the package of its version, so the older one has its
own engine, compiler flags and C sources.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tabulate import tabulate

from knowcap.errors import UserError
from knowcap_benchmarks.cases import Case, speed_case
from knowcap_benchmarks.interleave import ratio, run_interleaved
from knowcap_benchmarks.machine import describe_machine, with_load_after
from knowcap_benchmarks.tables import share_of_peak
from knowcap_benchmarks.training import training_request

SHAPES = ((2, 64, 16, 512), (2, 128, 12, 512), (4, 128, 12, 512), (4, 256, 16, 512))
"""Layers, width, windows of a step and their length, by default."""

OLD, NEW = "old", "new"


def compare_versions(
    revision: str, implementation: str, num_threads: int, rounds: int, seconds: float
) -> dict[str, Any]:
    """Measure the training speed of a git revision and of the working tree.

    Parameters
    ----------
    revision
        Revision of this repository whose package is measured, too.
    implementation
        `knowcap` or `knowcap-bf16`.
    num_threads
        CPU threads.
    rounds
        Number of measurements of each version and shape.
    seconds
        Length of one measurement.

    Returns
    -------
    dict
        The machine, and for each shape the tokens/s of both versions in every round.

    Raises
    ------
    UserError
        If the revision does not exist.
    """
    machine = describe_machine(num_threads, "cpu", ("knowcap",))
    source = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        commit = _extract(revision, source.parent, Path(folder))
        paths = {OLD: Path(folder, "src"), NEW: source}
        shapes = [
            _measure(speed_case(*shape), implementation, paths, num_threads, rounds, seconds)
            for shape in SHAPES
        ]
    return {
        "format": 1,
        "kind": "versions",
        "old": commit,
        "implementation": implementation,
        "machine": with_load_after(machine),
        "shapes": shapes,
    }


def _extract(revision: str, repository: Path, folder: Path) -> str:
    """Write the package of a revision to a folder, and return its commit."""
    git = ["git", "-C", str(repository)]
    found = subprocess.run(
        [*git, "rev-parse", "--verify", f"{revision}^{{commit}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        raise UserError(f"{revision}: no revision of {repository}")
    commit = found.stdout.strip()
    archive = subprocess.run([*git, "archive", commit, "src"], capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return commit


def _measure(
    case: Case,
    implementation: str,
    paths: dict[str, Path],
    num_threads: int,
    rounds: int,
    seconds: float,
) -> dict[str, Any]:
    request = training_request(case, implementation, num_threads, seconds)
    results = run_interleaved(
        {
            name: [request._replace(environment={**request.environment, "PYTHONPATH": str(path)})]
            * rounds
            for name, path in paths.items()
        }
    )
    return {"case": case.model_dump(mode="json"), "rounds": results}


def versions_table(result: dict[str, Any]) -> str:
    """Return a Markdown table of the speeds of both versions and their ratio."""
    rows = []
    for shape in result["shapes"]:
        speeds = {
            name: [each["tokens_per_s"] for each in rounds if "failed" not in each]
            for name, rounds in shape["rounds"].items()
        }
        if not all(speeds.values()):
            rows.append([shape["case"]["title"], "failed", "failed", "", ""])
            continue
        old, new = (sorted(speeds[name])[len(speeds[name]) // 2] for name in (OLD, NEW))
        found = ratio(speeds[NEW], speeds[OLD])
        text = f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"
        case = Case.model_validate(shape["case"])
        before, now = (share_of_peak(case, result["machine"], speed) for speed in (old, new))
        rows.append([case.title, f"{old:,.0f}", f"{new:,.0f}", text, f"{before} to {now}"])
    headers = ("shape", "tokens/s before", "tokens/s", "times before", "of the products' peak")
    table: str = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    return table
