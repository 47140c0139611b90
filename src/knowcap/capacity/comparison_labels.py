"""Figures that compare groups of models, and the labels of the groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from knowcap.capacity.laws.architectures import FAMILY_LABELS
from knowcap.capacity.laws.junk import is_repetitive
from knowcap.capacity.laws.model_filters import (
    TYING_LABELS,
    reference,
    standard_models,
    unmodified_gpt2,
    without_experts,
    without_junk,
)
from knowcap.capacity.laws.quantization import METHOD_LABELS


@dataclass(frozen=True)
class Comparison:
    """A figure that compares labelled groups of models."""

    name: str
    laws: tuple[int, ...]
    """The figure is drawn if experiments inform one of these laws."""
    title: str
    caption: str
    baseline: str
    """Label of the group that the others are compared with."""
    group_labels: Callable[[pd.DataFrame], pd.Series[str]]
    """Maps columns of the table to the label of every model in the figure."""
    includes_quantized: bool = False
    """Whether quantised models are shown too."""


def _format_labels(models: pd.DataFrame) -> pd.Series[str]:
    chosen = without_junk(unmodified_gpt2(models))

    def label(model: pd.Series) -> str:
        versions = model["num_versions"]
        if not versions:
            return "fresh biographies"
        number = "one fixed biography" if versions == 1 else f"{versions} fixed biographies"
        writer = model["rewriter"].rpartition("/")[2]
        return f"{number}, by {writer}" if writer else number

    return chosen.apply(label, axis="columns").astype(object)


def _family_labels(models: pd.DataFrame) -> pd.Series[str]:
    chosen = standard_models(models)
    families = chosen["family"].map(lambda family: FAMILY_LABELS.get(family, family))
    return families + chosen["variation"].map(TYING_LABELS)


def _precision_labels(models: pd.DataFrame) -> pd.Series[str]:
    def label(precision: str) -> str:
        if precision == "trained":
            return "as trained"
        bits, underscore, method = precision.partition("_")
        return f"{bits}, {METHOD_LABELS.get(underscore + method, method)}"

    return reference(models)["precision"].map(label)


def _expert_labels(models: pd.DataFrame) -> pd.Series[str]:
    chosen = without_junk(models)
    chosen = pd.concat([reference(chosen), chosen[chosen["num_moe_experts"] > 0]])
    return chosen["num_moe_experts"].map(lambda count: f"{count} experts" if count else "dense")


def _junk_labels(models: pd.DataFrame) -> pd.Series[str]:
    chosen = unmodified_gpt2(without_experts(models))
    junk = is_repetitive(chosen).map({True: "repetitive junk", False: "random junk"})
    token = chosen["domain_token"].map({True: ", domain token", False: ""})
    return (junk + token).where(chosen["useful_share"] < 1, "no junk")


COMPARISONS = (
    Comparison(
        name="formats",
        laws=(2,),
        title="Formats of biographies",
        caption=(
            "Capacity ratio with fresh biographies at every exposure and with fixed biographies, "
            "written from templates, by a grammar or by a language model."
        ),
        baseline="fresh biographies",
        group_labels=_format_labels,
    ),
    Comparison(
        name="architectures",
        laws=(5, 6),
        title="Architectures",
        caption="Capacity ratio of architectures on the same knowledge; all parameters count.",
        baseline="GPT2",
        group_labels=_family_labels,
    ),
    Comparison(
        name="quantisation",
        laws=(8,),
        title="Quantised models",
        caption="Capacity ratio of models as trained and of the same models quantised.",
        baseline="as trained",
        group_labels=_precision_labels,
        includes_quantized=True,
    ),
    Comparison(
        name="experts",
        laws=(9,),
        title="Mixtures of experts",
        caption=(
            "Capacity ratio of dense models and of mixtures of experts; the parameters of all "
            "experts count."
        ),
        baseline="dense",
        group_labels=_expert_labels,
    ),
    Comparison(
        name="junk",
        laws=(10, 11, 12),
        title="Junk",
        caption=(
            "Capacity ratio for useful biographies, without junk and mixed with biographies of "
            "other people, with and without a domain token before the useful ones."
        ),
        baseline="no junk",
        group_labels=_junk_labels,
    ),
)
"""Comparisons of groups of models, in the order of the report."""
