"""The paper's laws as estimators with intervals and verdicts.

One module states each law: its claims, their margins and their estimators. What they share is in
:mod:`~knowcap.capacity.laws.law` and :mod:`~knowcap.capacity.laws.estimators`; a new law is a
new module and its place in :data:`~knowcap.capacity.laws.verdicts.LAWS`.
"""

from knowcap.capacity.laws.verdicts import LAWS, compute_verdicts, laws_markdown, write_laws

__all__ = ["LAWS", "compute_verdicts", "laws_markdown", "write_laws"]
