"""Pages against their sources: reference results, version, length, links and commands."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tabulate import tabulate

import knowcap
from knowcap.artifacts.files import read_dataset, replace_between_markers
from knowcap.capacity.report import update_readme
from knowcap.capacity.table import replicates
from knowcap.capacity.table_columns import LABELS
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
    assert figure.read_bytes() == (REFERENCE / "figures" / "capacity.svg").read_bytes()


def test_the_speeds_in_readme_and_docs_are_the_reference_results(tmp_path: Path) -> None:
    readme, page = (Path(shutil.copy(path, tmp_path)) for path in (README, PERFORMANCE))
    write_tables(sorted((REFERENCE / "benchmarks").glob("*.json")), None, None, page, readme)
    assert readme.read_text() == README.read_text()
    assert page.read_text() == PERFORMANCE.read_text()


def test_the_columns_in_the_docs_are_those_of_the_table(tmp_path: Path) -> None:
    page = Path(shutil.copy(REPOSITORY / "docs" / "results.md", tmp_path))
    rows = [
        [f"`{name}`", units.removeprefix("1"), meaning] for name, (units, meaning) in LABELS.items()
    ]
    header = ["column", "unit", "meaning"]
    columns = tabulate(rows, header, tablefmt="github", disable_numparse=True)
    replace_between_markers(page, "columns", columns)
    assert (REPOSITORY / "docs" / "results.md").read_text() == page.read_text()


def test_the_python_example_in_the_docs_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (REPOSITORY / "docs" / "results.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    monkeypatch.chdir(REPOSITORY)
    exec(example, {})


@pytest.mark.parametrize("folder", [".", "more-exposures"])
def test_the_paper_s_cell_in_the_readme_is_a_reference_result(folder: str) -> None:
    path = REPOSITORY / "results" / "reference" / "paper-cells" / folder / "capacity.nc"
    (row,) = replicates(read_dataset(path)).itertuples()
    sentence = f"it gives {row.capacity_ratio:.2f} and {row.capacity_ratio_in_context:.2f}."
    assert sentence in README.read_text()


@pytest.mark.slow
def test_the_site_has_every_page_and_no_warnings(tmp_path: Path) -> None:
    options = ["--fail-on-warning", "--quiet", "docs", str(tmp_path)]
    command = [sys.executable, "-m", "sphinx", *options]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {page.stem for page in (REPOSITORY / "docs").glob("*.md")}
    assert pages <= {page.stem for page in tmp_path.glob("*.html")}


def test_citation_and_changelog_have_the_version_and_its_date() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["version"] == knowcap.__version__
    heading = f"## {citation['version']} - {citation['date-released']}\n"
    assert heading in (REPOSITORY / "CHANGELOG.md").read_text()


PAGES = sorted(
    page.relative_to(REPOSITORY).as_posix()
    for pattern in ("*.md", "docs/*.md", "docs/log/*.md", "config/*.md", "results/**/README.md")
    for page in REPOSITORY.glob(pattern)
)


@pytest.mark.parametrize("page", PAGES)
def test_links_to_files_of_the_repository_exist(page: str) -> None:
    path = REPOSITORY / page
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if re.fullmatch(r"docs/[^/]+", page)])
def test_docs_pages_have_at_most_250_lines(page: str) -> None:
    assert len((REPOSITORY / page).read_text().splitlines()) <= 250
