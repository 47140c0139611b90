"""Permissions of shared folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os, sys
from pathlib import Path
from knowcap.artifacts.shared_folder import share_with_group
os.umask(int(sys.argv[2], 8))
share_with_group(Path(sys.argv[1]))
print(oct(os.umask(0)))
"""


@pytest.mark.parametrize(
    ("mode", "umask", "expected"),
    [
        (0o2775, 0o022, 0o002),
        (0o2770, 0o077, 0o007),
        (0o775, 0o022, 0o022),
        (0o2755, 0o022, 0o022),
        (0o755, 0o077, 0o077),
    ],
)
def test_the_umask_lets_the_group_write_only_in_a_shared_folder(
    tmp_path: Path, mode: int, umask: int, expected: int
) -> None:
    tmp_path.chmod(mode)
    command = [sys.executable, "-c", CODE, str(tmp_path), oct(umask)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ})
    assert int(done.stdout, 8) == expected


def test_a_missing_folder_changes_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CODE, str(tmp_path / "absent"), "0o022"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout, 8) == 0o022
