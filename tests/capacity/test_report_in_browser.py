"""The report in Chromium: interactive figures, without network, on a phone, and in print."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from knowcap.capacity.figures import write_figures
from knowcap.capacity.laws import write_laws
from knowcap.capacity.report import write_report
from knowcap.capacity.table import ExperimentLabel
from tests.capacity.simulated_results import SimulatedResults

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt install chromium)"),
]

MARKERS = "#explorer-plot .scatterlayer .point"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of three models that inform the laws 1, 4 and 5, one of them with its metrics."""
    simulation = SimulatedResults(tmp_path_factory.mktemp("study"))
    people: dict[str, Any] = {"num_people": 100_000, "lr": [1e-3, 2e-3]}
    simulation.add([1.9, 2.0, 1.7, 1.8], experiments=["base"], num_metrics=150, **people)
    simulation.add([1.0, 1.1, 0.7, 0.8], experiments=["rare"], exposures=100, **people)
    simulation.add([1.5, 1.6, 1.3, 1.4], experiments=["other"], family="LLaMA", **people)
    table = simulation.table(
        base=ExperimentLabel((1,), "paper"),
        rare=ExperimentLabel((4,), "paper"),
        other=ExperimentLabel((5,), "paper"),
    )
    laws, figures = table.with_name("laws.nc"), table.with_name("figures")
    write_laws(table, laws, table.with_name("laws.md"))
    write_figures(table, laws, figures)
    samples = {"bioS": "</script><b>Ann Bee</b> was born."}
    output = table.with_name("report.html")
    write_report(table, laws, figures, samples, output, runs=simulation.folder / "runs")
    return output


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM)
        yield launched
        launched.close()


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Any]:
    """Opens the report without network; at the end there is no error, message or request."""
    messages: list[str] = []
    contexts = []

    def opens(width: int = 1280, *, is_ready: bool = True, **options: Any) -> Any:
        viewport = {"width": width, "height": 900}
        contexts.append(browser.new_context(viewport=viewport, offline=True, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: messages.append(request.url))
        page.goto(report.as_uri())
        if is_ready:
            page.wait_for_selector("html[data-ready]")
        return page

    yield opens
    for context in contexts:
        context.close()
    kept = [text for text in messages if not text.startswith(("data:", report.as_uri()))]
    assert kept == []


def choose(page: Any, name: str, value: str) -> None:
    page.select_option(f"#explorer select[name={name}]", value)


def num_markers(page: Any) -> int:
    return int(page.locator(MARKERS).count())


def ratios(page: Any, digits: int = 2) -> list[float]:
    """Heights of the markers in the figure of all models."""
    heights = "graph.data.flatMap((trace) => (trace.mode === 'markers' ? trace.y : []))"
    values = page.evaluate(f"(graph = document.getElementById('explorer-plot'), {heights})")
    return sorted(round(value, digits) for value in values)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_model_is_drawn_in_colours_of_the_page(opened: Any, scheme: str) -> None:
    page = opened(color_scheme=scheme)
    assert ratios(page) == [1.05, 1.55, 1.95]
    font = "getComputedStyle(document.querySelector('#explorer-plot .xtick text')).fill"
    red = int(re.findall(r"\d+", page.evaluate(font))[0])
    assert (red > 128) == (scheme == "dark")
    assert len(page.screenshot()) > 10_000


def test_models_are_filtered_by_law_architecture_and_exposures(opened: Any) -> None:
    page = opened()
    rows = page.locator("tr[data-model]:not([hidden])")
    assert (num_markers(page), rows.count()) == (3, 3)
    choose(page, "law", "5")
    assert ratios(page) == [1.55, 1.95]  # LLaMA, and GPT2 that it is compared with
    assert rows.count() == 2
    choose(page, "architecture", "LLaMA")
    assert ratios(page) == [1.55]
    choose(page, "law", "")
    choose(page, "architecture", "")
    choose(page, "exposures", "100")
    assert ratios(page) == [1.05]
    assert page.locator("#explorer select[name=scale]").is_hidden()  # one scale only


def test_scoring_lines_and_replicates_are_toggled(opened: Any) -> None:
    page = opened()
    plain = ratios(page, 6)
    page.check("#explorer input[name=scoring] >> nth=1")
    assert all(strict < other for strict, other in zip(ratios(page, 6), plain, strict=True))
    page.check("#explorer input[name=scoring] >> nth=0")
    lines = page.locator("#explorer-plot .scatterlayer .js-line")
    assert lines.count() == 2
    page.uncheck("#explorer [name=lines]")
    assert lines.count() == 0
    page.check("#explorer [name=replicates]")
    assert num_markers(page) == 3 + 12
    choose(page, "axis", "bits")
    assert min(ratios(page)) > 1000


def test_pointing_at_a_model_shows_run_rates_seeds_cost_and_loss_curves(opened: Any) -> None:
    page = opened()
    choose(page, "law", "1")
    page.locator(MARKERS).hover(force=True)
    panel = page.locator("#run-panel")
    page.wait_for_selector("#curve-plot .scatterlayer")
    for text in ("GPT2-2-2-bioS-N100000-E1000-0", "0.001, best of 2", "0, 1", "1.0 min for 4"):
        assert text in panel.inner_text()
    curves = page.evaluate("document.getElementById('curve-plot').data.map((t) => t.y.at(-1))")
    assert curves == [2.02, 1.92, 1.82, 1.72]
    assert (
        "GPT2-2-2-bioS-N100000-E1000-0" in page.locator("#explorer-plot .hovertext").text_content()
    )


def test_a_row_of_the_table_shows_its_model(opened: Any) -> None:
    page = opened()
    page.locator("tr[data-model='1']").press("Enter")
    panel = page.locator("#run-panel")
    assert "GPT2-2-2-bioS-N100000-E100-1" in panel.inner_text()
    assert "The metrics of this run were not there" in panel.inner_text()


def test_intervals_are_filtered_and_explained(opened: Any) -> None:
    page = opened()
    form = page.locator("#laws form")
    labels = page.locator("#intervals-plot .annotation-text")
    first = labels.count()
    assert first > 1
    form.locator("[name=secondary]").check()
    assert labels.count() >= first
    form.locator("select").select_option(index=1)
    assert all(text.startswith("1: ") for text in labels.all_text_contents())
    page.locator("#intervals-plot .point").first.hover(force=True)
    assert "accepted" in page.locator("#intervals-plot .hovertext").text_content()


def test_a_figure_leads_to_its_models(opened: Any) -> None:
    page = opened()
    page.locator("#architectures a[data-law]").click()
    assert ratios(page) == [1.55, 1.95]


def test_the_table_of_models_fits_and_its_words_stay_together(opened: Any) -> None:
    page = opened(1280)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    table = page.locator("table.models").first
    # As wide a dataset and model as those of the default study.
    dataset = "bioD, N = 320, C = 2, D = 256".replace(" = ", "\u00a0=\u00a0")
    table.locator("td").nth(0).evaluate("(cell, text) => { cell.textContent = text; }", dataset)
    table.locator("td").nth(1).evaluate("(cell) => { cell.textContent = 'LLaMA-2-2x6-tied'; }")
    width, box = table.evaluate("(each) => [each.scrollWidth, each.parentElement.clientWidth]")
    assert width <= box
    lines = "(cell) => { const range = document.createRange(); range.selectNodeContents(cell);"
    lines += " return new Set([...range.getClientRects()].map((each) => each.top)).size; }"
    assert table.locator("td").nth(0).evaluate(lines) <= 2
    assert table.locator("td").nth(1).evaluate(lines) == 1


def test_a_phone_shows_everything_in_its_width(opened: Any) -> None:
    page = opened(390, is_mobile=True, has_touch=True, device_scale_factor=2)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.locator(MARKERS).first.tap(force=True)
    page.wait_for_selector("#run-panel dl")
    outside = """[...document.querySelectorAll('.annotation-text, .legendtext')].filter(
        (text) => text.getBoundingClientRect().right > 391).length"""
    assert page.evaluate(outside) == 0


def test_print_has_pictures_and_all_verdicts_instead_of_controls(opened: Any) -> None:
    page = opened()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#explorer").is_hidden()
    assert page.locator("nav").is_hidden()
    assert page.locator("#laws img").is_visible()
    assert page.locator("#quantities ~ details table").first.is_visible()
    assert page.pdf()[:4] == b"%PDF"


def test_without_javascript_there_are_pictures_and_tables(opened: Any) -> None:
    page = opened(is_ready=False, java_script_enabled=False)
    assert page.locator("#explorer").is_hidden()
    assert page.locator("noscript").first.is_visible()
    assert page.locator("#laws img").is_visible()
    assert page.locator("tr[data-model]").count() == 3
