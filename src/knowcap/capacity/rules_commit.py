"""Sentences on the commit that fixed margins, primary quantities and cells, for the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from knowcap.artifacts.git_state import git_state, has_changed

RULES = Path(__file__).parent / "laws"
"""Folder with the code of claims, margins, primary quantities and preconditions."""

WITH_CHANGES = " with changes"
"""Suffix of a commit in the table, if the training's code was not committed."""


def rules_sentences(study: Path, trained: Sequence[str], rules: Path = RULES) -> list[str]:
    """Sentences on the commit of rules and study file, and whether it precedes the trainings.

    Parameters
    ----------
    study
        The study file, which fixes the cells.
    trained
        Commits of the trainings, as in the table; empty text if unknown.
    rules
        Folder of the rules.
    """
    code, cells = git_state(rules), git_state(study)
    if code is None:
        return ["The code is not in a git checkout, so no commit shows when its rules were fixed."]
    rules_at = f"commit {code.commit[:10]}{_changes(code.dirty)}"
    sentences = [f"Margins, primary quantities and preconditions are those of {rules_at}."]
    if cells is None:
        sentences.append(f"The cells are those of {study.name}, which is not in a git checkout.")
    else:
        sentences.append(
            f"The cells are those of {study.name} at commit {cells.commit[:10]}"
            f"{_changes(cells.dirty)}."
        )
    return [*sentences, *_since(study, trained, rules)]


def _changes(dirty: bool) -> str:
    return ", with changes that are not committed" if dirty else ""


def _since(study: Path, trained: Sequence[str], rules: Path) -> list[str]:
    """Sentences on changes of rules and study file since the trainings."""
    commits = sorted({commit.removesuffix(WITH_CHANGES) for commit in trained if commit})
    if not commits:
        return ["The commit of the trainings is unknown."]
    names = ", ".join(commit[:10] for commit in commits)
    text = f"The models were trained at {'commits' if len(commits) > 1 else 'commit'} {names}"
    parts = []
    for path, name in ((rules, "rules"), (study, "study file")):
        changes = [has_changed([path], commit) for commit in commits]
        if None in changes:
            parts.append(f"whether the {name} changed since is unknown")
        else:
            parts.append(f"the {name} {'changed' if any(changes) else 'did not change'} since")
    return [f"{text}; {' and '.join(parts)}."]
