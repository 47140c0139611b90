"""Variables of ``laws.nc`` by dimension, with their long names."""

from __future__ import annotations

from collections.abc import Mapping

ROW_LABELS: Mapping[str, str] = {
    "law": "number of the law",
    "scale": "scale of the models",
    "quantity": "quantity",
    "primary": "whether the quantity decides on the law",
    "subset": "cell or variant, empty for the quantity itself",
    "claim": "claim of the paper",
    "paper_value": "value claimed by the paper",
    "accepted_lower": "lower end of the accepted range",
    "accepted_upper": "upper end of the accepted range",
    "accepted": "accepted range in words",
    "margin_reason": "reason of the margin",
    "estimate": "estimate",
    "lower": "lower end of the 95 % interval",
    "upper": "upper end of the 95 % interval",
    "estimate_in_context": "estimate with attributes scored in whole biographies, NaN for bioD",
    "lower_in_context": "lower end of its 95 % interval",
    "upper_in_context": "upper end of its 95 % interval",
    "leave_one_out_lower": "lowest estimate when each cell is left out",
    "leave_one_out_upper": "highest estimate when each cell is left out",
    "quantity_units": "unit of the quantity, empty for ratios",
    "scope": "what the interval generalises to",
    "num_cells": "cells: model sizes times populations",
    "num_sizes": "distinct model sizes",
    "num_populations": "seeds of populations",
    "num_replicates": "trainings used",
    "min_seeds": "fewest seeds of a cell",
    "max_seeds": "most seeds of a cell",
    "status": "whether there is an interval, or why not",
    "p_reproduced": "p-value of a true value outside the accepted range, by Holm for primaries",
    "p_contradicted": "p-value of a true value inside the accepted range, by Holm for primaries",
    "verdict": "verdict on the quantity, empty for subsets",
    "failed": "preconditions that are not met, in words",
    "explanation": "reason of the verdict",
}
"""Long names along ``row``."""

CHECK_LABELS: Mapping[str, str] = {
    "check_law": "number of the law",
    "check_scale": "scale of the models",
    "check_quantity": "quantity",
    "check_name": "precondition",
    "check_value": "number of the precondition",
    "check_relation": "whether the limit is a lower or an upper one",
    "check_limit": "limit",
    "check_passed": "whether the precondition is met",
    "check_text": "precondition with its number and limit, in words",
}
"""Long names along ``check``."""

JUDGEMENT_LABELS: Mapping[str, str] = {
    "judged_law": "number of the law",
    "judged_title": "title of the law",
    "judged_claim": "claim of the law",
    "judged_scale": "scale of the models",
    "judged_quantity": "primary quantity that decides on the law",
    "judged_verdict": "verdict on the law",
    "judged_failed": "what failed, in words; empty if all primaries are reproduced",
    "judged_explanation": "verdicts on the primary quantities",
}
"""Long names along ``judgement``."""

FACT_LABELS: Mapping[str, str] = {
    "fact_law": "number of the law",
    "fact_scale": "scale of the models",
    "fact_name": "name of the fact",
    "fact_text": "number that arithmetic fixes, in words",
}
"""Long names along ``fact``."""

LABELS = {"row": ROW_LABELS, "check": CHECK_LABELS, "judgement": JUDGEMENT_LABELS,
          "fact": FACT_LABELS}  # fmt: skip

NUMBERS = {
    *("law", "paper_value", "accepted_lower", "accepted_upper", "estimate", "lower", "upper"),
    *("leave_one_out_lower", "leave_one_out_upper", "num_cells", "num_sizes", "num_populations"),
    *("estimate_in_context", "lower_in_context", "upper_in_context"),
    *("num_replicates", "min_seeds", "max_seeds", "p_reproduced", "p_contradicted", "primary"),
    *("check_law", "check_value", "check_limit", "check_passed", "judged_law", "fact_law"),
}
"""Variables that are numbers or truth values; the others are texts."""
