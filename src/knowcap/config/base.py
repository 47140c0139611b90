"""Base class and number types of the configuration records."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Record(BaseModel):
    """A frozen record that rejects unknown fields and values of a wrong type."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )
    shorthands: ClassVar[frozenset[str]] = frozenset()
    """Input keys that are not fields and are expanded into fields, such as `size`."""

    @model_validator(mode="before")
    @classmethod
    def _reject_unknown_keys(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        known = cls.model_fields.keys() | cls.shorthands
        for key in values:
            if key not in known:
                raise ValueError(f"{key}: unknown, allowed are {', '.join(sorted(known))}")
        # YAML and JSON have lists, a frozen record has tuples.
        return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
