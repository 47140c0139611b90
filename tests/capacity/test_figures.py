from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from knowcap.artifacts import files
from knowcap.capacity.comparison_labels import COMPARISONS
from knowcap.capacity.figures import best_models, compared_models, write_figures
from knowcap.capacity.laws import write_laws
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


def test_each_model_is_drawn_at_its_best_learning_rate(study: Path) -> None:
    models = best_models(files.read_dataset(study / "capacity.nc"), "large", laws=(1, 4))
    ratio = models["capacity_ratio"]
    np.testing.assert_allclose(ratio.sel(statistic="mean"), [1.95, 1.05], rtol=1e-9)
    np.testing.assert_allclose(ratio.sel(statistic="sd"), [0.1 / 2**0.5] * 2, rtol=1e-9)


def test_the_standard_deviation_of_one_seed_is_zero(study: Path) -> None:
    models = best_models(files.read_dataset(study / "capacity.nc"), "small", laws=(1,))
    assert models["bits"].sel(statistic="sd").values.tolist() == [0]


def test_every_figure_is_listed_and_written_as_svg_and_png(study: Path) -> None:
    write_figures(study / "capacity.nc", study / "laws.nc", study / "figures")
    listed = files.read_json(study / "figures" / "figures.json")["figures"]
    names = ["capacity-large", "shares-large", "capacity-small", "shares-small", "laws"]
    assert [figure["name"] for figure in listed] == names
    assert all(figure["caption"] for figure in listed)
    for name in names:
        assert ElementTree.parse(study / "figures" / f"{name}.svg").getroot().tag.endswith("svg")
        assert (study / "figures" / f"{name}.png").read_bytes()[1:4] == b"PNG"


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
    assert laws["nobs"].values[ratio.values].tolist() == [
        2,
        2,
    ]  # all, and those with untied embeddings
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
        "no junk", "random junk", "repetitive junk", "random junk, domain token",
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


def test_shapes_that_differ_in_several_parameters_at_once_have_no_figure(tmp_path: Path) -> None:
    shape = {"num_attributes": [2, 8], "num_chunks": [1, 4], "diversity": 100, "chunk_length": 4}
    models = Simulator(np.random.default_rng(1)).models(
        [2.0, 1.9], kind="bioD", knowledge=["one", "other"], alphabet_size=40, **shape
    )
    files.write_dataset(table_of({3: models}), tmp_path / "capacity.nc")
    write_laws(tmp_path / "capacity.nc", tmp_path / "laws.nc", tmp_path / "laws.md")
    write_figures(tmp_path / "capacity.nc", tmp_path / "laws.nc", tmp_path / "figures")
    listed = files.read_json(tmp_path / "figures" / "figures.json")["figures"]
    assert [figure["name"] for figure in listed] == ["laws"]


def test_figures_are_reproducible_bytes(study: Path) -> None:
    for folder in ("first", "second"):
        write_figures(study / "capacity.nc", study / "laws.nc", study / folder)
    first, second = (sorted((study / folder).iterdir()) for folder in ("first", "second"))
    assert [path.name for path in first] == [path.name for path in second]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_older_figures_are_replaced(study: Path) -> None:
    folder = study / "older"
    folder.mkdir()
    (folder / "old.svg").write_text("")
    write_figures(study / "capacity.nc", study / "laws.nc", folder)
    assert not (folder / "old.svg").exists()
