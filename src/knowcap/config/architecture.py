"""Architecture of a model: the fields of its family and those that a study sets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from knowcap.config.architecture_presets import ARCHITECTURE_PRESETS, preset_fields
from knowcap.config.base import FieldError, Positive, Record
from knowcap.errors import shown

CapacityFactor = Annotated[float, Field(ge=0.1, le=1e6)]
"""With a tenth of the mean load, nine of ten tokens are dropped."""

MAX_WEIGHTS = 10**12
"""Largest number of weights of a model, a thousand times the paper's."""


PAPER_EXPERT_CAPACITY = 2.0
"""Expert capacity in training that labels do not mention."""  # PAPER D: cap_factor = 2


class Architecture(Record):
    """Architecture of a model, in Megatron-core's words.

    Fields that are not given have the values of the family, which are written into the record.
    The defaults below are GPT2's.
    """

    shorthands = frozenset({"size"})
    family: str
    """Name of an architecture family, see docs/architectures.md."""
    num_layers: Annotated[int, Field(ge=1, le=1000)]
    """Number of transformer layers."""
    num_attention_heads: Annotated[int, Field(ge=1, le=1000)]
    """Number of attention heads of a layer."""
    kv_channels: Annotated[int, Field(ge=2, le=1024, multiple_of=2)]
    """Channels of an attention head; 64 in the paper."""
    rotary_percent: Annotated[float, Field(gt=0, le=1)]
    """Share of a head's channels with rotary embedding; their number must be even."""
    rotary_base: Annotated[int, Field(ge=1, le=10**9)]
    """Base of the rotary frequencies."""
    init_method_std: Positive
    """Standard deviation of initial weights, divided by sqrt(2 layers) for residual outputs."""
    tied: bool = True
    """Whether the output layer shares its weights with the embedding."""
    gated: bool = False
    """Whether an MLP is V (activation(W1 x) * W2 x) instead of V activation(W x)."""
    activation: Literal["gelu", "silu"] = "gelu"
    """Activation function of an MLP."""
    normalization: Literal["LayerNorm", "RMSNorm"] = "LayerNorm"
    """LayerNorm has a bias, RMSNorm has none."""
    add_bias: bool = True
    """Whether linear layers have biases."""
    mlp_weights: Annotated[float, Field(ge=0, le=1000)] = 8.0
    """Weights of an MLP, or of an expert, in units of hidden_size^2: 8 is d -> 4d -> d, 0 is no
    MLP. A gated MLP has three matrices instead of two, so its inner size is smaller."""
    num_query_groups: Annotated[int, Field(ge=1)] | None = None
    """Number of key and value heads; None is the number of attention heads."""
    num_moe_experts: Annotated[int, Field(ge=0, le=1024)] = 0
    """Experts of a layer; 0 is one MLP. The `moe_` fields are only allowed with experts."""
    moe_router_topk: Annotated[int, Field(ge=1)] | None = None
    """Experts that process each token."""
    moe_expert_capacity_factor: CapacityFactor | None = None
    """Largest number of tokens of an expert in training, as a multiple of the mean over experts;
    None is no limit."""
    moe_eval_capacity_factor: CapacityFactor | None = None
    """The same in evaluation."""
    moe_aux_loss_coeff: Annotated[float, Field(ge=0, le=1000)] | None = None
    """Weight of the auxiliary loss that balances the load of experts."""

    @classmethod
    def expand(cls, values: dict[str, Any]) -> tuple[dict[str, Any], list[FieldError]]:
        """Expand `size: 2-4` into two layers of four heads, and add the family's fields."""
        values, size_errors = _expand_size(values)
        values, family_errors = _apply_preset(values)
        return values, size_errors + family_errors

    @model_serializer(mode="wrap")
    def _dump_preset_fields(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Dump the fields that the family sets even if they have their default value.

        Otherwise reading the record again would replace them by the family's values.
        """
        preset = preset_fields(self.family, self.num_attention_heads, self.num_moe_experts)
        dumped: dict[str, Any] = dump(self)
        return {name: getattr(self, name) for name in preset} | dumped

    def errors(self) -> Iterator[FieldError]:
        """Yield the errors of valid fields that do not fit together."""
        if int(self.kv_channels * self.rotary_percent) % 2 or not self.rotary_dim:
            yield FieldError(
                "rotary_percent",
                f"{self.rotary_percent} of kv_channels = {self.kv_channels} is "
                f"{self.kv_channels * self.rotary_percent:g} channels; an even number of at least "
                "2 is needed",
            )
        if self.num_attention_heads % self.num_kv_heads:
            yield FieldError(
                "num_query_groups",
                f"{self.num_query_groups} does not divide "
                f"num_attention_heads: {self.num_attention_heads}",
            )
        weights = 12 * self.num_layers * self.hidden_size**2
        if weights > MAX_WEIGHTS:
            yield FieldError(
                "num_layers",
                f"{self.num_layers} layers of width {self.hidden_size} have about {weights:.0e} "
                f"weights, more than {MAX_WEIGHTS:.0e}",
            )
        yield from self._expert_errors()

    def _expert_errors(self) -> Iterator[FieldError]:
        num_experts, topk = self.num_moe_experts, self.moe_router_topk
        given = [name for name in _EXPERT_FIELDS if getattr(self, name) is not None]
        if num_experts == 1:
            yield FieldError("num_moe_experts", "1 is not allowed; allowed are 0 and 2 or more")
            return
        if not num_experts:
            for name in given:
                yield FieldError(name, "only allowed if num_moe_experts is 2 or more")
            return
        if not self.mlp_weights:
            yield FieldError(
                "num_moe_experts",
                f"{num_experts} is not allowed if mlp_weights is 0, because experts are MLPs",
            )
        for name in ("moe_router_topk", "moe_aux_loss_coeff"):
            if name not in given:
                yield FieldError(name, f"missing; required with num_moe_experts: {num_experts}")
        if topk is not None and topk > num_experts:
            yield FieldError(
                "moe_router_topk", f"{topk} is more than num_moe_experts: {num_experts}"
            )

    @property
    def rotary_dim(self) -> int:
        """Channels of a head with rotary embedding."""
        return int(self.kv_channels * self.rotary_percent)

    @property
    def hidden_size(self) -> int:
        """Width of the model: heads times channels of a head."""
        return self.num_attention_heads * self.kv_channels

    @property
    def num_kv_heads(self) -> int:
        """Number of key and value heads."""
        return self.num_query_groups or self.num_attention_heads

    @property
    def preset_overrides(self) -> str:
        """Fields that differ from the family, such as `tied-no-gated`; empty if none does."""
        preset = preset_fields(self.family, self.num_attention_heads, self.num_moe_experts)
        return "-".join(
            _override_label(field, value)
            for field in _PRESET_FIELDS
            if (value := getattr(self, field))
            != preset.get(field, Architecture.model_fields[field].default)
        )

    @property
    def label(self) -> str:
        """The paper's name, such as GPT2-12-12, and the fields that differ from the family."""
        width = "" if self.kv_channels == 64 else f"x{self.kv_channels}"
        name = f"{self.family}-{self.num_layers}-{self.num_attention_heads}{width}"
        name += f"-{self.preset_overrides}" if self.preset_overrides else ""
        topk, capacity = self.moe_router_topk, self.moe_expert_capacity_factor
        experts = f"-moe{self.num_moe_experts}" + (f"x{topk}" if topk != 1 else "")
        experts += f"c{capacity:g}" if capacity not in (None, PAPER_EXPERT_CAPACITY) else ""
        return name + (experts if self.num_moe_experts else "")


_PRESET_FIELDS = tuple(
    name
    for name, field in Architecture.model_fields.items()
    if not field.is_required() and "moe_" not in name
)
"""Fields that a family can set: those with a default, except those of experts."""

_EXPERT_FIELDS = tuple(name for name in Architecture.model_fields if name.startswith("moe_"))


_SIZE = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")

Expansion = tuple[dict[str, Any], list[FieldError]]
"""Values with a shorthand replaced by fields, and errors."""


def _expand_size(values: dict[str, Any]) -> Expansion:
    """Replace `size: layers-heads` by num_layers and num_attention_heads."""
    if "size" not in values:
        return values, []
    errors = []
    size = _SIZE.fullmatch(str(values["size"]))
    if not size:
        expected = "layers-heads is expected, such as 12-12"
        errors.append(FieldError("size", f"{shown(values['size'])} is not allowed; {expected}"))
    if given := {"num_layers", "num_attention_heads"} & values.keys():
        errors.append(
            FieldError("size", f"not allowed together with {' and '.join(sorted(given))}")
        )
    # After an error, one layer of one head is in place of the size, to check the other fields.
    layers, heads = map(int, size.groups()) if size and not errors else (1, 1)
    rest = {key: value for key, value in values.items() if key != "size"}
    return {**rest, "num_layers": layers, "num_attention_heads": heads}, errors


def _apply_preset(values: dict[str, Any]) -> Expansion:
    """Add the fields of the family that are not given."""
    family, heads = values.get("family"), values.get("num_attention_heads")
    if not (isinstance(family, str) and isinstance(heads, int)):
        return values, []  # pydantic reports the wrong type
    if family not in ARCHITECTURE_PRESETS:
        allowed = ", ".join(ARCHITECTURE_PRESETS)
        return values, [FieldError("family", f"{shown(family)} is not one of {allowed}")]
    return {**preset_fields(family, heads, values.get("num_moe_experts", 0)), **values}, []


def _override_label(field: str, value: bool | float | str | None) -> str:
    """Return the label of a field that differs from the family."""
    if isinstance(value, bool):
        return field if value else f"no-{field}"
    return value if isinstance(value, str) else f"{field}{value}"
