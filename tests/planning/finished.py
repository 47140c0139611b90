"""Files of finished runs, without their models."""

import json
from pathlib import Path

from knowcap.artifacts import identity
from knowcap.config.study import Study


def finish(study: Study, index: int, train_s: float | None = None) -> None:
    """Write the DONE file of a run, and its timing file if a training time is given."""
    folder = Path(study.results) / "runs" / identity.run_name(study.runs()[index])
    folder.mkdir(parents=True)
    if train_s is not None:
        timing = {"format": 1, "train_s": train_s, "device": "cpu", "num_threads": 2}
        (folder / "timing.json").write_text(json.dumps(timing))
    (folder / "DONE").touch()
