"""JSON Schema of study files, with which editors complete and check them.

The schema is made from the records, so it has their fields, allowed values and docstrings. It
checks every value on its own; :func:`knowcap.config.study.load_study` also checks which fields are
required and which values fit together.
"""

from __future__ import annotations

import json
from typing import Any

from knowcap.config import Evaluation, Run
from knowcap.config.architecture_presets import ARCHITECTURE_PRESETS
from knowcap.config.study import Experiment, Study

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"

SIZE: Schema = {
    "type": "string",
    "pattern": "^[1-9][0-9]*-[1-9][0-9]*$",
    "description": "Layers and heads, such as 12-12.",
}


def study_schema_json() -> str:
    """Return the schema of study files as the text of `config/schema.json`."""
    return json.dumps(study_schema(), indent=2, ensure_ascii=False) + "\n"


def study_schema() -> Schema:
    """Return the JSON Schema of study files."""
    run = _run_schema()
    study, experiment = (_inline(each.model_json_schema()) for each in (Study, Experiment))
    fields = experiment["properties"]
    experiments = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {
            "type": "object",
            "properties": {
                **{name: fields[name] for name in ("laws", "scale", "precisions")},
                "run": run,
                "grid": _grid_schema(run),
            },
            "required": ["laws", "scale", "precisions", "run"],
            "additionalProperties": False,
        },
    }
    return {
        "$schema": DRAFT,
        "title": "knowcap study",
        "description": "A study: experiments of runs, and the laws that they test.",
        "type": "object",
        "properties": {
            **study["properties"],
            "evaluation": _inline(Evaluation.model_json_schema()),
            "experiments": experiments,
        },
        "patternProperties": {"^x-": {"description": "YAML anchors; ignored."}},
        "required": study["required"],
        "additionalProperties": False,
    }


def _run_schema() -> Schema:
    """Return the schema of a base run; no field is required, as the grid can set it."""
    run: Schema = _without_required(_inline(Run.model_json_schema()))
    architecture = run["properties"]["architecture"]["properties"]
    architecture["size"] = SIZE
    architecture["family"]["enum"] = list(ARCHITECTURE_PRESETS)
    return run


def _grid_schema(run: Schema) -> Schema:
    """Return the schema of a grid: a list of blocks from dotted fields to values."""
    block = {path: _value_or_list(values) for path, values in _fields(run, "").items()}
    return {
        "type": "array",
        "minItems": 1,
        "description": "Blocks of dotted fields; a list of values is one run for each of them.",
        "items": {"type": "object", "properties": block, "additionalProperties": False},
    }


def _value_or_list(values: list[Schema]) -> Schema:
    """Return the schema of one value or of a list of them; a list is never a single value."""
    single = [value for value in values if value.get("type") != "array"]
    return {"anyOf": [*single, {"type": "array", "items": {"anyOf": values}, "minItems": 1}]}


def _fields(schema: Schema, prefix: str) -> dict[str, list[Schema]]:
    """Return the allowed schemas of every dotted field below a schema."""
    found: dict[str, list[Schema]] = {}
    for alternative in schema.get("anyOf", [schema]):
        for name, field in alternative.get("properties", {}).items():
            path = f"{prefix}{name}"
            if field not in found.setdefault(path, []):
                found[path].append(field)
            for below, values in _fields(field, f"{path}.").items():
                found.setdefault(below, []).extend(
                    value for value in values if value not in found.get(below, [])
                )
    return found


def _inline(schema: Schema) -> Schema:
    """Return a schema of pydantic with definitions in place of references, and without titles."""
    definitions = schema.pop("$defs", {})

    def expand(value: Any, *, are_names: bool = False) -> Any:
        if isinstance(value, list):
            return [expand(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return expand(definitions[value["$ref"].removeprefix("#/$defs/")])
        ignored = () if are_names else ("title", "discriminator")
        return {
            # A union is discriminated by a field that a base run may lack.
            ("anyOf" if key == "oneOf" and not are_names else key): expand(
                item, are_names=key == "properties"
            )
            for key, item in value.items()
            if key not in ignored
        }

    expanded: Schema = expand(schema)
    return expanded


def _without_required(schema: Any) -> Any:
    """Return a schema in which no field is required."""
    if isinstance(schema, list):
        return [_without_required(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_required(value)
        for key, value in schema.items()
        if not (key == "required" and isinstance(value, list))
    }
