"""Imports of optional libraries, which an extra of this package installs."""

from __future__ import annotations

import importlib
from typing import Any

from knowcap.errors import UserError


def import_library(name: str, purpose: str, extra: str = "hub") -> Any:
    """Import a library of an extra of this package.

    Parameters
    ----------
    name
        Name of the module; its first part is the name of the package.
    purpose
        What needs it, the subject of the message.
    extra
        Name of the extra.

    Raises
    ------
    UserError
        If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(
            f"{purpose} needs {name.partition('.')[0]}, which is not installed: "
            f"pip install 'knowcap[{extra}]'"
        ) from None


def import_transformers(purpose: str) -> Any:
    """Import `transformers` without its progress bars.

    Raises
    ------
    UserError
        If it is not installed.
    """
    transformers = import_library("transformers", purpose)
    transformers.utils.logging.disable_progress_bar()
    return transformers
