"""A run folder: how it comes to be whole, and what may lie in it."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from knowcap.artifacts.files import read_json, replacing, write_json
from knowcap.config import Run
from knowcap.errors import UserError

RUN_FILE = "run.json"
MODEL_FILE = "model.pt"
METRICS_FILE = "metrics.jsonl"
TIMING_FILE = "timing.json"
PROVENANCE_FILE = "provenance.json"
DONE_FILE = "DONE"

FILES = (RUN_FILE, MODEL_FILE, METRICS_FILE, TIMING_FILE, PROVENANCE_FILE)
"""What a run folder holds, beside DONE and its measurements."""

MEASUREMENT = re.compile(r"[a-z0-9_]+-[0-9a-f]{12}")
"""Folders of measurements, `{precision}-{digest}`."""


def refuse_foreign_files(folder: Path) -> None:
    """Refuse to publish into a folder that holds anything but a run.

    Raises
    ------
    UserError
        If there is a file or folder that no run has. Hidden ones do not count: they are what
        an interrupted writer or a network file system leaves.
    """
    found = sorted(folder.iterdir()) if folder.exists() else []
    for path in found:
        is_measurement = path.is_dir() and MEASUREMENT.fullmatch(path.name)
        is_ours = path.name in {*FILES, DONE_FILE} or is_measurement
        if not is_ours and not path.name.startswith("."):
            raise UserError(
                f"{path}: does not belong to a run; move it, or train to another folder"
            )


def publish(staging: Path, folder: Path) -> None:
    """Move a run's files to where they are read, `DONE` with their sizes and digests last.

    Parameters
    ----------
    staging
        Holds all of :data:`FILES`; may be on another file system.
    folder
        Of the run. An earlier run's files in it are replaced, nothing else is touched.
    """
    refuse_foreign_files(folder)
    manifest = {
        name: {"bytes": (staging / name).stat().st_size, "sha256": _sha256(staging / name)}
        for name in FILES
    }
    (folder / DONE_FILE).unlink(missing_ok=True)
    for name in FILES:
        with replacing(folder / name) as temporary:
            shutil.move(staging / name, temporary)
    write_json(folder / DONE_FILE, {"format": 1, "files": manifest})


def is_published(run: Run, folder: Path) -> bool:
    """Whether a folder holds a run, whole and undamaged."""
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
