"""JSON Schema of study files: equal to the kept file, and consistent with the loader."""

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from knowcap.config import Run
from knowcap.config.study import load_study
from knowcap.config.study_schema import study_schema, study_schema_json

CONFIG = Path(__file__).parents[2] / "config"
STUDIES = sorted(CONFIG.glob("*.yaml"))
EXAMPLE = yaml.safe_load((CONFIG / "example.yaml").read_text())
VALIDATOR = jsonschema.Draft202012Validator(study_schema())


def test_the_kept_schema_is_that_of_the_records() -> None:
    kept = (CONFIG / "schema.json").read_text()
    assert kept == study_schema_json(), "run: knowcap schema > config/schema.json"


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(study_schema())


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_file_is_valid_and_names_its_schema(path: Path) -> None:
    VALIDATOR.validate(yaml.safe_load(path.read_text()))
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")


def test_the_grid_can_set_every_field_of_a_run() -> None:
    grid = study_schema()["properties"]["experiments"]["additionalProperties"]["properties"]["grid"]
    allowed = grid["items"]["properties"].keys()
    for study in STUDIES:
        for run in load_study(study).runs():
            assert set(dotted(run.model_dump())) <= allowed
    assert {"architecture.size", "corpus.mixture", "replicates.lr"} <= allowed
    assert set(Run.model_fields) <= allowed


def dotted(values: dict[str, Any], prefix: str = "") -> list[str]:
    return [
        path
        for name, value in values.items()
        for path in (
            dotted(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"]
        )
    ]


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("studies",), "x"),
        (("training_order",), "shortest_first"),
        (("experiments", "widths", "seeds"), [0]),
        (("experiments", "widths", "precisions"), ["int3"]),
        (("experiments", "widths", "run", "architecture", "family"), "GPT3"),
        (("experiments", "widths", "run", "architecture", "size"), "2x1"),
        (("experiments", "widths", "run", "optimization", "clip_grad"), 0),
        (("experiments", "widths", "run", "corpus", "knowledge", "num_people"), "many"),
        (("experiments", "widths", "grid"), [{"architecture.sizes": ["2-1"]}]),
        (("experiments", "widths", "grid"), [{"replicates.lr": [1e-3]}]),
    ],
)
def test_a_mistake_is_found(keys: tuple[str, ...], value: object) -> None:
    study = copy.deepcopy(EXAMPLE)
    parent = study
    for key in keys[:-1]:
        parent = parent[key]
    parent[keys[-1]] = value
    assert not VALIDATOR.is_valid(study)
