"""The question: frozen records of what is asked.

A :class:`Run` is one corpus, one architecture, one optimisation and its replicates; a
measurement is a run and a precision. Nothing here computes a number that a result depends on:
the stages see only the resolved record, and the record is in the identity of everything made
from it (:mod:`knowcap.identity`). The YAML that runs are read from is :mod:`knowcap.study`'s.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

from knowcap.families import FAMILIES, switches

NAME_POOL_SIZES = (400, 400, 1000)
"""First, middle and last names."""  # PAPER 2.2: N0 = 400 x 400 x 1000

COMPACT_NAME_LENGTH = 3
"""Alphabet tokens that name a person in bioD's compact layout."""

Precision = Literal[
    "trained",
    "int8",
    "int4",
    "int8_rtn",
    "int4_rtn",
    "int4_awq",
    "int8_embedding",
    "int4_embedding",
    "int8_rtn_embedding",
    "int4_rtn_embedding",
    "int4_awq_embedding",
]
"""How the weights are stored when a model is measured: as training left them, or as integers.

Quantised by GPTQ unless another method is named, without the embedding unless it is named."""

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


class Population(Record):
    """N people with distinct names."""

    num_people: Count
    """N, at most the names there are."""
    seed: Seed
    """Which population of that size."""

    @property
    def num_names(self) -> int:
        """N0, the size of the set names are drawn from."""
        first, middle, last = NAME_POOL_SIZES
        return first * middle * last

    @model_validator(mode="after")
    def _names_suffice(self) -> Self:
        if self.num_people > self.num_names:
            raise ValueError(
                f"num_people: {self.num_people} people cannot have distinct names, "
                f"there are {self.num_names}"
            )
        return self


class BioS(Population):
    """Biographies assembled from sentence templates (paper 2.2)."""

    kind: Literal["bioS", "bioS-simple"]
    """`bioS` renders every exposure afresh, `bioS-simple` gives each person one fixed biography."""


class LanguageModel(Record):
    """A language model that rewrites biographies, and how it is sampled."""

    model: Annotated[str, Field(min_length=1)]
    """Its name on the Hugging Face Hub, or a folder; a LLaMA-2 chat model in the paper."""
    revision: str | None = None
    """Branch, tag or commit on the Hub."""
    temperature: Positive
    """Of the softmax that tokens are drawn from."""
    top_p: Annotated[float, Field(gt=0, le=1)]
    """Tokens are drawn from the most likely ones with this probability together."""
    num_words: Count
    """Words that a biography is asked to have."""
    max_attempts: Count
    """Texts drawn for one biography, at most, until one holds all facts."""


class BioR(Population):
    """Biographies rewritten in free text (paper 2.2)."""

    kind: Literal["bioR"]
    num_versions: Count
    """Biographies of each person, read in turn; 40 in the paper."""
    rewriter: Annotated[
        Annotated[Literal["grammar"], Tag("grammar")]
        | Annotated[LanguageModel, Tag("LanguageModel")],
        Discriminator(lambda given: "grammar" if isinstance(given, str) else "LanguageModel"),
    ]
    """`grammar` is a stand-in of ours for machines without a language model."""

    @property
    def rewriter_name(self) -> str:
        """`grammar`, or the name of the language model."""
        return self.rewriter if isinstance(self.rewriter, str) else self.rewriter.model


class BioD(Population):
    """Knowledge of a chosen shape, bioD(N, K, C, D, L, T) (paper, Definition 2.2)."""

    kind: Literal["bioD"]
    num_attributes: Count
    """K, attributes of a person."""
    num_chunks: Count
    """C, chunks of a value."""
    diversity: Count
    """D, distinct chunks an attribute's values are made of; at most T^L."""
    chunk_length: Count
    """L, tokens of a chunk."""
    alphabet_size: Annotated[int, Field(ge=2)]
    """T, tokens that chunks are written in."""
    layout: Literal["sentences", "compact"]
    """`sentences` writes "<Full Name>'s ID 7 is ..." as the paper does. `compact`, for scale
    models, names a person by three alphabet tokens, and an attribute is a marker and its chunks."""
    num_versions: Count | None = None
    """Biographies of each person, read in turn: 1 is to bioD what bioS-simple is to bioS, 40 what
    bioR is. None is a new order of the attributes in every exposure."""

    @property
    def num_names(self) -> int:
        """N0, the size of the set names are drawn from."""
        if self.layout == "compact":
            return int(self.alphabet_size**COMPACT_NAME_LENGTH)
        return super().num_names

    @model_validator(mode="after")
    def _chunks_exist(self) -> Self:
        num_strings = self.alphabet_size**self.chunk_length
        if self.diversity > num_strings:
            raise ValueError(
                f"diversity: {self.diversity} distinct chunks are more than the "
                f"T^L = {self.alphabet_size}^{self.chunk_length} = {num_strings} that exist"
            )
        return self


class Mixture(Record):
    """Junk among which useful biographies are read (paper, results 10 to 12).

    Junk people are known by nobody's measure: their biographies are read and never asked about.
    """

    useful_share: Annotated[float, Field(gt=0, lt=1)]
    """Share of the training windows that are useful; 1/8 in the paper."""
    num_junk_people: Annotated[int, Field(ge=1, le=2**32)]
    """N', people that junk is about: many, each of them rare, or few, again and again."""
    domain_token: bool
    """Whether a token of its own stands in front of every useful biography."""


class Corpus(Record):
    """What is to be known, and how it is written in tokens."""

    knowledge: Annotated[BioS | BioR | BioD, Field(discriminator="kind")]
    tokenizer: Literal["GPT2", "Mistral", "word"]
    """`GPT2` is byte-level BPE, `Mistral` is sentencepiece BPE with a token for each digit, `word`
    has a token for every word; all keep only used tokens."""
    mixture: Mixture | None = None
    """What the biographies are mixed with; None for nothing."""

    @property
    def num_described(self) -> int:
        """People with a biography, the useful ones and those that junk is about."""
        num_junk_people = self.mixture.num_junk_people if self.mixture else 0
        return self.knowledge.num_people + num_junk_people

    @model_validator(mode="after")
    def _names_suffice_for_junk(self) -> Self:
        if self.num_described > self.knowledge.num_names:
            raise ValueError(
                f"mixture.num_junk_people: {self.num_described - self.knowledge.num_people} junk "
                f"people cannot have names of their own, {self.knowledge.num_people} useful people "
                f"leave {self.knowledge.num_names - self.knowledge.num_people}"
            )
        return self

    @model_validator(mode="after")
    def _tokenizer_fits(self) -> Self:
        if self.knowledge.kind == "bioD" and self.tokenizer != "word":
            raise ValueError("tokenizer: bioD is written in words of its own, it needs 'word'")
        if self.knowledge.kind == "bioR" and self.tokenizer == "word":
            raise ValueError("tokenizer: bioR is free text, it needs 'GPT2' or 'Mistral'")
        return self

    @model_validator(mode="after")
    def _junk_is_not_rewritten(self) -> Self:
        if self.mixture and self.knowledge.kind == "bioR":
            raise ValueError("mixture: there is no rewritten junk, bioR cannot be mixed with any")
        return self


class Architecture(Record):
    """A model's shape, in Megatron-core's words.

    What a family sets is written into the record unless it is given, so a record always says what
    it is; the defaults below are GPT2's.
    """

    shorthands = frozenset({"size"})
    family: str
    """A name of :data:`knowcap.families.FAMILIES`; `GPT2` has rotary embedding, tied output layer,
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
    if family not in FAMILIES:
        raise ValueError(f"family: {family!r} is none of {', '.join(FAMILIES)}")
    return {**switches(family, heads, values.get("num_moe_experts", 0)), **values}


def _word(field: str, value: bool | float | str | None) -> str:
    """Name a switch that is not as usual."""
    if isinstance(value, bool):
        return field if value else f"no-{field}"
    return value if isinstance(value, str) else f"{field}{value}"


class Optimization(Record):
    """How a model is trained: AdamW with warm-up and cosine decay (paper, appendix A)."""

    exposures: Count
    """E, how often each person's biography is read."""
    seq_length: Annotated[int, Field(ge=2)]
    """Tokens of a window."""
    global_batch_size: Count
    """Windows of a step, for each replicate."""
    lr_warmup_iters: Annotated[int, Field(ge=0)] | None = None
    """Steps of linear warm-up; exactly one of this and `lr_warmup_fraction` is given."""
    lr_warmup_fraction: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of the steps that warm up."""
    min_lr_fraction: Annotated[float, Field(ge=0, le=1)]
    """Learning rate at the end, as a share of its peak."""
    weight_decay: Annotated[float, Field(ge=0)]
    """On matrices; biases and norms are not decayed."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)]
    adam_beta2: Annotated[float, Field(ge=0, lt=1)]
    adam_eps: Positive
    clip_grad: Positive
    """Largest norm of a replicate's gradient."""
    dtype: Literal["float32", "bfloat16"]
    """Of the forward and backward pass; main weights and moments are float32."""

    @model_validator(mode="after")
    def _one_warmup(self) -> Self:
        if (self.lr_warmup_iters is None) == (self.lr_warmup_fraction is None):
            raise ValueError("lr_warmup_iters: give it or lr_warmup_fraction, and not both")
        return self


class Replicates(Record):
    """Models trained side by side as one run: every seed with every learning rate."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    """Each has its own initial weights and its own order of the data."""
    lr: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Peak learning rates."""

    @model_validator(mode="after")
    def _all_distinct(self) -> Self:
        for name, values in (("seeds", self.seeds), ("lr", self.lr)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: {list(values)} names a value twice")
        return self

    @property
    def pairs(self) -> tuple[tuple[int, float], ...]:
        """(seed, learning rate) of each replicate, in order."""
        return tuple((seed, lr) for lr in self.lr for seed in self.seeds)


class Run(Record):
    """One training: everything that moves its numbers and nothing else."""

    corpus: Corpus
    architecture: Architecture
    optimization: Optimization
    replicates: Replicates

    @property
    def num_readings(self) -> int:
        """Biographies each replicate reads: N people times E exposures, and junk, about."""
        num_useful = self.corpus.knowledge.num_people * self.optimization.exposures
        mixture = self.corpus.mixture
        return num_useful if mixture is None else round(num_useful / mixture.useful_share)


class Evaluation(Record):
    """How much of a population is asked what it was taught."""

    num_people: Count
    """People asked, the first of the population; all of them if it has fewer."""
    seed: Seed
    """Which templates the questions use."""
