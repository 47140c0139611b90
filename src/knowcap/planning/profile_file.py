"""Files of Snakemake profiles: attempts, and resources of a training in each of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import humanfriendly

from knowcap.config import Run
from knowcap.config.yaml_file import YamlFile
from knowcap.errors import UserError, shown
from knowcap.planning.gpus_by_size import gpu_settings, num_gpus


class ProfileFile(NamedTuple):
    """The settings of a profile that decide how long a training may take."""

    path: Path
    max_attempts: int
    """Attempts of a job, `retries` and the first one."""
    resources: Mapping[str, Any]
    """Resources of `train`; text is an expression of `attempt` and `wildcards.run`."""

    def evaluate(self, name: str, run_name: str, attempt: int) -> Any:
        """Return a resource of a training in one attempt, as Snakemake evaluates it.

        Raises
        ------
        UserError
            If the expression cannot be evaluated with `attempt` and `wildcards.run` alone.
        """
        value = self.resources.get(name)
        if not isinstance(value, str):
            return value
        names = {"attempt": attempt, "wildcards": SimpleNamespace(run=run_name)}
        try:
            return eval(value, names)
        except (NameError, SyntaxError):  # Snakemake takes these for plain text
            return value
        except Exception as error:
            raise UserError(
                f"{self.path}: train: {name}: {shown(value)} cannot be evaluated ({error})"
            ) from None

    def limit_minutes(self, run_name: str, attempt: int) -> int | None:
        """Return the time limit of an attempt in minutes; None if there is none.

        Raises
        ------
        UserError
            If `runtime` is no number of minutes and no text such as `12h`.
        """
        value = self.evaluate("runtime", run_name, attempt)
        if value is None:
            return None
        try:
            if isinstance(value, str):
                value = humanfriendly.parse_timespan(value) / 60
            return int(max(1, round(value)))
        except (TypeError, ValueError, humanfriendly.InvalidTimespan):
            raise UserError(
                f"{self.path}: train: runtime: {shown(value)} is not allowed: minutes, or text "
                f"such as 12h, are required"
            ) from None

    def num_gpus(self, run: Run, run_name: str, attempt: int) -> int:
        """Return the GPUs of an attempt, 0 for a training in one process.

        Raises
        ------
        UserError
            If the profile gives no integer.
        """
        if "gpu" not in self.resources:
            settings = gpu_settings(self.resources)
            return num_gpus(run, settings) if settings else 0
        value = self.evaluate("gpu", run_name, attempt)
        if not isinstance(value, int) or value < 0:
            raise UserError(
                f"{self.path}: train: gpu: {shown(value)} is not allowed: an integer of at least 0 "
                f"is required"
            )
        return value


def load_profile(path: Path) -> ProfileFile:
    """Load a profile, given its folder or its file.

    Raises
    ------
    UserError
        If it is missing, not YAML, or `retries` or the resources of `train` are not as Snakemake
        reads them.
    """
    path = path / "config.yaml" if path.is_dir() else path
    file = YamlFile(path)
    if file.errors:
        raise file.all_errors(file.errors)
    values = file.values if isinstance(file.values, dict) else {}
    retries = values.get("retries", 0)
    if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
        raise file.error(file.line(("retries",)), f"retries: {shown(retries)} is not allowed")
    resources = _mapping(values.get("default-resources")) | _of_train(values.get("set-resources"))
    return ProfileFile(path, 1 + retries, resources)


def _mapping(given: Any) -> dict[str, Any]:
    """Return resources that are written as a mapping or as a list of `name=value`."""
    if isinstance(given, dict):
        return given
    pairs = (str(each).partition("=") for each in given or ())
    return {name: _number(value) for name, _, value in pairs}


def _of_train(given: Any) -> dict[str, Any]:
    """Return the resources of `train`, written as a mapping or as a list of `train:name=value`."""
    if isinstance(given, dict):
        return _mapping(given.get("train"))
    prefix = "train:"
    return _mapping([each[len(prefix) :] for each in given or () if each.startswith(prefix)])


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
