"""Files of finished runs, without their models."""

import json
from pathlib import Path

from knowcap.artifacts import identity, manifest
from knowcap.config.study import Study


def finish(study: Study, index: int, train_s: float | None = None) -> Path:
    """Write the DONE file of a run, and its record and timing if a training time is given."""
    run = study.runs()[index]
    folder = Path(study.results) / "runs" / identity.run_name(run)
    folder.mkdir(parents=True)
    if train_s is not None:
        timing = {"format": 1, "train_s": train_s, "device": "cpu", "num_threads": 1}
        (folder / "timing.json").write_text(json.dumps(timing))
        record = {"format": 1, "record": run.model_dump(mode="json")}
        (folder / "run.json").write_text(json.dumps(record))
    manifest.write(folder, [path.name for path in folder.iterdir()])
    return folder
