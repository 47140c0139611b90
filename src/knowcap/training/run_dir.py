"""Run folders: names of their files, publication, and verification of a published run."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from knowcap.artifacts.files import atomic_write, read_json, write_json
from knowcap.config import Run
from knowcap.errors import UserError

RUN_FILE = "run.json"
MODEL_FILE = "model.pt"
METRICS_FILE = "metrics.jsonl"
TIMING_FILE = "timing.json"
PROVENANCE_FILE = "provenance.json"
DONE_FILE = "DONE"

FILES = (RUN_FILE, MODEL_FILE, METRICS_FILE, TIMING_FILE, PROVENANCE_FILE)
"""Files of a run folder, besides DONE and the folders of measurements."""

MEASUREMENT = re.compile(r"[a-z0-9_]+-[0-9a-f]{12}")
"""Name of a folder of measurements, `{precision}-{digest}`."""


def refuse_foreign_files(folder: Path) -> None:
    """Raise a UserError if a folder contains files that do not belong to a run.

    Raises
    ------
    UserError
        With the first such file or folder. Hidden files are ignored: interrupted writers and
        network file systems leave them.
    """
    for path in sorted(folder.iterdir()) if folder.exists() else []:
        is_measurement = path.is_dir() and MEASUREMENT.fullmatch(path.name)
        is_of_a_run = path.name in {*FILES, DONE_FILE} or is_measurement
        if not is_of_a_run and not path.name.startswith("."):
            raise UserError(
                f"{path}: not a file of a run; move it, or choose another output folder"
            )


def publish(staging: Path, folder: Path) -> None:
    """Move a run's files to their final folder, then write `DONE` with their sizes and digests.

    Parameters
    ----------
    staging
        Folder with all of :data:`FILES`, possibly on another file system.
    folder
        Run folder. Files of an earlier run in it are replaced, nothing else is changed.
    """
    refuse_foreign_files(folder)
    manifest = {
        name: {"bytes": (staging / name).stat().st_size, "sha256": _sha256(staging / name)}
        for name in FILES
    }
    (folder / DONE_FILE).unlink(missing_ok=True)
    for name in FILES:
        with atomic_write(folder / name) as temporary:
            shutil.move(staging / name, temporary)
    write_json(folder / DONE_FILE, {"format": 1, "files": manifest})


def is_published(run: Run, folder: Path) -> bool:
    """Whether a folder contains this run, complete and undamaged."""
    try:
        manifest = read_json(folder / DONE_FILE)["files"]
        record = read_json(folder / RUN_FILE)["record"]
        return record == run.model_dump(mode="json") and all(
            _sha256(folder / name) == manifest[name]["sha256"] for name in FILES
        )
    except (UserError, FileNotFoundError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
