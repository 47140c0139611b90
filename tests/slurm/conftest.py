"""A real Slurm, and scenarios that run on it at the same time, as they mostly wait."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.slurm import scenarios
from tests.slurm.workflow import Workflow

CLUSTER = Path(__file__).parent / "cluster.sh"


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Install and start Slurm, and stop it."""
    if os.getuid() != 0:
        pytest.skip("needs root, to install and start Slurm")
    if not shutil.which("slurmctld") and not shutil.which("apt-get"):
        pytest.skip("needs Debian or Ubuntu, to install their Slurm packages")
    for command in ("install", "start"):
        subprocess.run([CLUSTER, command], check=True)
    yield
    subprocess.run([CLUSTER, "stop"], check=True)


@pytest.fixture(scope="session")
def started(
    request: pytest.FixtureRequest, cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Workflow]]]:
    """Start the scenarios that tests of this session use, all at once."""
    runs: dict[str, Callable[[Path], Workflow]] = scenarios.SCENARIOS
    used = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    with ThreadPoolExecutor(len(runs)) as pool:
        yield {
            name: pool.submit(run, tmp_path_factory.mktemp(name))
            for name, run in runs.items()
            if name in used
        }


def _scenario(name: str) -> Callable[..., Workflow]:
    """Return the fixture of a finished scenario."""

    @pytest.fixture(scope="session", name=name)
    def scenario(started: dict[str, Future[Workflow]]) -> Workflow:
        return started[name].result()

    return scenario


smoke, interrupted, two_nodes, orphaned, refused = map(
    _scenario, ("smoke", "interrupted", "two_nodes", "orphaned", "refused")
)
