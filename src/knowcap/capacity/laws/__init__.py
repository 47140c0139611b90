"""The laws of the paper: claims, preconditions, estimators with intervals, and verdicts.

One module per law holds its quantities with their claims and preconditions. All share the data
classes of :mod:`~knowcap.capacity.laws.definitions`, the margins of
:mod:`~knowcap.capacity.laws.claims`, the preconditions of
:mod:`~knowcap.capacity.laws.preconditions`, the filters of
:mod:`~knowcap.capacity.laws.model_filters` and the cells of
:mod:`~knowcap.capacity.laws.cells`. The rules are described in docs/verdicts.md. To add a law,
write a module and append its ``LAW`` to :data:`~knowcap.capacity.laws.verdicts.LAWS`.
"""

from knowcap.capacity.laws.laws_dataset import compute_verdicts, laws_markdown, write_laws
from knowcap.capacity.laws.verdicts import LAWS

__all__ = ["LAWS", "compute_verdicts", "laws_markdown", "write_laws"]
