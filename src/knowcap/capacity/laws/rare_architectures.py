"""Law 6: at 100 exposures, models with gated MLPs or without MLPs store less."""

from __future__ import annotations

from knowcap.capacity.laws.architectures import family_quantity
from knowcap.capacity.laws.claims import equal, more_than_times_lower, times_lower
from knowcap.capacity.laws.definitions import Law
from knowcap.capacity.laws.model_filters import RARE_EXPOSURES
from knowcap.capacity.laws.settings import ARCHITECTURE_SETTINGS

GATED = times_lower(1.3)
"""Loss by a gated MLP."""  # PAPER Result 6: 1.3 times worse, at the best learning rate.

LAW = Law(
    number=6,
    title="Architectures at 100 exposures",
    claim=(
        "At 100 exposures LLaMA and Mistral store 1.3 times less than GPT2, and GPT2 without MLPs "
        "stores 1.5 times less. Smaller MLPs make no difference."
    ),
    source_laws=(4, 6),
    varied=ARCHITECTURE_SETTINGS,
    quantities=(
        family_quantity("LLaMA", RARE_EXPOSURES, GATED),
        family_quantity("Mistral", RARE_EXPOSURES, GATED),
        # PAPER Result 6: more than 1.5 times worse without MLPs, a negligible change by a quarter.
        family_quantity("GPT2_0", RARE_EXPOSURES, more_than_times_lower(1.5)),
        family_quantity("GPT2_quarter", RARE_EXPOSURES, equal()),
    ),
)
