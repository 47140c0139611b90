"""From losses to bits: how much of a population's knowledge a model provably stores.

A model that assigns a true fact the probability p pays -ln p nats for it; against guessing
among all the facts there could have been, it has saved the difference. Summed over a population
that is the bit complexity (paper, Theorem 3.2), and divided by the parameters the capacity ratio
(Definitions 4.1 and 4.3). Nats become bits in :func:`bit_complexity` and nowhere else.
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
}
"""Losses of names and of values by the way of asking.

`plain` sums the tokens of a name or value, asked for by itself (the paper's wording); `strict`
also charges for ending there; `in_context` reads values off a whole biography, where one
value can give another away. A biography begins with its name: that loss is the same in context.
"""

TERMS = ("name", "value", "diversity")
"""The three terms of Theorem 3.2, whose losses are the paper's p1, p2 and p3."""

ROUNDING_NATS = 1e-4
"""A probability of one, summed in float32, can come out this little above one."""


def bit_complexity(losses: xr.Dataset, facts: Mapping[str, Any]) -> xr.Dataset:
    """Bits a model provably stores about a population, and how many there are to store.

    Parameters
    ----------
    losses
        Cross-entropies in nats: ``name_loss`` and ``name_loss_strict`` with dims ``(replicate,
        person)``; ``value_loss``, ``value_loss_strict`` and ``value_loss_in_context`` with dims
        ``(replicate, person, attribute)``; ``first_chunk_loss`` like these where the facts
        have a diversity term. Persons may be a part of the population: their mean stands for all.
    facts
        The contents of ``corpus.json``: ``num_people``, ``num_names``, ``attributes``, each with
        ``name`` and ``cardinality``, and ``diversity``.

    Returns
    -------
    xr.Dataset
        In bits: ``bits`` (replicate, scoring), ``bits_by_term`` (replicate, scoring, term),
        ``bits_by_attribute`` (replicate, scoring, attribute; the value term's parts), and what
        a model that knows everything has: ``max_bits``, ``max_bits_by_term``,
        ``max_bits_by_attribute``. Nothing is clamped: a model that is surely wrong stores less
        than nothing, and cutting that off person by person would bias the sum upward.

    Raises
    ------
    UserError
        If a loss is missing, negative or not finite, or belongs to other attributes.

    Notes
    -----
    With p1, p2, p3 the mean losses of a name, of a value and of a value's first chunk::

        N log2(N0 / e^p1)  +  N sum_a log2(|a| / e^p2_a)  +  D sum_a log2(T^L / (D e^p3_a))

    where an attribute a has |a| values, D^C in bioD. The bound without loss is
    N log2(N0 / N) for the names, as a model that knows them all still pays ln N to pick one.
    """
    names = [attribute["name"] for attribute in facts["attributes"]]
    _check(losses, names, with_first_chunks=_diversity_bits(facts) > 0)
    bits_per_nat = 1 / math.log(2)
    num_people: int = facts["num_people"]
    name_bits = math.log2(facts["num_names"])
    value_bits = xr.DataArray(
        [math.log2(attribute["cardinality"]) for attribute in facts["attributes"]],
        coords={"attribute": names},
        dims="attribute",
    )
    name, value = (
        xr.concat(
            [losses[pair[part]].astype(np.float64).mean("person") for pair in SCORINGS.values()],
            dim=xr.Variable("scoring", list(SCORINGS)),
        )
        * bits_per_nat
        for part in (0, 1)
    )
    stored_values = num_people * (value_bits - value)
    diversity = _diversity_bits(facts)
    stored_chunks = xr.zeros_like(name)
    if diversity > 0:
        first_chunk = losses["first_chunk_loss"].astype(np.float64).mean("person") * bits_per_nat
        # Scored by itself under every scoring: chunks have no terminator and no context.
        stored_chunks = stored_chunks + (
            facts["diversity"]["diversity"] * (diversity - first_chunk).sum("attribute")
        )
    by_term = _by_term(
        num_people * (name_bits - name), stored_values.sum("attribute"), stored_chunks
    )
    max_by_term = _by_term(
        *(
            xr.DataArray(bits)
            for bits in (
                # PAPER 4.1: log2 of the number of sets of N names is taken as N log2(N0 / N).
                num_people * (name_bits - math.log2(num_people)),
                num_people * float(value_bits.sum()),
                len(names) * _num_distinct(facts) * diversity,
            )
        )
    )
    return _labelled(by_term, stored_values, max_by_term, num_people * value_bits)


def capacity_ratio(complexity: xr.Dataset, num_params: int) -> xr.Dataset:
    """Bits per parameter: ``capacity_ratio`` and its bound ``max_capacity_ratio``.

    Parameters
    ----------
    complexity
        What :func:`bit_complexity` returns.
    num_params
        All parameters, with the rows of the embedding that the corpus uses, tied ones once.
    """
    ratios = (complexity[["bits", "max_bits"]] / num_params).rename(
        bits="capacity_ratio", max_bits="max_capacity_ratio"
    )
    ratios["capacity_ratio"].attrs = {"units": "bit/parameter", "long_name": "capacity ratio R"}
    ratios["max_capacity_ratio"].attrs = {
        "units": "bit/parameter",
        "long_name": "knowledge offered R_max",
    }
    return ratios


def _num_distinct(facts: Mapping[str, Any]) -> int:
    """D, the distinct chunks of an attribute; 0 where values have no chunks."""
    return int(facts["diversity"]["diversity"]) if facts["diversity"] else 0


def _diversity_bits(facts: Mapping[str, Any]) -> float:
    """log2(T^L / D), the bits of one distinct chunk; 0 where which chunks exist is no knowledge."""
    shape = facts["diversity"]
    if shape is None:
        return 0.0
    # ASSUME: with D = T^L every string is a chunk. Which chunks exist is then known beforehand,
    # like bioS's vocabularies, and p3 charges nothing: there is no choice of chunks to describe.
    if shape["diversity"] == shape["alphabet_size"] ** shape["chunk_length"]:
        return 0.0
    string_bits: float = shape["chunk_length"] * math.log2(shape["alphabet_size"])
    return string_bits - math.log2(shape["diversity"])


def _by_term(*terms: xr.DataArray) -> xr.DataArray:
    return xr.concat(terms, dim=xr.Variable("term", list(TERMS)))


def _check(losses: xr.Dataset, names: list[str], *, with_first_chunks: bool) -> None:
    """Refuse losses that are incomplete, of other attributes, negative or not finite."""
    origin = f"losses of {losses.attrs.get('run', 'unnamed run')}"
    needed = dict.fromkeys(name for pair in SCORINGS.values() for name in pair)
    if with_first_chunks:
        needed["first_chunk_loss"] = None
    if missing := [name for name in needed if name not in losses]:
        raise UserError(f"{origin}: {', '.join(missing)} missing")
    found = [str(name) for name in losses["attribute"].values]
    if found != names:
        raise UserError(f"{origin}: attributes are {found}, the corpus has {names}")
    for name in needed:
        values = losses[name].values
        if not values.size:
            raise UserError(f"{origin}: {name} is empty")
        if num_bad := int(np.count_nonzero(~np.isfinite(values))):
            raise UserError(
                f"{origin}: {num_bad} of {values.size} {name} are not finite; "
                "a training that diverged needs a lower learning rate"
            )
        if (lowest := float(values.min())) < -ROUNDING_NATS:
            raise UserError(f"{origin}: a {name} is {lowest:g} nat, losses are not negative")


def _labelled(
    by_term: xr.DataArray,
    by_attribute: xr.DataArray,
    max_by_term: xr.DataArray,
    max_by_attribute: xr.DataArray,
) -> xr.Dataset:
    """Add totals and CF labels."""
    variables = {
        "bits": (by_term.sum("term"), "knowledge stored"),
        "bits_by_term": (by_term, "knowledge stored, by term"),
        "bits_by_attribute": (by_attribute, "values stored, by attribute"),
        "max_bits": (max_by_term.sum("term"), "knowledge offered"),
        "max_bits_by_term": (max_by_term, "knowledge offered, by term"),
        "max_bits_by_attribute": (max_by_attribute, "values offered, by attribute"),
    }
    dataset = xr.Dataset(
        {
            name: array.drop_attrs().assign_attrs(units="bit", long_name=long_name)
            for name, (array, long_name) in variables.items()
        }
    )
    return dataset.transpose("replicate", "scoring", "term", "attribute")
