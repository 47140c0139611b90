"""A real Slurm, and workflows that run on it side by side, as most of their time is waiting."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.slurm import stories
from tests.slurm.workflow import Workflow

CLUSTER = Path(__file__).parent / "cluster.sh"


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Install and start Slurm, and stop it."""
    if os.getuid() != 0:
        pytest.skip("needs root, to install and start a Slurm")
    if not shutil.which("slurmctld") and not shutil.which("apt-get"):
        pytest.skip("needs Debian or Ubuntu, whose packages of Slurm it installs")
    for command in ("install", "start"):
        subprocess.run([CLUSTER, command], check=True)
    yield
    subprocess.run([CLUSTER, "stop"], check=True)


@pytest.fixture(scope="session")
def told(
    request: pytest.FixtureRequest, cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Workflow]]]:
    """Every story that a test of this session asks for, all begun at once."""
    tellers: dict[str, Callable[[Path], Workflow]] = stories.STORIES
    asked = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    with ThreadPoolExecutor(len(tellers)) as pool:
        yield {
            name: pool.submit(tell, tmp_path_factory.mktemp(name))
            for name, tell in tellers.items()
            if name in asked
        }


def _story(name: str) -> Callable[..., Workflow]:
    @pytest.fixture(scope="session", name=name)
    def story(told: dict[str, Future[Workflow]]) -> Workflow:
        return told[name].result()

    return story


smoke, interrupted, shared, orphaned = map(_story, ("smoke", "interrupted", "shared", "orphaned"))
