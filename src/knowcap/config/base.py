"""What every record has in common: it is frozen, and a mistake in it is refused by name."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Record(BaseModel):
    """A frozen record: unknown keys and values of a wrong type are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )
    shorthands: ClassVar[frozenset[str]] = frozenset()
    """Keys a record reads beside its fields."""

    @model_validator(mode="before")
    @classmethod
    def _know_every_key(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        known = cls.model_fields.keys() | cls.shorthands
        for key in values:
            if key not in known:
                raise ValueError(f"{key}: unknown, allowed are {', '.join(sorted(known))}")
        # YAML and JSON have lists, a frozen record has tuples.
        return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
