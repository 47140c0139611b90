"""Law 7: gated MLPs make LLaMA store less at 100 exposures."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pandas as pd

from knowcap.capacity.laws.cells import compare, compare_equal_size
from knowcap.capacity.laws.claims import equal
from knowcap.capacity.laws.definitions import Law, Quantity
from knowcap.capacity.laws.model_filters import (
    OTHER_TOKENIZER,
    RARE_EXPOSURES,
    capacity_limited,
    reference,
    with_exposures,
    without_experts,
    without_junk,
)
from knowcap.capacity.laws.preconditions import EffectToExplain, SeveralSizes
from knowcap.capacity.laws.quantities import log_mean, usual
from knowcap.capacity.laws.rare_architectures import GATED
from knowcap.capacity.laws.settings import held_settings

DIFFERENCES = {
    "gate": "the gated MLP",
    "silu": "SiLU instead of GELU",
    "rms_norm": "RMSNorm without biases",
    "other_tokenizer": f"the {OTHER_TOKENIZER} tokenizer",
}
"""Labels of the differences between LLaMA (1) and GPT2 (0)."""

FAMILY = "architecture.family"
"""Field that differs between GPT2 and LLaMA with equal other fields; that is no difference."""

VARIED: Mapping[str, frozenset[str]] = {
    "gate": frozenset({FAMILY, "architecture.gated"}),
    "silu": frozenset({FAMILY, "architecture.activation"}),
    "rms_norm": frozenset({FAMILY, "architecture.normalization", "architecture.add_bias"}),
    "other_tokenizer": frozenset({FAMILY, "corpus.tokenizer"}),
}
"""Fields of each difference."""

SIZE = ("num_people", "population_seed", "num_layers", "num_attention_heads", "hidden_size")
"""Columns that are equal on both sides, besides the other differences."""

CONTEXT_LABELS = {
    ("gate", 1): "gated", ("gate", 0): "standard MLP", ("silu", 1): "SiLU", ("silu", 0): "GELU",
    ("rms_norm", 1): "RMSNorm without biases", ("rms_norm", 0): "LayerNorm with biases",
    ("other_tokenizer", 1): OTHER_TOKENIZER, ("other_tokenizer", 0): "GPT-2 tokenizer",
}  # fmt: skip
"""Labels of the choices."""


def _models(models: pd.DataFrame) -> pd.DataFrame:
    """Models between GPT2 and tied LLaMA, with an indicator of each difference."""
    chosen = capacity_limited(with_exposures(without_experts(without_junk(models)), RARE_EXPOSURES))
    chosen = chosen[chosen["family"].isin(["GPT2", "LLaMA"]) & chosen["tied"].astype(bool)]
    is_rms, has_bias = chosen["normalization"] == "RMSNorm", chosen["add_bias"].astype(bool)
    # Norm and biases change together; models with only one of them are not compared.
    chosen, is_rms = chosen[is_rms != has_bias], is_rms[is_rms != has_bias]
    return chosen.assign(
        gate=chosen["gated"].astype(int),
        silu=(chosen["activation"] == "silu").astype(int),
        rms_norm=is_rms.astype(int),
        # In place of LLaMA's tokenizer: see knowcap.data.tokenizer.
        other_tokenizer=(chosen["tokenizer"] == OTHER_TOKENIZER).astype(int),
    )


def _effect(models: pd.DataFrame, difference: str, **context: int) -> pd.DataFrame:
    """Cells with the factor on R of a difference, in some or all contexts."""
    chosen = _models(models)
    for name, value in context.items():
        chosen = chosen[chosen[name] == value]
    others = tuple(name for name in DIFFERENCES if name != difference)
    with_it, without_it = (chosen[chosen[difference] == value] for value in (1, 0))
    keys = (*SIZE, *others)
    return compare(with_it, without_it, "capacity_ratio", keys, varied=VARIED[difference])


def _gate_of_llama(models: pd.DataFrame) -> pd.DataFrame:
    """Cells with the effect of the gate in LLaMA, and the loss that it is to explain."""
    found = _effect(models, "gate", silu=1, rms_norm=1)
    if found.empty:
        return found
    limited = capacity_limited(with_exposures(models, RARE_EXPOSURES))
    is_llama = (limited["family"] == "LLaMA") & (limited["variation"] == "tied")
    loss = compare_equal_size(without_junk(limited[is_llama]), reference(limited), "capacity_ratio")
    return found.assign(effect_to_explain=loss["value"].mean() if len(loss) else float("nan"))


def _interaction(models: pd.DataFrame, other: str) -> pd.DataFrame:
    """Cells with the factor of the gate with another difference, relative to without it."""
    keys = [*SIZE, *(name for name in DIFFERENCES if name not in ("gate", other))]
    effects = [_effect(models, "gate", **{other: value}) for value in (1, 0)]
    if any(effect.empty for effect in effects):
        return pd.DataFrame()
    keys += held_settings(effects[0], VARIED["gate"] | VARIED[other])
    pairs = effects[0].merge(effects[1], on=keys, suffixes=("", "_without"))
    ratio = pairs["value"] / pairs["value_without"]
    variance = ratio**2 * sum(
        pairs[f"variance{side}"] / pairs[f"value{side}"] ** 2 for side in ("", "_without")
    )
    freedom = pairs[["degrees_of_freedom", "degrees_of_freedom_without"]].min(axis="columns")
    return pairs.assign(value=ratio, variance=variance, degrees_of_freedom=freedom)


def _gate_contexts() -> dict[str, partial[pd.DataFrame]]:
    """The gate's effect by activation and norm, labelled."""
    return {
        f"with {CONTEXT_LABELS['silu', silu]} and {CONTEXT_LABELS['rms_norm', norm]}": partial(
            _effect, difference="gate", silu=silu, rms_norm=norm
        )
        for silu in (1, 0)
        for norm in (1, 0)
    }


def _secondary(difference: str) -> Quantity:
    # PAPER Result 7: no visible effect; the tokenizer matters for the smallest models only.
    return Quantity(
        name=f"factor on R of {DIFFERENCES[difference]}",
        units="",
        claim=equal(),
        select=partial(_effect, difference=difference),
        estimate=log_mean,
        needs=(
            f"models with and without {DIFFERENCES[difference]}, with tied embeddings, "
            "100 exposures and R_max of at least 2"
        ),
        preconditions=usual(RARE_EXPOSURES),
    )


LAW = Law(
    number=7,
    title="Gated MLP",
    claim=(
        "At 100 exposures the gated MLP makes LLaMA store less than GPT2. Activation function, "
        "normalization and biases have no visible effect."
    ),
    source_laws=(4, 6, 7),
    varied=frozenset().union(*VARIED.values()),
    quantities=(
        Quantity(
            name="factor on R of the gated MLP in LLaMA",
            units="",
            claim=GATED,
            select=_gate_of_llama,
            estimate=log_mean,
            needs=(
                "tied LLaMA with gated and with standard MLPs, 100 exposures and R_max of at "
                "least 2"
            ),
            primary=True,
            preconditions=usual(
                RARE_EXPOSURES,
                EffectToExplain("R of tied LLaMA, relative to GPT2 of equal size"),
            ),
            details=_gate_contexts(),
        ),
        *(_secondary(difference) for difference in DIFFERENCES if difference != "gate"),
        *(
            Quantity(
                name=f"factor of the gated MLP with {DIFFERENCES[other]}, relative to without",
                units="",
                claim=equal(),
                select=partial(_interaction, other=other),
                estimate=log_mean,
                needs=f"gated and standard MLPs, each with and without {DIFFERENCES[other]}",
                preconditions=(SeveralSizes(),),
            )
            for other in ("silu", "rms_norm")
        ),
    ),
)
