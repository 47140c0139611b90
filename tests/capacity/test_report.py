from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from knowcap import cli
from knowcap.artifacts import files
from knowcap.capacity.figures import write_figures
from knowcap.capacity.laws import write_laws
from knowcap.capacity.model_list import model_rows, models_text
from knowcap.capacity.report import update_readme, write_report
from knowcap.capacity.report.scale_rows import scale_rows
from knowcap.capacity.report.verdict_table import not_run_sentence, verdict_table
from knowcap.capacity.table import ExperimentLabel
from tests.capacity.simulated_results import SimulatedResults


class Page(HTMLParser):
    """Text of a page, the addresses that it loads, its contents list and its scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.loaded, self.targets, self.scripts = "", [], [], []
        self.ids: set[str] = set()
        self.within = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        sources = {"img": "src", "script": "src", "link": "href"}
        self.loaded += [value for name, value in attrs if name == sources.get(tag)]
        self.targets += [
            value[1:] for name, value in attrs if name == "href" and value and value[0] == "#"
        ]
        self.ids |= {value for name, value in attrs if name == "id" and value}
        if tag in ("script", "style", "nav"):
            self.within = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self.within:
            self.within = ""

    def handle_data(self, data: str) -> None:
        if self.within == "script":
            self.scripts.append(data)
        elif not self.within:
            self.text += " ".join(data.split()) + " "

    def data(self) -> Any:
        """Data of the interactive figures."""
        return json.loads(self.scripts[0])


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


def test_the_contents_list_leads_to_every_section(page: Page) -> None:
    assert {"verdicts", "measured", "models", "figures", "quantities", "terms"} <= set(page.targets)
    assert set(page.targets) <= page.ids


def test_the_report_is_the_same_bytes_every_time(study: Path) -> None:
    for name in ("one.html", "two.html"):
        write_report(study / "capacity.nc", study / "laws.nc", study / "figures", {}, study / name)
    assert (study / "one.html").read_bytes() == (study / "two.html").read_bytes()


def test_a_scale_model_is_marked(page: Page) -> None:
    assert "Verdicts of two cores hold for its sizes only" in page.text
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
    (scale,) = scale_rows(table, model_rows(table))
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
    assert "capacity/bit_complexity.py" in page.text


def test_text_of_a_corpus_is_escaped(page: Page) -> None:
    assert "Ann Bee was born <b>once</b>." in page.text


def test_scales_smaller_than_the_papers_are_scale_models(study: Path) -> None:
    table = files.read_dataset(study / "capacity.nc")
    scales = {row["name"]: row for row in scale_rows(table, model_rows(table))}
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
    assert cells[0] == [
        "law", "claim of the paper", "measured (95 % interval)", "verdict", "what failed",
    ]  # fmt: skip
    assert len(cells) == 2 + 2  # header, rule, and the only law with models at two scales
    law, claim, measured, verdict, failed = cells[2]
    assert law == "1. Base law, paper's scale"
    assert claim.startswith("At 1000 exposures a model stores two bits")
    assert re.match(r"R of the largest models: 1\.95 .*accepted 1\.9 or more bit", measured)
    assert verdict == "**not testable here**"
    assert "at least 2 needed" in failed
    assert "Without models that inform them: " in text


def test_laws_without_models_are_folded_away(study: Path, page: Page) -> None:
    sentence = not_run_sentence(files.read_dataset(study / "laws.nc"))
    assert sentence.count(";") == 10  # laws 2 to 12
    assert "Without models that inform them: 2. Formats of biographies;" in sentence
    assert page.text.count("12. Domain token") == 1
    html = (study / "report.html").read_text()
    assert f"<p>{sentence}</p></details>" in html


def test_no_unit_is_one_and_no_missing_number_is_a_dash(study: Path, page: Page) -> None:
    table = verdict_table(files.read_dataset(study / "laws.nc"))
    summary = page.text.partition("What was measured")[0]
    for text in (table, summary):
        assert not re.search(r"[\d)] 1[ ;.]", text)
        assert not re.search(r": -[ ;|]", text)


def test_numbers_of_bios_are_shown_in_both_scorings(study: Path, page: Page) -> None:
    laws = files.read_dataset(study / "laws.nc")
    table = files.read_dataset(study / "capacity.nc")
    (row,) = [row for row in model_rows(table) if row["kind"] == "bioS"]
    assert row["capacity_ratio_in_context"] > row["capacity_ratio"]
    in_context = f"in whole biographies {row['capacity_ratio_in_context']:.3g}"
    assert in_context in verdict_table(laws)
    assert in_context in page.text


def test_the_commit_of_the_rules_is_in_the_report(study: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    paths = (study / "capacity.nc", study / "laws.nc", study / "figures")
    write_report(*paths, {}, output, ["Margins are those of commit 0123abcd."])
    assert "Margins are those of commit 0123abcd." in Page(output.read_text()).text


def test_every_model_is_listed_before_the_figures(page: Page) -> None:
    models = page.text.partition("R of every model")[2].partition("Figures")[0]
    assert "1.95 \u00b1 0.071" in models
    assert "0.205 \u00b1 0.0071" in models


def test_the_printed_list_has_r_of_every_model(study: Path) -> None:
    lines = models_text(files.read_dataset(study / "capacity.nc")).splitlines()
    assert lines[0].split()[:7] == ["dataset", "model", "weights", "E", "P", "R", "R_max"]
    assert lines[1].startswith("bioS, N = 100,000")
    assert "1.95 \u00b1 0.071" in lines[1]
    assert "0.205 \u00b1 0.0071" in lines[2]


def test_a_study_without_laws_has_a_report_without_verdicts(
    simulation: SimulatedResults, tmp_path: Path
) -> None:
    simulation.add([0.2, 0.21], num_people=10_000)
    path = simulation.table(base=ExperimentLabel(laws=(), scale="my question"))
    write_laws(path, path.with_name("laws.nc"), path.with_name("laws.md"))
    write_figures(path, path.with_name("laws.nc"), tmp_path / "figures")
    write_report(path, path.with_name("laws.nc"), tmp_path / "figures", {}, tmp_path / "own.html")
    text = Page((tmp_path / "own.html").read_text()).text
    assert "Verdicts" not in text
    assert "0.205 \u00b1 0.0071" in text


def test_publishing_a_study_prints_r_of_every_model(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stamp = tmp_path / "published" / ".published-0123"
    with pytest.raises(SystemExit) as stopped:
        cli.main(["publish", "--stamp", str(stamp), str(study / "capacity.nc")])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert models_text(files.read_dataset(study / "capacity.nc")) in printed
    assert printed.endswith(f"report: {stamp.parent / 'report.html'}\n")
