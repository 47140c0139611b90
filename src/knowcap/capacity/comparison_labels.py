"""In what models differ that are drawn side by side, in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from knowcap.capacity.laws import architectures, quantization
from knowcap.capacity.laws.junk import is_repetitive
from knowcap.capacity.laws.model_filters import (
    TYING_LABELS,
    reference,
    standard_models,
    unmodified_gpt2,
    without_experts,
    without_junk,
)


@dataclass(frozen=True)
class Comparison:
    """A figure that sets conditions side by side."""

    name: str
    laws: tuple[int, ...]
    """It is drawn where there are experiments for one of these."""
    title: str
    caption: str
    baseline: str
    """The condition that the others are set against."""
    conditions: Callable[[pd.DataFrame], pd.Series[str]]
    """From the table's columns: the condition of each model that is drawn."""
    quantized: bool = False
    """Whether it shows models in every precision."""


def _formats(models: pd.DataFrame) -> pd.Series[str]:
    chosen = without_junk(unmodified_gpt2(models))

    def words(model: pd.Series) -> str:
        if not model["num_versions"]:
            return "fresh biographies"
        number = "one fixed" if model["num_versions"] == 1 else f"{model['num_versions']} fixed"
        writer = model["rewriter"].rpartition("/")[2]
        return f"{number}, by {writer}" if writer else number

    return chosen.apply(words, axis="columns").astype(object)


def _families(models: pd.DataFrame) -> pd.Series[str]:
    chosen = standard_models(models)
    words = chosen["family"].map(lambda family: architectures.FAMILY_LABELS.get(family, family))
    return words + chosen["variation"].map(TYING_LABELS)


def _precisions(models: pd.DataFrame) -> pd.Series[str]:
    def words(precision: str) -> str:
        if precision == "trained":
            return "as trained"
        bits, underscore, way = precision.partition("_")
        return f"{bits}, {quantization.VARIANTS.get(underscore + way, way)}"

    return reference(models)["precision"].map(words)


def _experts(models: pd.DataFrame) -> pd.Series[str]:
    chosen = without_junk(models)
    chosen = pd.concat([reference(chosen), chosen[chosen["num_moe_experts"] > 0]])
    return chosen["num_moe_experts"].map(lambda count: f"{count} experts" if count else "dense")


def _junk(models: pd.DataFrame) -> pd.Series[str]:
    chosen = unmodified_gpt2(without_experts(models))
    words = is_repetitive(chosen).map({True: "repetitive junk", False: "random junk"})
    token = chosen["domain_token"].map({True: ", domain token", False: ""})
    return (words + token).where(chosen["useful_share"] < 1, "no junk")


COMPARISONS = (
    Comparison(
        name="formats",
        laws=(2,),
        title="Formats of biographies",
        caption="The same knowledge in fresh sentences, in fixed ones and in free text.",
        baseline="fresh biographies",
        conditions=_formats,
    ),
    Comparison(
        name="architectures",
        laws=(5, 6),
        title="Architectures",
        caption="Architectures on the same knowledge, of which all parameters are counted.",
        baseline="GPT2",
        conditions=_families,
    ),
    Comparison(
        name="quantisation",
        laws=(8,),
        title="Quantised models",
        caption="Models as training left them, and the same with weights of fewer bits.",
        baseline="as trained",
        conditions=_precisions,
        quantized=True,
    ),
    Comparison(
        name="experts",
        laws=(9,),
        title="Mixtures of experts",
        caption="Dense models and mixtures of experts, of which all experts are counted.",
        baseline="dense",
        conditions=_experts,
    ),
    Comparison(
        name="junk",
        laws=(10, 11, 12),
        title="Junk",
        caption=(
            "Knowledge of useful biographies that are read alone, or among others that nobody is "
            "asked about, with or without a token before the useful ones."
        ),
        baseline="no junk",
        conditions=_junk,
    ),
)
