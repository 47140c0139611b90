from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from knowcap.artifacts import files
from knowcap.capacity.best_models import best_models, compared_models
from knowcap.capacity.comparison_labels import COMPARISONS
from knowcap.capacity.figures import write_figures
from knowcap.capacity.laws import LAWS, write_laws
from knowcap.capacity.plots import draw_bits, draw_comparison, draw_shapes
from knowcap.capacity.plots.plot_style import MAX_WIDTH, assign_styles
from knowcap.capacity.table import ExperimentLabel
from knowcap.config.architecture_presets import ARCHITECTURE_PRESETS
from tests.capacity.laws.simulated_models import Simulator, table_of
from tests.capacity.laws.synthetic_studies import STUDIES
from tests.capacity.simulated_results import SimulatedResults


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Table and laws of two scales, one of them with one seed and one number of exposures."""
    simulation = SimulatedResults(tmp_path_factory.mktemp("study"))
    simulation.add([1.9, 2.0, 1.7, 1.8], num_people=100_000, lr=[1e-3, 2e-3])
    simulation.add([1.0, 1.1], num_people=100_000, exposures=100, experiments=["rare"])
    simulation.add([0.2], kind="bioD", exposures=20, kv_channels=8, experiments=["small"])
    table = simulation.table(
        base=ExperimentLabel((1,), "large"),
        rare=ExperimentLabel((4,), "large"),
        small=ExperimentLabel((1,), "small"),
    )
    write_laws(table, table.with_name("laws.nc"), table.with_name("laws.md"))
    return table.parent


@pytest.fixture(scope="module")
def figures(study: Path) -> Path:
    """The figures of the study."""
    write_figures(study / "capacity.nc", study / "laws.nc", study / "figures")
    return study / "figures"


def test_each_model_is_drawn_at_its_best_learning_rate(study: Path) -> None:
    models = best_models(files.read_dataset(study / "capacity.nc"), "large", laws=(1, 4))
    ratio = models["capacity_ratio"]
    np.testing.assert_allclose(ratio.sel(statistic="mean"), [1.95, 1.05], rtol=1e-9)
    np.testing.assert_allclose(ratio.sel(statistic="sd"), [0.1 / 2**0.5] * 2, rtol=1e-9)


def test_the_standard_deviation_of_one_seed_is_zero(study: Path) -> None:
    models = best_models(files.read_dataset(study / "capacity.nc"), "small", laws=(1,))
    assert models["bits"].sel(statistic="sd").values.tolist() == [0]


def test_every_figure_is_listed_and_written_in_three_formats(figures: Path) -> None:
    listed = files.read_json(figures / "figures.json")["figures"]
    names = ["capacity-large", "shares-large", "capacity-small", "shares-small", "laws"]
    assert [figure["name"] for figure in listed] == names
    assert all(figure["caption"] for figure in listed)
    for name in names:
        assert ElementTree.parse(figures / f"{name}.svg").getroot().tag.endswith("svg")
        assert (figures / f"{name}.png").read_bytes()[1:4] == b"PNG"
        assert (figures / f"{name}.pdf").read_bytes()[:4] == b"%PDF"


def test_equal_inputs_give_equal_figures_and_replace_older_ones(study: Path, figures: Path) -> None:
    again = study / "again"
    again.mkdir()
    (again / "old.svg").write_text("")
    write_figures(study / "capacity.nc", study / "laws.nc", again)
    found, expected = (
        {path.name: path.read_bytes() for path in folder.iterdir()} for folder in (again, figures)
    )
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


def test_a_new_architecture_appears_in_table_laws_and_figures(
    simulation: SimulatedResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ARCHITECTURE_PRESETS, "GPT2_swiglu", {"gated": True, "activation": "silu"})
    for family in ("GPT2", "GPT2_swiglu", "LLaMA"):
        for size in ((2, 2), (4, 2)):
            simulation.add([1.9, 2.0], num_people=100_000, size=size, family=family)
    path = simulation.table(base=ExperimentLabel((1, 5), "paper"))
    write_laws(path, path.with_name("laws.nc"), path.with_name("laws.md"))
    laws = files.read_dataset(path.with_name("laws.nc"))
    ratio = (laws["law"] == 5) & (laws["quantity"] == "R of LLaMA, relative to GPT2 of equal size")
    assert laws["num_cells"].values[(ratio & (laws["subset"] == "")).values].tolist() == [2]
    table = files.read_dataset(path)
    families = next(c for c in COMPARISONS if c.name == "architectures")
    groups = compared_models(table, "paper", families)["group"].values.tolist()
    assert groups == ["GPT2", "GPT2", "GPT2_swiglu", "GPT2_swiglu", "LLaMA", "LLaMA"]
    write_figures(path, path.with_name("laws.nc"), path.with_name("figures"))
    assert (path.with_name("figures") / "architectures.svg").exists()


FIGURES_BY_LAW = {
    2: ["formats"], 3: ["shapes"], 5: ["architectures"], 7: ["effects"], 8: ["quantisation"],
    9: ["experts"], 10: ["junk"], 12: ["junk"],
}  # fmt: skip


@pytest.mark.parametrize(("law", "names"), FIGURES_BY_LAW.items())
def test_each_law_has_its_figure(tmp_path: Path, law: int, names: list[str]) -> None:
    models = STUDIES[law][0](Simulator(np.random.default_rng(1)))
    files.write_dataset(table_of({law: models}), tmp_path / "capacity.nc")
    write_laws(tmp_path / "capacity.nc", tmp_path / "laws.nc", tmp_path / "laws.md")
    write_figures(tmp_path / "capacity.nc", tmp_path / "laws.nc", tmp_path / "figures")
    listed = files.read_json(tmp_path / "figures" / "figures.json")["figures"]
    assert [figure["name"] for figure in listed] == [*names, "laws"]


def test_the_groups_of_a_comparison_have_labels(tmp_path: Path) -> None:
    sim = Simulator(np.random.default_rng(1))
    models = pd.concat([STUDIES[law][0](sim) for law in (10, 11, 12)])
    files.write_dataset(table_of({10: models}), tmp_path / "capacity.nc")
    table = files.read_dataset(tmp_path / "capacity.nc")
    junk = next(c for c in COMPARISONS if c.name == "junk")
    compared = compared_models(table, "simulated", junk)
    assert set(compared["group"].values) == {
        "no junk, 100 exposures", "random junk", "repetitive junk", "random junk, domain token",
    }  # fmt: skip


def test_formats_are_compared_with_fresh_biographies_of_the_same_people(tmp_path: Path) -> None:
    sim = Simulator(np.random.default_rng(1))
    fresh = sim.models([2.0, 1.9], num_people=[1000, 2000], knowledge=["bioS(1000)", "bioS(2000)"])
    fixed = sim.models([1.8], kind="bioS-simple", knowledge="bioS-simple(1000)", num_versions=1)
    files.write_dataset(table_of({1: fresh, 2: fixed}), tmp_path / "capacity.nc")
    formats = next(c for c in COMPARISONS if c.name == "formats")
    compared = compared_models(files.read_dataset(tmp_path / "capacity.nc"), "simulated", formats)
    assert compared["group"].values.tolist() == ["fresh biographies", "one fixed biography"]
    assert compared["num_people"].values.tolist() == [1000, 1000]


def shapes_of(ratios: list[float], **shape: Any) -> xr.Dataset:
    columns = {"diversity": 100, "chunk_length": 4, "alphabet_size": 40} | shape
    names = [f"shape {index}" for index in range(len(ratios))]
    models = Simulator(np.random.default_rng(1)).models(
        ratios, kind="bioD", knowledge=names, **columns
    )
    return best_models(table_of({3: models}), "simulated", laws=(3,))


def test_every_shape_is_a_row_named_by_what_differs_from_the_base() -> None:
    shape = {"num_attributes": [2, 8, 8, 8], "num_chunks": [1, 4, 1, 1], "diversity": [9, 9, 9, 7]}
    models = shapes_of([2.0, 0.1, 1.9, 1.8], **shape)
    drawing = draw_shapes(models, "simulated", 2.0)
    (ax,) = drawing.figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "K = 8, C = 1, D = 9, L = 4, T = 40", "K = 2", "C = 4", "D = 7",
    ]  # fmt: skip
    drawn = [x for line in ax.get_lines() for x in line.get_xdata() if line.get_marker() == "o"]
    assert min(drawn) == pytest.approx(0.1, rel=0.1)  # the worst shape


def test_axes_do_not_zoom_into_noise() -> None:
    models = best_models(
        table_of({1: Simulator(np.random.default_rng(1)).models([1.9, 1.9])}), "simulated", (1,)
    )
    models = models.assign(group=("measurement", ["N = 1,000"] * 2))
    bits = draw_bits(models, assign_styles(["N = 1,000"]), [1000], "a title")
    for low, high in (bits.figure.axes[0].get_xlim(), bits.figure.axes[0].get_ylim()):
        assert high / low >= 9.99
    compared = models.assign(group=("measurement", ["one", "other"]))
    drawing = draw_comparison(compared, "a title", "", baseline="one", factors={})
    ax = drawing.figure.axes[0]
    assert ax.get_ylim()[0] == 0
    assert ax.get_xlim()[1] / ax.get_xlim()[0] >= 5.99


def test_models_of_equal_size_are_drawn_beside_each_other() -> None:
    models = best_models(
        table_of({1: Simulator(np.random.default_rng(1)).models([1.9, 1.9])}), "simulated", (1,)
    ).assign(group=("measurement", ["one", "other"]))
    (ax,) = draw_comparison(models, "", "", baseline="one", factors={}).figure.axes
    ax.figure.draw_without_rendering()
    markers = [line for line in ax.get_lines() if line.get_marker() in ("o", "s")]
    places = [line.get_transform().transform(line.get_xydata())[0][0] for line in markers]
    assert abs(places[1] - places[0]) > 5


def test_a_group_in_the_middle_of_others_has_no_line() -> None:
    models = best_models(
        table_of({1: Simulator(np.random.default_rng(1)).models([1.9, 1.8, 1.7])}),
        "simulated",
        (1,),
    )
    groups = models.assign(group=("measurement", ["one", "two", "three"]))
    drawing = draw_comparison(groups, "", "", baseline="one", factors={})
    (ax,) = drawing.figure.axes
    assert "Lines join" not in drawing.caption
    assert [line for line in ax.get_lines() if line.get_linestyle() == "-"] == []


def test_the_claim_of_the_paper_is_drawn_relative_to_the_baseline() -> None:
    models = best_models(
        table_of({1: Simulator(np.random.default_rng(1)).models([2.0, 1.9])}), "simulated", (1,)
    ).assign(group=("measurement", ["one", "other"]))
    factors = {("other", 1000): 0.5}
    drawing = draw_comparison(models, "", "", baseline="one", factors=factors)
    dashes = [line for line in drawing.figure.axes[0].get_lines() if line.get_marker() == "_"]
    baseline = float(models["capacity_ratio"].sel(statistic="mean")[0])
    claimed = [line for line in dashes if len(line.get_xdata()) == 1]
    assert baseline / 2 in [pytest.approx(line.get_ydata()[0]) for line in claimed]
    assert "its factor times" in drawing.caption


CLAIMS = [
    ("architectures", "LLaMA", 1000), ("architectures", "GPT2 without MLPs", 100),
    ("formats", "one fixed biography", 1000), ("formats", "40 fixed biographies", 1000),
    ("quantisation", "int4, GPTQ", 1000), ("experts", "32 experts", 100),
    ("junk", "random junk", 600), ("junk", "random junk, domain token", 300),
]  # fmt: skip


@pytest.mark.parametrize(("name", "label", "exposures"), CLAIMS)
def test_the_claim_of_a_group_is_a_quantity_of_its_law(
    name: str, label: str, exposures: int
) -> None:
    comparison = next(c for c in COMPARISONS if c.name == name)
    number, quantity = comparison.claim(label, exposures)
    assert number in comparison.laws
    assert quantity in [each.name for each in LAWS[number - 1].quantities]


def test_bios_is_drawn_in_both_scorings(study: Path) -> None:
    table = files.read_dataset(study / "capacity.nc")
    models = best_models(table, "large", laws=(1, 4))
    models = models.assign(group=("measurement", ["N = 100,000"] * 2))
    drawing = draw_bits(models, assign_styles(["N = 100,000"]), [1000], "a title")
    (ax,) = drawing.figure.axes
    in_context = float(models["bits_in_context"].sel(statistic="mean")[0])
    open_markers = [line for line in ax.get_lines() if line.get_markerfacecolor() == "white"]
    assert [float(line.get_ydata()[0]) for line in open_markers] == [in_context]
    assert in_context > float(models["bits"].sel(statistic="mean")[0])


def test_no_figure_is_wider_than_the_report(figures: Path) -> None:
    for path in figures.glob("*.svg"):
        width = ElementTree.parse(path).getroot().get("width")
        assert float(str(width).removesuffix("pt")) <= 72 * MAX_WIDTH + 1, path.name
