"""The paper's laws as estimators with intervals and verdicts.

One module states each law: its claims, their margins and their estimators. What they share is in
:mod:`~knowcap.capacity.laws.claims` and :mod:`~knowcap.capacity.laws.estimators`; a new law is a
new module and its place in :data:`~knowcap.capacity.laws.judge.LAWS`.
"""

from knowcap.capacity.laws.judge import LAWS, judge, laws_markdown, write_laws

__all__ = ["LAWS", "judge", "laws_markdown", "write_laws"]
