"""Metadata of a Workflow Run RO-Crate: the crate, its workflow, its software and its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from knowcap import __version__
from knowcap.config.study import Study

PROFILES = (
    "https://w3id.org/ro/wfrun/process/0.5",
    "https://w3id.org/ro/wfrun/workflow/0.5",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0",
)
"""Profiles that the crate conforms to."""

LICENSE = "https://spdx.org/licenses/Apache-2.0"

PAPER = "https://arxiv.org/abs/2404.05405"

BIOSCHEMAS = "https://bioschemas.org/profiles"


class Agent(NamedTuple):
    """Person or organization."""

    name: str
    url: str | None = None
    """Page that identifies it, such as its ORCID or ROR."""


class CrateFile(NamedTuple):
    """File of a crate."""

    source: Path
    path: str
    """Its path in the crate."""
    description: str
    encoding_format: str = "application/json"


def describe(
    crate: Any,
    study: Study,
    provenances: Sequence[dict[str, Any]],
    author: Agent,
    publisher: Agent | None,
) -> None:
    """Set name, description, date, licence and authors of the crate, and the profiles it follows.

    Parameters
    ----------
    crate
        A crate of ``rocrate``.
    study
        The study.
    provenances
        Provenance of each run.
    author, publisher
        See :func:`knowcap.stages.crate.write_crate`.
    """
    root = crate.root_dataset
    crate.name = f"Study {study.study} of knowcap"
    crate.description = (
        f"Bits of knowledge that language models store, measured in {len(provenances)} trainings "
        f"by the workflow knowcap {__version__}: verdicts on the laws of {PAPER}, all "
        f"measurements, figures, and the record and provenance of every run, without weights."
    )
    root["datePublished"] = max(each["end"] for each in provenances)
    crate.license = _add(
        crate, LICENSE, "CreativeWork", name="Apache License 2.0", identifier=LICENSE, url=LICENSE
    )
    root["author"] = _add_agent(crate, "#author", "Person", author)
    if publisher:
        root["publisher"] = _add_agent(crate, "#publisher", "Organization", publisher)
        root["author"]["affiliation"] = root["publisher"]
    root["conformsTo"] = [
        _add(crate, url, "CreativeWork", name=url.split("/")[-2], version=url.rpartition("/")[2])
        for url in PROFILES
    ]


def add_run(
    crate: Any,
    study: Study,
    study_file: Path,
    checkout: Path,
    contents: Sequence[CrateFile],
    provenances: Sequence[dict[str, Any]],
) -> None:
    """Add the workflow, the study file, all other files, and the action that made the results.

    Parameters
    ----------
    crate
        A described crate (:func:`describe`).
    study, study_file, checkout
        See :func:`knowcap.stages.crate.write_crate`.
    contents
        The other files.
    provenances
        Provenance of each run.
    """
    workflow = crate.add_workflow(checkout / "Snakefile", "Snakefile", main=True, lang="snakemake")
    properties = {
        "name": "knowcap",
        "version": __version__,
        "encodingFormat": "text/plain",
        "license": {"@id": LICENSE},
        "author": crate.root_dataset["author"],
        "conformsTo": {"@id": f"{BIOSCHEMAS}/ComputationalWorkflow/1.0-RELEASE"},
        "softwareRequirements": [
            _add(crate, url, "SoftwareApplication", name=name, version=version, url=url)
            for name, version, url in sorted(_software(provenances))
        ],
    }
    for name, parameter in {"input": "study", "output": "results"}.items():
        properties[name] = _add(
            crate,
            f"#{parameter}",
            "FormalParameter",
            name=parameter,
            additionalType="File",
            conformsTo={"@id": f"{BIOSCHEMAS}/FormalParameter/1.0-RELEASE"},
        )
    for name, value in properties.items():
        workflow[name] = value
    given = CrateFile(study_file, f"config/{study_file.name}", "Study file", "application/yaml")
    study_entity = add_file(crate, given)
    study_entity["exampleOfWork"] = properties["input"]
    added = {each.path: add_file(crate, each) for each in contents}
    produced = [entity for path, entity in added.items() if path.startswith("results/")]
    for entity in produced:
        entity["exampleOfWork"] = properties["output"]
    crate.root_dataset["mentions"] = _add(
        crate,
        "#run",
        "CreateAction",
        name=f"Run of the study {study.study}",
        description=f"Trainings, evaluations and laws of the study {study.study}",
        instrument={"@id": workflow.id},
        object={"@id": study_entity.id},
        result=[{"@id": entity.id} for entity in produced],
        agent={"@id": crate.root_dataset["author"].id},
        startTime=min(each["start"] for each in provenances),
        endTime=max(each["end"] for each in provenances),
        actionStatus="http://schema.org/CompletedActionStatus",
    )


def _add_agent(crate: Any, entity: str, kind: str, agent: Agent) -> Any:
    url = {} if agent.url is None else {"url": agent.url}
    return _add(crate, agent.url or entity, kind, name=agent.name, **url)


def _add(crate: Any, entity: str, kind: str, /, **properties: Any) -> Any:
    """Add an entity that is no file."""
    from rocrate.model.contextentity import ContextEntity

    return crate.add(ContextEntity(crate, entity, {"@type": kind, **properties}))


def add_file(crate: Any, file: CrateFile) -> Any:
    """Add a file to a crate and return its entity."""
    properties = {
        "name": Path(file.path).name,
        "description": file.description,
        "encodingFormat": file.encoding_format,
        "contentSize": str(file.source.stat().st_size),
    }
    return crate.add_file(file.source, file.path, properties=properties)


def _software(provenances: Sequence[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """Return names, versions and pages of the software that trained the runs."""
    pages = {
        ("Python", each["python"], f"https://www.python.org/downloads/release/python-{digits}/")
        for each in provenances
        for digits in [each["python"].replace(".", "")]
    }
    return pages | {
        (name, version, f"https://pypi.org/project/{name}/{version.partition('+')[0]}/")
        for each in provenances
        for name, version in [*each["libraries"].items(), ("knowcap", each["knowcap"])]
    }
