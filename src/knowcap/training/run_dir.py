"""Run folders: names of their files, publication, and verification of a published run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from pydantic import ValidationError

from knowcap.artifacts import manifest
from knowcap.artifacts.checksums import DamagedError
from knowcap.artifacts.files import atomic_write, read_json, remove_leftovers, write_json
from knowcap.artifacts.storage import file_errors
from knowcap.config import Run
from knowcap.errors import UserError

RUN_FILE = "run.json"
MODEL_FILE = "model.pt"
METRICS_FILE = "metrics.jsonl"
TIMING_FILE = "timing.json"
PROVENANCE_FILE = "provenance.json"
DONE_FILE = manifest.MANIFEST_FILE

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
        Run folder. Files of a damaged run in it are replaced, nothing else is changed.
    """
    refuse_foreign_files(folder)
    listed = manifest.content(staging, FILES)
    discard_damaged(folder)
    for name in FILES:
        with atomic_write(folder / name, listed["files"][name]["bytes"]) as temporary:
            shutil.move(staging / name, temporary)
    write_json(folder / DONE_FILE, listed)


def discard_damaged(folder: Path) -> None:
    """Delete the manifest of a damaged run, and temporary files of killed processes."""
    with file_errors(folder / DONE_FILE):
        (folder / DONE_FILE).unlink(missing_ok=True)
    for name in (*FILES, DONE_FILE):
        remove_leftovers(folder / name)


def is_published(run: Run, folder: Path) -> bool:
    """Whether a folder contains this run, complete and undamaged.

    Raises
    ------
    UserError
        If it contains another run, complete and undamaged, or a file that cannot be read.
    """
    try:
        manifest.verify(folder, FILES)
        record = read_json(folder / RUN_FILE).get("record")
    except DamagedError:
        return False
    try:
        is_same = Run.model_validate_json(json.dumps(record)) == run
    except ValidationError:
        is_same = False
    if not is_same:
        raise UserError(f"{folder}: contains another run; choose another output folder")
    return True
