"""Kills, damage and full disks: `make test` tries each kind a few times, `make campaign` often."""

import os

IS_FULL = os.environ.get("KNOWCAP_CAMPAIGN") == "full"
"""Whether every kind is tried often."""


def number(quick: int, full: int) -> int:
    """Return the number of tries; KNOWCAP_CAMPAIGN_SHARE scales that of a full campaign."""
    share = float(os.environ.get("KNOWCAP_CAMPAIGN_SHARE", "1"))
    return max(quick, round(full * share)) if IS_FULL else quick
