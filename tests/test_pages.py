"""What the README and the page of performance say is what the results that are kept say."""

import shutil
from pathlib import Path

from knowcap.capacity.report import update_readme
from knowcap_benchmarks.docs_tables import write_tables

REPOSITORY = Path(__file__).parents[1]
KEPT = REPOSITORY / "results" / "reference" / "two-cores"
README, PERFORMANCE = REPOSITORY / "README.md", REPOSITORY / "docs" / "performance.md"


def test_the_readme_s_laws_are_those_that_were_measured(tmp_path: Path) -> None:
    readme = Path(shutil.copy(README, tmp_path))
    update_readme(KEPT / "laws.nc", readme)
    assert readme.read_text() == README.read_text()


def test_the_readme_s_figure_is_the_study_s() -> None:
    shown = REPOSITORY / "docs" / "figures" / "knowledge.svg"
    assert shown.read_bytes() == (KEPT / "figures" / "capacity-scale-model.svg").read_bytes()


def test_speeds_are_those_that_were_measured(tmp_path: Path) -> None:
    readme, page = (Path(shutil.copy(path, tmp_path)) for path in (README, PERFORMANCE))
    write_tables(sorted((KEPT / "benchmarks").glob("*.json")), None, None, page, readme)
    assert readme.read_text() == README.read_text()
    assert page.read_text() == PERFORMANCE.read_text()
