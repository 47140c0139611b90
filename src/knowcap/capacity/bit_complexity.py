"""Bit complexity and capacity ratio: the knowledge a model stores, computed from its losses.

A model that gives a true fact the probability p has a loss of -ln p nats. The difference to the
loss of a uniform guess among all possible facts, summed over a population, is the bit complexity
(paper, Theorem 3.2): a lower bound of the bits that the model stores. Divided by the number of
parameters it is the capacity ratio (Definitions 4.1 and 4.3). :func:`bit_complexity` is the only
place where nats become bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from knowcap.errors import UserError

SCORINGS: Mapping[str, tuple[str, str]] = {
    "plain": ("name_loss", "value_loss"),
    "strict": ("name_loss_strict", "value_loss_strict"),
    "in_context": ("name_loss", "value_loss_in_context"),
    "chain_rule": ("name_loss", "value_loss_chain_rule"),
    "in_window": ("name_loss_in_window", "value_loss"),
    "given_useful": ("name_loss_given_useful", "value_loss"),
}
"""Loss of names and loss of values of each scoring.

`plain` sums over the tokens of a single name or value, as the paper does. `strict` adds the token
that ends it. `in_context` takes values from whole biographies, where one value can reveal another;
biographies begin with the name, so the loss of names is that of `plain`. `chain_rule` counts the
values that reveal others too, and is the same for biographies that are fresh in every exposure
and for fixed ones. `in_window` takes the mean loss of names over all positions of a training
window, and `given_useful` their loss where the context shows that the biography is no junk.
"""

OPTIONAL_SCORINGS = frozenset({"given_useful"})
"""Scorings that are NaN if their losses were not measured."""

TERMS = ("name", "value", "diversity")
"""Terms of Theorem 3.2, with the losses p1, p2 and p3 of the paper."""

ROUNDING_NATS = 1e-4
"""Largest negative loss that rounding in float32 can cause."""


def bit_complexity(losses: xr.Dataset, facts: Mapping[str, Any]) -> xr.Dataset:
    """Bits that a model stores about a population, and their maximum.

    Parameters
    ----------
    losses
        Cross-entropies in nats: ``name_loss`` and ``name_loss_strict`` with dims ``(replicate,
        person)``; ``value_loss``, ``value_loss_strict`` and ``value_loss_in_context`` with dims
        ``(replicate, person, attribute)``; ``first_chunk_loss`` with the same dims if the facts
        have a diversity term. Persons may be a sample of the population: their mean is used.
    facts
        The contents of ``corpus.json``: ``num_people``, ``num_names``, ``attributes``, each with
        ``name`` and ``cardinality``, and ``diversity``. If ``num_names`` is None, the term of
        names is zero.

    Returns
    -------
    xr.Dataset
        In bits: ``bits`` (replicate, scoring), ``bits_by_term`` (replicate, scoring, term),
        ``bits_by_attribute`` (replicate, scoring, attribute; parts of the value term), and the
        values of a model that knows everything: ``max_bits``, ``max_bits_by_term``,
        ``max_bits_by_attribute``, ``attainable_bits``. The attainable bits are what a model that
        knows everything has in the plain scoring: where sentences or junk begin alike, it cannot
        know which one follows. Negative values are kept: a model can be worse than guessing,
        and clipping persons at zero would bias the sum upward.

    Raises
    ------
    UserError
        If losses are missing, negative or not finite, or have other attributes than the facts.

    Notes
    -----
    With the mean losses p1 of a name, p2 of a value and p3 of the first chunk of a value::

        N log2(N0 / e^p1)  +  N sum_a log2(A_a / e^p2_a)  +  D sum_a log2(T^L / (D e^p3_a))

    where A_a is the number of values of attribute a, D^C in bioD. The largest value of the name
    term is N log2(N0 / N), because p1 is at least ln N even if all names are known.
    """
    names = [attribute["name"] for attribute in facts["attributes"]]
    _check(losses, names, with_first_chunks=_diversity_bits(facts) > 0)
    bits_per_nat = 1 / math.log(2)
    num_people: int = facts["num_people"]
    has_name_term = facts["num_names"] is not None
    name_bits = math.log2(facts["num_names"]) if has_name_term else 0.0
    value_bits = xr.DataArray(
        [math.log2(attribute["cardinality"]) for attribute in facts["attributes"]],
        coords={"attribute": names},
        dims="attribute",
    )
    name, value = (
        xr.concat(
            [_mean_loss(losses, pair[part]) for pair in SCORINGS.values()],
            dim=xr.Variable("scoring", list(SCORINGS)),
        )
        * bits_per_nat
        for part in (0, 1)
    )
    stored_values = num_people * (value_bits - value)
    diversity = _diversity_bits(facts)
    stored_chunks = xr.zeros_like(name)
    if diversity > 0:
        first_chunk = _mean_loss(losses, "first_chunk_loss") * bits_per_nat
        # The same in every scoring: chunks have no end token and no context.
        stored_chunks = stored_chunks + (
            facts["diversity"]["diversity"] * (diversity - first_chunk).sum("attribute")
        )
    by_term = _by_term(
        num_people * (name_bits - name) if has_name_term else xr.zeros_like(name),
        stored_values.sum("attribute"),
        stored_chunks,
    )
    max_by_term = _by_term(
        *(
            xr.DataArray(bits)
            for bits in (
                # PAPER 4.1: the number of sets of N names is approximated by (N0 / N)^N.
                num_people * (name_bits - math.log2(num_people)) if has_name_term else 0.0,
                num_people * float(value_bits.sum()),
                len(names) * _num_distinct(facts) * diversity,
            )
        )
    )
    attainable = max_by_term.sum("term") - num_people * _unattainable_bits(facts)
    return _labelled(by_term, stored_values, max_by_term, num_people * value_bits, attainable)


def _mean_loss(losses: xr.Dataset, name: str) -> xr.DataArray:
    """Mean of a loss over people; NaN for a loss that was not measured."""
    if name not in losses:
        return xr.full_like(_mean_loss(losses, "name_loss"), np.nan)
    return losses[name].astype(np.float64).mean("person")


def _unattainable_bits(facts: Mapping[str, Any]) -> float:
    """Bits of a person's plain losses that no knowledge saves, as the text is ambiguous."""
    floors = [attribute.get("wording_floor", 0.0) for attribute in facts["attributes"]]
    return float(facts.get("name_floor", 0.0) + sum(floors))


def capacity_ratio(complexity: xr.Dataset, num_params: int) -> xr.Dataset:
    """Bits per parameter: ``capacity_ratio`` and its bounds.

    The bounds are ``max_capacity_ratio`` and ``attainable_capacity_ratio``.

    Parameters
    ----------
    complexity
        As returned by :func:`bit_complexity`.
    num_params
        All parameters; of the embedding, the rows that the corpus uses; tied weights once.
    """
    ratios = (complexity[["bits", "max_bits", "attainable_bits"]] / num_params).rename(
        bits="capacity_ratio",
        max_bits="max_capacity_ratio",
        attainable_bits="attainable_capacity_ratio",
    )
    ratios["capacity_ratio"].attrs = {"units": "bit/parameter", "long_name": "capacity ratio R"}
    ratios["max_capacity_ratio"].attrs = {
        "units": "bit/parameter",
        "long_name": "largest possible capacity ratio R_max",
    }
    ratios["attainable_capacity_ratio"].attrs = {
        "units": "bit/parameter",
        "long_name": "capacity ratio of a model that knows everything",
    }
    return ratios


def _num_distinct(facts: Mapping[str, Any]) -> int:
    """D, the distinct chunks of an attribute; 0 without chunks."""
    return int(facts["diversity"]["diversity"]) if facts["diversity"] else 0


def _diversity_bits(facts: Mapping[str, Any]) -> float:
    """log2(T^L / D), the bits of one distinct chunk."""
    shape = facts["diversity"]
    if shape is None:
        return 0.0
    # ASSUME: if D = T^L, every string is a chunk. The set of chunks is then no knowledge, like the
    # vocabularies of bioS, and the diversity term is zero for every loss p3.
    if shape["diversity"] == shape["alphabet_size"] ** shape["chunk_length"]:
        return 0.0
    string_bits: float = shape["chunk_length"] * math.log2(shape["alphabet_size"])
    return string_bits - math.log2(shape["diversity"])


def _by_term(*terms: xr.DataArray) -> xr.DataArray:
    return xr.concat(terms, dim=xr.Variable("term", list(TERMS)))


def _check(losses: xr.Dataset, names: list[str], *, with_first_chunks: bool) -> None:
    """Raise a UserError if losses are incomplete, negative, not finite or of other attributes."""
    origin = f"losses of {losses.attrs.get('run', 'unnamed run')}"
    needed = dict.fromkeys(
        name
        for scoring, pair in SCORINGS.items()
        for name in pair
        if scoring not in OPTIONAL_SCORINGS or name in losses
    )
    if with_first_chunks:
        needed["first_chunk_loss"] = None
    if missing := [name for name in needed if name not in losses]:
        raise UserError(f"{origin}: {', '.join(missing)} missing")
    found = [str(name) for name in losses["attribute"].values]
    if found != names:
        raise UserError(f"{origin}: the attributes are {found}, those of the corpus are {names}")
    for name in needed:
        values = losses[name].values
        if not values.size:
            raise UserError(f"{origin}: {name} is empty")
        if num_bad := int(np.count_nonzero(~np.isfinite(values))):
            raise UserError(
                f"{origin}: {num_bad} of {values.size} {name} are not finite; "
                "if the training diverged, set a lower learning rate"
            )
        if (lowest := float(values.min())) < -ROUNDING_NATS:
            raise UserError(f"{origin}: {name} is {lowest:g} nat, but losses are never negative")


def _labelled(
    by_term: xr.DataArray,
    by_attribute: xr.DataArray,
    max_by_term: xr.DataArray,
    max_by_attribute: xr.DataArray,
    attainable: xr.DataArray,
) -> xr.Dataset:
    """Dataset of all variables with totals, units and long names."""
    variables = {
        "bits": (by_term.sum("term", skipna=False), "stored knowledge"),
        "bits_by_term": (by_term, "stored knowledge, by term"),
        "bits_by_attribute": (by_attribute, "stored values, by attribute"),
        "max_bits": (max_by_term.sum("term"), "knowledge in the corpus"),
        "attainable_bits": (attainable, "knowledge of a model that knows everything"),
        "max_bits_by_term": (max_by_term, "knowledge in the corpus, by term"),
        "max_bits_by_attribute": (max_by_attribute, "values in the corpus, by attribute"),
    }
    dataset = xr.Dataset(
        {
            name: array.drop_attrs().assign_attrs(units="bit", long_name=long_name)
            for name, (array, long_name) in variables.items()
        }
    )
    return dataset.transpose("replicate", "scoring", "term", "attribute")
