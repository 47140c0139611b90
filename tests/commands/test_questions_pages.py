"""The commands in docs/questions.md and docs/own-measurements.md, followed to the letter."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from knowcap.artifacts import files
from knowcap.capacity.forecast.knowledge_size import bits_of_people
from knowcap.cli import main
from tests.capacity.own_measurements.test_laws import measured

REPOSITORY = Path(__file__).parents[2]
QUESTIONS, MEASUREMENTS = (
    (REPOSITORY / "docs" / name).read_text() for name in ("questions.md", "own-measurements.md")
)
FIGURE = pd.read_csv(REPOSITORY / "docs" / "figure-1a.csv", comment="#")


def commands(page: str) -> list[list[str]]:
    """Arguments of the commands of a page, in order."""
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    lines = [shlex.split(line, comments=True) for line in "".join(blocks).splitlines()]
    assert all(line[0] == "knowcap" for line in lines)
    return [line[1:] for line in lines]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "reference").symlink_to(REPOSITORY / "results" / "reference")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main([path for each in arguments for path in expand(each)])
    out, errors = capsys.readouterr()
    assert (caught.value.code, errors) == (0, "")
    return out


def expand(argument: str) -> list[str]:
    return sorted(map(str, Path().glob(argument))) if "*" in argument else [argument]


def test_every_question_of_the_page_has_a_result(capsys) -> None:
    found = commands(QUESTIONS)
    assert len(found) == 8
    outputs = [run(arguments, capsys) for arguments in found]
    assert all("  the measurements" in out for out in outputs)
    (shown,) = re.findall(r"```text\n(.*?)```", QUESTIONS, re.DOTALL)
    assert shown in outputs[0]
    assert re.search(r"1,000 +the measurements +[0-9,]+ \([0-9,]+ to [0-9,]+\)", outputs[1])


def test_the_measurements_of_the_page_are_fitted_and_predicted_from(folder: Path, capsys) -> None:
    (csv,) = re.findall(r"```text\n(.*?)```", MEASUREMENTS, re.DOTALL)
    Path("figure.csv").write_text(csv)
    for index, share in enumerate((0.7, 0.8)):
        path = folder / f"measured-{index}" / "capacity.nc"
        path.parent.mkdir()
        files.write_dataset(measured("GPTNeoXForCausalLM", share), path)
    fit, ask, fit_both = commands(MEASUREMENTS)
    printed = run(fit, capsys)
    assert (folder / "laws" / "laws.md").read_text() == printed
    laws = files.read_dataset(folder / "laws" / "laws.nc")
    rows = laws[["quantity", "estimate", "verdict", "subset"]].to_dataframe()
    rows = rows[rows["subset"] == ""].set_index("quantity")
    for name, verdict in (
        ("R / R_max of models with R_max up to 1.8", "reproduced"),
        ("R of the largest models", "not testable here"),
    ):
        estimate = f"{rows.loc[name, 'estimate']:.3g}"
        assert rows.loc[name, "verdict"] == verdict
        assert f"is {estimate} and `{verdict}`" in MEASUREMENTS.replace("\n", " ")
    assert re.search(r"the measurements +2,080,000 \(", run(ask, capsys))
    assert "own measurements" in run(fit_both, capsys)


def test_the_page_has_lines_of_the_whole_figure() -> None:
    (csv,) = re.findall(r"```text\n(.*?)```", MEASUREMENTS, re.DOTALL)
    comment, *lines = csv.splitlines()
    assert comment.startswith("#")
    assert "not measured by this project" in comment
    assert set(lines) <= set((REPOSITORY / "docs" / "figure-1a.csv").read_text().splitlines())


def test_parameters_and_bits_of_the_figure_follow_the_paper_s_formulas() -> None:
    width, layers = 64 * FIGURE["heads"], FIGURE["layers"]
    # PAPER appendix A: 3275 tokens occur.
    expected = 3275 * width + layers * (12 * width**2 + 13 * width) + 2 * width
    np.testing.assert_allclose(FIGURE["num_params"], expected, rtol=1e-3)
    most = [bits_of_people(num_people) for num_people in FIGURE["N"]]
    np.testing.assert_allclose(FIGURE["max_bits"], most, rtol=1e-3)
    assert len(FIGURE) == 25
