"""The laws of the paper: claims, estimators with confidence intervals, and verdicts.

One module per law holds its claims, their margins and their estimators. All share the data classes
of :mod:`~knowcap.capacity.laws.definitions`, the filters of
:mod:`~knowcap.capacity.laws.model_filters` and the estimators of
:mod:`~knowcap.capacity.laws.estimators` and :mod:`~knowcap.capacity.laws.regressions`.
To add a law, write a module and append its ``LAW`` to
:data:`~knowcap.capacity.laws.verdicts.LAWS`.
"""

from knowcap.capacity.laws.verdicts import LAWS, compute_verdicts, laws_markdown, write_laws

__all__ = ["LAWS", "compute_verdicts", "laws_markdown", "write_laws"]
