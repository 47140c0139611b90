"""What is to know it: a model's shape, written out from its family's name."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from knowcap.config.architecture_presets import ARCHITECTURE_PRESETS, switches
from knowcap.config.base import Count, Positive, Record


class Architecture(Record):
    """A model's shape, in Megatron-core's words.

    What a family sets is written into the record unless it is given, so a record always says what
    it is; the defaults below are GPT2's.
    """

    shorthands = frozenset({"size"})
    family: str
    """A name of :data:`knowcap.config.architecture_presets.ARCHITECTURE_PRESETS`; `GPT2` has rotary embedding, tied output layer,
    biases and no dropout (paper 2.3)."""
    num_layers: Count
    num_attention_heads: Count
    kv_channels: Annotated[int, Field(ge=2, multiple_of=2)]
    """Width of one head; 64 in the paper."""
    rotary_percent: Annotated[float, Field(gt=0, le=1)]
    """Share of a head's channels that are rotated; their number must be even."""
    rotary_base: Count
    init_method_std: Positive
    """Standard deviation of the initial weights; residual outputs divide it by sqrt(2 layers)."""
    tied: bool = True
    """Whether the output layer is the embedding."""
    gated: bool = False
    """Whether an MLP is V (activation(W1 x) * W2 x) instead of V activation(W x)."""
    activation: Literal["gelu", "silu"] = "gelu"
    normalization: Literal["LayerNorm", "RMSNorm"] = "LayerNorm"
    """LayerNorm has a bias, RMSNorm has none."""
    add_bias: bool = True
    """Whether linear layers have biases."""
    mlp_weights: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 8.0
    """Weights of an MLP, or of an expert, in units of the squared width: 8 is d -> 4d -> d, 0 is
    no MLP. A gated MLP is narrower, as its weights are three matrices instead of two."""
    num_query_groups: Count | None = None
    """Heads of keys and values; None is one for each head of queries."""
    num_moe_experts: Annotated[int, Field(ge=0)] = 0
    """MLPs of a layer of which a token chooses; 0 is one MLP and no choice. The `moe` fields are
    given with them."""
    moe_router_topk: Count | None = None
    """Experts a token chooses."""
    moe_expert_capacity_factor: Positive | None = None
    """Tokens that an expert takes in training, as a multiple of its even share; None is all."""
    moe_eval_capacity_factor: Positive | None = None
    """The same when the model is asked."""
    moe_aux_loss_coeff: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Weight of the loss that keeps the load of experts balanced."""

    @model_validator(mode="before")
    @classmethod
    def _read_size_and_family(cls, values: Any) -> Any:
        """Accept the paper's `size: 2-4` for two layers of four heads, and write a family out."""
        return _with_switches(_without_size(values)) if isinstance(values, dict) else values

    @model_serializer(mode="wrap")
    def _keep_what_the_family_would_set(
        self, dump: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        """Leave out no default that the family would replace when the record is read again."""
        usual = switches(self.family, self.num_attention_heads, self.num_moe_experts)
        dumped: dict[str, Any] = dump(self)
        return {name: getattr(self, name) for name in usual} | dumped

    @model_validator(mode="after")
    def _rotated_channels_pair_up(self) -> Self:
        if int(self.kv_channels * self.rotary_percent) % 2 or not self.rotary_dim:
            raise ValueError(
                f"rotary_percent: {self.rotary_percent} of kv_channels = {self.kv_channels} is "
                f"{self.kv_channels * self.rotary_percent:g} channels; rotation needs pairs"
            )
        return self

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.num_attention_heads % self.num_kv_heads:
            raise ValueError(
                f"num_query_groups: {self.num_query_groups} groups do not divide "
                f"{self.num_attention_heads} heads"
            )
        return self

    @model_validator(mode="after")
    def _experts_are_a_choice(self) -> Self:
        number, topk = self.num_moe_experts, self.moe_router_topk
        given = [name for name in _EXPERT_FIELDS if getattr(self, name) is not None]
        if not number and given:
            raise ValueError(f"{given[0]}: given for a model without num_moe_experts")
        if not number:
            return self
        if number == 1:
            raise ValueError("num_moe_experts: 1 is no choice, allowed are 0 and 2 or more")
        if not self.mlp_weights:
            raise ValueError(f"num_moe_experts: {number} experts need an MLP, mlp_weights is 0")
        for name in ("moe_router_topk", "moe_aux_loss_coeff"):
            if name not in given:
                raise ValueError(f"{name}: missing, {number} experts need it")
        if topk is not None and topk > number:
            raise ValueError(f"moe_router_topk: {topk} of {number} experts cannot be chosen")
        return self

    @property
    def rotary_dim(self) -> int:
        """Rotated channels of a head."""
        return int(self.kv_channels * self.rotary_percent)

    @property
    def hidden_size(self) -> int:
        """Width of the model, heads times their width."""
        return self.num_attention_heads * self.kv_channels

    @property
    def num_kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_query_groups or self.num_attention_heads

    @property
    def variation(self) -> str:
        """What is not usual in the family, such as `tied-no-gated`; nothing if all is."""
        usual = switches(self.family, self.num_attention_heads, self.num_moe_experts)
        return "-".join(
            _word(field, value)
            for field in _SWITCHES
            if (value := getattr(self, field))
            != usual.get(field, Architecture.model_fields[field].default)
        )

    @property
    def label(self) -> str:
        """The paper's name, such as GPT2-12-12, and what is not usual in that family."""
        width = "" if self.kv_channels == 64 else f"x{self.kv_channels}"
        name = f"{self.family}-{self.num_layers}-{self.num_attention_heads}{width}"
        name += f"-{self.variation}" if self.variation else ""
        topk = self.moe_router_topk
        experts = f"-moe{self.num_moe_experts}" + (f"x{topk}" if topk != 1 else "")
        return name + (experts if self.num_moe_experts else "")


_SWITCHES = (
    *("tied", "gated", "activation", "normalization", "add_bias"),
    *("mlp_weights", "num_query_groups"),
)
"""What a family can set."""

_EXPERT_FIELDS = tuple(name for name in Architecture.model_fields if name.startswith("moe_"))


def _without_size(values: dict[str, Any]) -> dict[str, Any]:
    """Read layers and heads from `size`."""
    if "size" not in values:
        return values
    layers, dash, heads = str(values["size"]).partition("-")
    if not (dash and layers.isdigit() and heads.isdigit()):
        raise ValueError(
            f"size: {values['size']!r} is not layers-heads, such as 12-12 for GPT2-12-12"
        )
    if given := {"num_layers", "num_attention_heads"} & values.keys():
        raise ValueError(f"size: given beside {' and '.join(sorted(given))}, which it sets")
    rest = {key: value for key, value in values.items() if key != "size"}
    return {**rest, "num_layers": int(layers), "num_attention_heads": int(heads)}


def _with_switches(values: dict[str, Any]) -> dict[str, Any]:
    """Write out what the family sets and the record does not."""
    family, heads = values.get("family"), values.get("num_attention_heads")
    if not (isinstance(family, str) and isinstance(heads, int)):
        return values  # to be refused for that
    if family not in ARCHITECTURE_PRESETS:
        raise ValueError(f"family: {family!r} is none of {', '.join(ARCHITECTURE_PRESETS)}")
    return {**switches(family, heads, values.get("num_moe_experts", 0)), **values}


def _word(field: str, value: bool | float | str | None) -> str:
    """Name a switch that is not as usual."""
    if isinstance(value, bool):
        return field if value else f"no-{field}"
    return value if isinstance(value, str) else f"{field}{value}"
