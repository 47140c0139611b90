"""Imports of optional libraries, which an extra of this package installs."""

from __future__ import annotations

import importlib
from typing import Any

from knowcap.errors import UserError


def import_library(name: str, purpose: str) -> Any:
    """Import a library of the extra `hub`.

    Parameters
    ----------
    name
        Name of the module, which is also that of the package.
    purpose
        What needs it, the subject of the message.

    Raises
    ------
    UserError
        If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(
            f"{purpose} needs {name}, which is not installed: pip install 'knowcap[hub]'"
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
