"""The README and docs/performance.md against the results in results/reference."""

import shutil
from pathlib import Path

from knowcap.capacity.report import update_readme
from knowcap_benchmarks.docs_tables import write_tables

REPOSITORY = Path(__file__).parents[1]
REFERENCE = REPOSITORY / "results" / "reference" / "two-cores"
README, PERFORMANCE = REPOSITORY / "README.md", REPOSITORY / "docs" / "performance.md"


def test_the_laws_in_the_readme_are_the_reference_results(tmp_path: Path) -> None:
    readme = Path(shutil.copy(README, tmp_path))
    update_readme(REFERENCE / "laws.nc", readme)
    assert readme.read_text() == README.read_text()


def test_the_figure_in_the_readme_is_the_reference_figure() -> None:
    figure = REPOSITORY / "docs" / "figures" / "knowledge.svg"
    assert figure.read_bytes() == (REFERENCE / "figures" / "capacity-scale-model.svg").read_bytes()


def test_the_speeds_in_readme_and_docs_are_the_reference_results(tmp_path: Path) -> None:
    readme, page = (Path(shutil.copy(path, tmp_path)) for path in (README, PERFORMANCE))
    write_tables(sorted((REFERENCE / "benchmarks").glob("*.json")), None, None, page, readme)
    assert readme.read_text() == README.read_text()
    assert page.read_text() == PERFORMANCE.read_text()
