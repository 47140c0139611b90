"""Results folders that several users share: group permissions of new files, and a check of them."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path

from knowcap.artifacts.storage import StorageError


def share_with_group(folder: Path) -> None:
    """Let the group write what this process and its children create, if a folder is shared.

    A folder is shared if its group may write to it and new files get this group (setgid, `chmod
    g+ws`). The usual umask 022 would keep the group from writing to the folders in it.
    """
    try:
        mode = folder.stat().st_mode
    except OSError:
        return
    if mode & stat.S_ISGID and mode & stat.S_IWGRP:
        os.umask(os.umask(0) & ~stat.S_IRWXG)


def check_folders(paths: Iterable[Path], shared: Path) -> None:
    """Raise a StorageError if this user cannot write to the folders of some files.

    Parameters
    ----------
    paths
        Files to be written; their folders may not exist yet.
    shared
        The results folder, which the advice names.

    Raises
    ------
    StorageError
        One line: the first such folder, their number, owner, group and permissions.
    """
    folders = sorted({_existing(path.parent) for path in paths})
    unwritable = [folder for folder in folders if not os.access(folder, os.W_OK | os.X_OK)]
    if not unwritable:
        return
    first, others = unwritable[0], len(unwritable) - 1
    status = first.stat()
    owner, group = _user(status.st_uid), _group(status.st_gid)
    more = f", and {others} other folders" if others else ""
    raise StorageError(
        f"{first}{more}: {_user(os.geteuid())} cannot write there (owner {owner}, group {group}, "
        f"{stat.filemode(status.st_mode)}); to share it, {owner} runs: chmod -R g+wX {shared} && "
        f"find {shared} -type d -exec chmod g+s {{}} +"
    )


def _existing(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that exists."""
    return next(each for each in (folder, *folder.absolute().parents) if each.exists())


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
