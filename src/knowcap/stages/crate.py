"""A finished study as a Workflow Run RO-Crate, one zip file for an archive such as Zenodo.

The crate has the workflow, the study file, the locked versions, the results, and of every run and
corpus its record and provenance, without weights. Equal inputs give equal bytes.

See https://www.researchobject.org/workflow-run-crate/.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2

from knowcap.artifacts import files, manifest
from knowcap.artifacts.optional_library import import_library
from knowcap.capacity.table_columns import TABLE_VARIABLES
from knowcap.config.study import Study
from knowcap.data.corpus_metadata import METADATA_FILE
from knowcap.errors import UserError
from knowcap.stages.crate_metadata import Agent, CrateFile, add_file, add_run, describe
from knowcap.training.run_dir import PROVENANCE_FILE, RUN_FILE, TIMING_FILE

WORKFLOW_FILES = (
    *("workflow/Snakefile", "pyproject.toml", "constraints.txt", "environment.yml", "LICENSE"),
)
"""Files of a checkout that are in the crate if they exist, with all of `rules/`."""

README_TEMPLATE = Path(__file__).with_name("crate_readme.md.jinja")

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of every file in the zip file, the earliest that the format has."""

RESULTS = {
    "report.html": ("Report with verdicts, figures, cost and provenance", "text/html"),
    "capacity.nc": ("All measurements", "application/x-netcdf"),
    "index.csv": ("All measurements, as a table", "text/csv"),
    "laws.nc": ("Estimates, intervals and verdicts of the laws", "application/x-netcdf"),
    "laws.md": ("Verdicts of the laws", "text/markdown"),
}
"""Results of a study, their descriptions and formats."""


def write_crate(
    study: Study,
    study_file: Path,
    checkout: Path,
    output: Path,
    author: Agent,
    publisher: Agent | None = None,
) -> int:
    """Write a finished study as a Workflow Run RO-Crate.

    Parameters
    ----------
    study, study_file
        The study and its file.
    checkout
        Folder with the workflow, its `Snakefile` and `rules/`.
    output
        Zip file to write.
    author
        Person who ran the study.
    publisher
        Organization of the author.

    Returns
    -------
    int
        Number of files in the crate.

    Raises
    ------
    UserError
        If the study is not finished, a file is missing or damaged, or `rocrate` is not installed.
    """
    rocrate = import_library("rocrate.rocrate", "crate", extra="crate")
    results = Path(study.results) / study.study
    if not results.is_dir() or not all((results / name).exists() for name in RESULTS):
        raise UserError(f"{results}: not a finished study; run snakemake first")
    if not (checkout / "Snakefile").is_file():
        raise UserError(f"{checkout / 'Snakefile'}: missing; run this command in the checkout")
    table = files.read_dataset(results / "capacity.nc", TABLE_VARIABLES)
    runs, corpora = (sorted(set(table[name].values.tolist())) for name in ("run", "corpus"))
    provenances = [_provenance(Path(study.results), run) for run in runs]
    contents = [
        *_workflow_files(checkout),
        *_result_files(results),
        *_record_files(Path(study.results), runs, corpora),
    ]
    crate = rocrate.ROCrate(version="1.1")
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile("w") as readme:
        describe(crate, study, provenances, author, publisher)
        template = jinja2.Template(
            README_TEMPLATE.read_text(encoding="utf-8"), keep_trailing_newline=True
        )
        readme.write(
            template.render(
                name=crate.name, description=crate.description, study_file=study_file.name
            )
        )
        readme.flush()
        about = add_file(
            crate, CrateFile(Path(readme.name), "README.md", "Page of the crate", "text/markdown")
        )
        about["about"] = crate.root_dataset
        add_run(crate, study, study_file, checkout, contents, provenances)
        crate.write(folder)
        _write_zip(Path(folder), output)
    return len(contents) + 4  # Snakefile, study file, README and metadata


def _provenance(results: Path, run: str) -> dict[str, Any]:
    """Return the provenance of a run, after its files are verified."""
    folder = results / "runs" / run
    manifest.verify(folder, [RUN_FILE, TIMING_FILE, PROVENANCE_FILE])
    return files.read_json(folder / PROVENANCE_FILE)


def _workflow_files(checkout: Path) -> Iterator[CrateFile]:
    rules = sorted((checkout / "rules").glob("*.smk"))
    for path in [checkout / name for name in WORKFLOW_FILES] + rules:
        if path.is_file():
            relative = path.relative_to(checkout).as_posix()
            yield CrateFile(path, relative, "Part of the workflow", "text/plain")


def _result_files(results: Path) -> Iterator[CrateFile]:
    for name, (description, encoding_format) in RESULTS.items():
        yield CrateFile(results / name, f"results/{name}", description, encoding_format)
    for path in sorted((results / "figures").glob("*.svg")):
        yield CrateFile(path, f"results/figures/{path.name}", "Figure", "image/svg+xml")


def _record_files(
    results: Path, runs: Sequence[str], corpora: Sequence[str]
) -> Iterator[CrateFile]:
    described = {
        RUN_FILE: "Record of a run: what was trained",
        PROVENANCE_FILE: "Provenance of a run: code, versions, machine and times",
        TIMING_FILE: "Training time of a run",
    }
    for run in runs:
        for name, description in described.items():
            yield CrateFile(results / "runs" / run / name, f"runs/{run}/{name}", description)
    for corpus in corpora:
        manifest.verify(results / "corpora" / corpus, [METADATA_FILE])
        yield CrateFile(
            results / "corpora" / corpus / METADATA_FILE,
            f"corpora/{corpus}/{METADATA_FILE}",
            "Record of a corpus: its people and texts",
        )


def _write_zip(folder: Path, output: Path) -> None:
    """Write the files of a folder to a zip file, in the order of their names and without times."""
    metadata = folder / "ro-crate-metadata.json"
    content = json.loads(metadata.read_text(encoding="utf-8"))
    content["@graph"].sort(key=lambda entity: entity["@id"])
    metadata.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    with (
        files.atomic_write(output) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
    ):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                with path.open("rb") as source, archive.open(entry, "w") as target:
                    shutil.copyfileobj(source, target)
