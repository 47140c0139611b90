"""Figures that compare groups of models, and the labels of the groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from knowcap.capacity.labels import precision_label
from knowcap.capacity.laws.architectures import FAMILY_LABELS
from knowcap.capacity.laws.junk import is_repetitive
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    RARE_EXPOSURES,
    TYING_LABELS,
    reference,
    standard_models,
    unmodified_gpt2,
    without_experts,
    without_junk,
)
from knowcap.capacity.laws.moe import ROUTINGS
from knowcap.capacity.table_columns import BIOD_SHAPE

POPULATION = ("num_people", *BIOD_SHAPE)
"""Columns of the people and their attributes, in whatever format their biographies are written."""

SIZE = ("num_layers", "num_attention_heads", "hidden_size")


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
    matched: tuple[str, ...]
    """Columns in which a model of the baseline equals a model that it is compared with."""
    claim: Callable[[str, int], tuple[int, str]]
    """Maps a label and exposures to the law and the quantity that compares it with the baseline;
    the quantity need not exist."""
    baseline_exposures: int | None = None
    """Exposures of the baseline, if it is compared with models of other exposures."""
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
    return reference(models)["precision"].map(precision_label)


def _expert_labels(models: pd.DataFrame) -> pd.Series[str]:
    chosen = without_junk(models)
    chosen = pd.concat([reference(chosen), chosen[chosen["num_moe_experts"] > 0]])

    def label(model: pd.Series) -> str:
        if not model["num_moe_experts"]:
            return "dense"
        topk, capacity = model["moe_router_topk"], model["moe_expert_capacity_factor"]
        text = f"{model['num_moe_experts']} experts"
        is_usual = (topk, capacity) == ROUTINGS[0]
        return text if is_usual else f"{text}, top-{topk}, capacity {capacity:g}"

    return chosen.apply(label, axis="columns").astype(object)


def _junk_labels(models: pd.DataFrame) -> pd.Series[str]:
    chosen = unmodified_gpt2(without_experts(models))
    junk = is_repetitive(chosen).map({True: "repetitive junk", False: "random junk"})
    token = chosen["domain_token"].map({True: ", domain token", False: ""})
    unit = chosen["mixture_unit"].map({"biography": ", within windows"}).fillna("")
    return (junk + token + unit).where(chosen["useful_share"] < 1, "no junk, 100 exposures")


def _format_claim(label: str, exposures: int) -> tuple[int, str]:
    number = "one fixed biography" if label.startswith("one ") else "several fixed biographies"
    return 2, f"R with {number} per person, relative to fresh ones"


def _family_claim(label: str, exposures: int) -> tuple[int, str]:
    law = 5 if exposures == FREQUENT_EXPOSURES else 6
    return law, f"R of {label}, relative to GPT2 of equal size"


def _precision_claim(label: str, exposures: int) -> tuple[int, str]:
    return 8, f"R in {label.removesuffix(', GPTQ')}, relative to R as trained"


def _expert_claim(label: str, exposures: int) -> tuple[int, str]:
    return 9, (f"R of mixtures of experts, relative to dense models of equal size, E = {exposures}")


def _junk_claim(label: str, exposures: int) -> tuple[int, str]:
    law = 12 if label.endswith("domain token") else 11 if label.startswith("repetitive") else 10
    with_junk = label.replace(", domain token", " and a domain token")
    return law, (
        f"R at {exposures} exposures with {with_junk}, relative to 100 exposures without junk"
    )


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
        claim=_format_claim,
        matched=(*POPULATION, *SIZE, "exposures"),
    ),
    Comparison(
        name="architectures",
        laws=(5, 6),
        title="Architectures",
        caption="Capacity ratio of architectures on the same knowledge; all parameters count.",
        baseline="GPT2",
        group_labels=_family_labels,
        claim=_family_claim,
        matched=(*POPULATION, "exposures"),
    ),
    Comparison(
        name="quantisation",
        laws=(8,),
        title="Quantised models",
        caption="Capacity ratio of models as trained and of the same models quantised.",
        baseline="as trained",
        group_labels=_precision_labels,
        claim=_precision_claim,
        matched=("run",),
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
        claim=_expert_claim,
        matched=(*POPULATION, "exposures"),
    ),
    Comparison(
        name="junk",
        laws=(10, 11, 12),
        title="Junk",
        caption=(
            "Capacity ratio for useful biographies, without junk and mixed with biographies of "
            "other people, with and without a domain token before the useful ones. Every panel "
            "shows the models without junk at 100 exposures, which the paper compares with."
        ),
        baseline="no junk, 100 exposures",
        group_labels=_junk_labels,
        claim=_junk_claim,
        matched=(*POPULATION, *SIZE),
        baseline_exposures=RARE_EXPOSURES,
    ),
)
"""Comparisons of groups of models, in the order of the report."""
