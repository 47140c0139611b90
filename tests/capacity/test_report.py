from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from knowcap.artifacts import files
from knowcap.capacity.figures import write_figures
from knowcap.capacity.laws import write_laws
from knowcap.capacity.report import (
    run_rows,
    scale_rows,
    update_readme,
    verdict_table,
    write_report,
)
from knowcap.capacity.table import ExperimentLabel
from tests.capacity.simulated_results import SimulatedResults


class Page(HTMLParser):
    """Text of a page, and the addresses that it loads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.loaded = "", []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        sources = {"img": "src", "script": "src", "link": "href"}
        self.loaded += [value for name, value in attrs if name == sources.get(tag)]

    def handle_data(self, data: str) -> None:
        self.text += " ".join(data.split()) + " "


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Table, laws and figures of two scales."""
    simulation = SimulatedResults(tmp_path_factory.mktemp("study"))
    simulation.add([1.9, 2.0, 1.7, 1.8], num_people=100_000, lr=[1e-3, 2e-3], size=(4, 2))
    simulation.add([0.2, 0.21], kind="bioD", kv_channels=8, experiments=["small"], provenance=False)
    table = simulation.table(
        base=ExperimentLabel((1,), "paper's scale"), small=ExperimentLabel((1,), "two cores")
    )
    write_laws(table, table.with_name("laws.nc"), table.with_name("laws.md"))
    write_figures(table, table.with_name("laws.nc"), table.with_name("figures"))
    return table.parent


@pytest.fixture(scope="module")
def page(study: Path) -> Page:
    samples = {"bioS-N100000": "Ann Bee was born <b>once</b>."}
    write_report(
        study / "capacity.nc", study / "laws.nc", study / "figures", samples, study / "report.html"
    )
    return Page((study / "report.html").read_text())


def test_the_report_is_self_contained(page: Page) -> None:
    assert len(page.loaded) == 5
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.loaded)


def test_the_report_is_the_same_bytes_every_time(study: Path) -> None:
    for name in ("one.html", "two.html"):
        write_report(study / "capacity.nc", study / "laws.nc", study / "figures", {}, study / name)
    assert (study / "one.html").read_bytes() == (study / "two.html").read_bytes()


def test_a_scale_model_is_marked(page: Page) -> None:
    assert page.text.count("scale model, not comparable in absolute numbers") == 1
    assert "Do not compare absolute numbers with the paper's." in page.text


def test_the_report_has_the_numbers_of_every_run(page: Page) -> None:
    assert "1.95 ± 0.071" in page.text
    assert "0.205 ± 0.0071" in page.text
    assert "1.0 min" in page.text  # training of 61.5 s
    assert "simd (num_lanes 8 + 4, num_parts 1), then stacked" in page.text
    assert "unknown" in page.text  # the other run has no provenance


def test_the_cost_of_a_training_counts_once_for_all_precisions(
    simulation: SimulatedResults, tmp_path: Path
) -> None:
    measurement = simulation.add([0.2, 0.21], num_people=10_000)
    for precision in ("int8", "int4"):
        simulation.add_precision(measurement, precision, bits=9.5, share=0.53)
    path = simulation.table()
    table = files.read_dataset(path)
    (scale,) = scale_rows(table, run_rows(table))
    assert (scale["num_models"], scale["num_trainings"], scale["train_s"]) == (1, 2, 61.5)
    write_laws(path, path.with_name("laws.nc"), path.with_name("laws.md"))
    write_figures(path, path.with_name("laws.nc"), tmp_path / "figures")
    output = tmp_path / "report.html"
    write_report(path, path.with_name("laws.nc"), tmp_path / "figures", {}, output)
    text = Page(output.read_text()).text
    assert text.count("1.0 min") == 2  # of the scale, and of the run
    assert "measured in the precisions trained, int8, int4" in text
    assert text.count("9.5 bit/parameter, 53 % of them integers") == 2


def test_assumptions_are_listed_with_their_place(page: Page) -> None:
    assert "If D = T^L, every string is a chunk" in page.text
    assert re.search(r"capacity/bit_complexity\.py:\d+", page.text)


def test_text_of_a_corpus_is_escaped(page: Page) -> None:
    assert "Ann Bee was born <b>once</b>." in page.text


def test_scales_smaller_than_the_papers_are_scale_models(study: Path) -> None:
    table = files.read_dataset(study / "capacity.nc")
    scales = {row["name"]: row for row in scale_rows(table, run_rows(table))}
    assert not scales["paper's scale"]["is_scale_model"]
    assert scales["two cores"]["is_scale_model"]
    assert scales["paper's scale"]["num_trainings"] == 4
    assert scales["paper's scale"]["seeds"] == (2, 2)


def test_the_readme_gets_the_table_of_verdicts(study: Path) -> None:
    readme = study / "README.md"
    before, after = "# Title\n\n<!-- results:begin -->\n", "\n<!-- results:end -->\n\nEnd.\n"
    readme.write_text(f"{before}old{after}")
    update_readme(study / "laws.nc", readme)
    text = readme.read_text()
    assert text.startswith(before)
    assert text.endswith(after)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert len(cells) == 2 + 13  # header, rule, and a row for each law and scale
    peaks = [row for row in cells if row[0] == "1. Base law"]
    assert peaks[0][1:3] == ["R of the largest models", "at least 2 bit/parameter"]


def test_a_dimensionless_unit_is_not_shown(study: Path, page: Page) -> None:
    table = verdict_table(files.read_dataset(study / "laws.nc"))
    assert not re.search(r"(about|at least|at most) [\d.]+ 1 ", table)
    summary = page.text.partition("What was measured")[0]
    assert "bit/parameter." in summary
    assert not re.search(r"[\d)] 1\.", summary)
