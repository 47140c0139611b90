"""Commands `ask` and `fit`: texts, JSON, and every mistake of the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from knowcap.cli import main

REPOSITORY = Path(__file__).parents[2]
FIGURE = REPOSITORY / "docs" / "figure-1a.csv"


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


def run_command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    """Run a command; return its exit code, its output and its error output."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code, *capsys.readouterr()


def ask(capsys: pytest.CaptureFixture[str], *options: object) -> str:
    code, out, errors = run_command(capsys, "ask", *options)
    assert (code, errors) == (0, "")
    return out


def ask_json(capsys: pytest.CaptureFixture[str], *options: object) -> dict[str, Any]:
    values = json.loads(ask(capsys, *options, "--json"))
    assert isinstance(values, dict)
    return values


def test_far_outside_of_the_kept_table_only_the_paper_has_a_number(capsys) -> None:
    options = ("--bits", "14e9", "--exposures", "1000", "--gpu", "H100")
    out = ask(capsys, *options)
    lines = out.splitlines()
    assert lines[0] == "Parameters that are needed:"
    assert lines[2].split() == ["exposures", "E", "source", "parameters", "P", "H100-hours"]
    assert lines[4].split() == ["1,000", "the", "measurements", "[a]", "not", "predicted", "-"]
    assert lines[5].split()[:4] == ["1,000", "the", "paper", "7e9"]
    assert "times above the largest that this fit can predict" in out
    assert "The measurements: results/reference/two-cores/capacity.nc, scale 'scale model'" in out
    assert "the paper's smallest model is 23.7 times larger" in out
    assert "7e9 parameters are 14 times above the sizes of the paper's models." in lines
    explained = ask(capsys, *options, "--explain")
    assert explained.startswith(out.split("\n\nKnowledge: ", 1)[0])
    assert "law 1 (base law): inconclusive" in explained
    assert "FLOPs 6 P D" in explained


def test_the_result_comes_first_and_the_rest_is_short(capsys) -> None:
    out = ask(capsys, "--bits", "40000", "--exposures", "1000")
    assert re.search(r"^1,000 +the measurements +2[0-9,]+ \([0-9,]+ to [0-9,]+\)$", out, re.M)
    assert out.index("the measurements") < out.index("Knowledge: ")
    assert len(out.splitlines()) <= 16
    assert "law 1" not in out


def test_the_largest_model_has_its_parameters_and_bits(capsys) -> None:
    out = ask(capsys, "--gpu", "H100", "--hours", "24", "--exposures", "1000")
    header = out.splitlines()[2]
    assert re.split(r"  +", header)[2:] == ["parameters P", "bits it can store", "H100-hours"]


def test_inside_of_the_kept_table_there_is_a_prediction_interval(capsys) -> None:
    values = ask_json(capsys, "--bits", "40000", "--exposures", "1000")
    table, paper = values["forecasts"]
    size = table["num_params"]
    assert size["lower"] < size["estimate"] < size["upper"]
    assert 15_000 < size["estimate"] < 27_000
    assert table["refused"] is None
    assert table["outside_factor"] == 1
    assert table["gpu_hours"] == dict.fromkeys(("estimate", "lower", "upper"))
    assert paper["source"] == "paper"
    assert paper["num_params"]["estimate"] == 20_000
    assert values["scale"] == "scale model"


def test_people_have_the_paper_s_bits_and_a_size_its_parameters(capsys) -> None:
    out = ask(capsys, "--people", "50000", "--size", "12-12", "--exposures", "1000")
    assert "50,000 people of bioS with 59.24 bits each (paper, Definition 4.3)" in out
    assert "Model: GPT2-12-12, 87,601,152 parameters with 3,314 tokens" in out
    assert "N = 50,000 people lie outside of the measurements, 49 times." in out


def test_a_size_alone_has_the_vocabulary_of_gpt2_or_the_given_one(capsys) -> None:
    options = ("--size", "12-12", "--exposures", "1000", FIGURE)
    assert "with 50,257 tokens (the whole vocabulary of GPT-2)" in ask(capsys, *options)
    # PAPER appendix A: 3275 tokens occur, and GPT2-12-12 has 88 million parameters then.
    out = ask(capsys, *options, "--vocab-size", "3275")
    assert "87,571,200 parameters with 3,275 tokens (--vocab-size)" in out


def test_a_text_is_an_upper_bound_and_is_called_one(capsys, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text((REPOSITORY / "README.md").read_text())
    out = ask(capsys, "--text", text, "--exposures", "1000")
    assert "Knowledge: at most " in out
    assert "This is an upper bound" in out
    assert "tokens of GPT-2's tokenizer in the text." in out


def test_measurements_made_elsewhere_take_the_place_of_a_study(capsys) -> None:
    values = ask_json(capsys, "--bits", "1e7", "--exposures", "1000", FIGURE)
    table, paper = values["forecasts"]
    assert table["num_params"]["lower"] < 5e6 < table["num_params"]["upper"]
    assert paper["num_params"]["estimate"] == 5e6
    law_1, _ = values["verdicts"]
    assert law_1.startswith("law 1 (base law): not testable here; R of the largest models: 2.09")
    assert "to R at the next rate: not shown by this table, at most 1.14 needed" in law_1


def test_quantised_weights_have_the_verdict_on_law_8_beside_them(capsys) -> None:
    out = ask(capsys, "--bits", "20000", "--exposures", "1000", "--precision", "int4", "--explain")
    assert "law 8 (quantisation): not testable here; R in int4, relative to R as trained" in out
    assert "Weights: int4" in out


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ([], ["nothing is given: the knowledge (--bits, --people or --text), the model (--params"]),
        (["--exposures", 100], ["nothing is given"]),
        (["--bits", 1, "--people", 2], ["--bits and --people: only one of --bits, --people and"]),
        (
            ["--size", "12", "--hours", 3, "--utilization", 2, "--people", 2 * 10**8],
            [
                "--hours: needs --gpu, one of V100, A100",
                "--utilization: needs --gpu",
                "--utilization: 2 is not allowed; at most 1",
                "--people: 200000000 is more than the number of distinct names, 160000000",
                "--size: '12' is not allowed; layers-heads is expected, such as 12-12",
            ],
        ),
        (["--params", 1e6, "--size", "2-2"], ["--params and --size: only one of --params and"]),
        (["--params", 1e6, "--vocab-size", 9], ["--vocab-size: needs --size"]),
        (["--text", "absent.txt"], ["--text: absent.txt: no such file"]),
        (["--bits", 1e4, "absent"], ["absent/capacity.nc: missing"]),
        (["--bits", 1e4, "absent.csv"], ["absent.csv: cannot be read: No such file"]),
        (
            ["--bits", 1e4, "results/reference/paper-cells"],
            ["results/reference/paper-cells/capacity.nc: "],
        ),
        (["--bits", 1e4, "--scale", "large"], ["results/reference/two-cores/capacity.nc: --scale"]),
        (
            ["--bits", 1e4, "--family", "LLaMA", FIGURE],
            [f"{FIGURE}: no law can be fitted at scale 'own measurements' of the table"],
        ),
        (["--bits", 0], ["argument --bits: '0' is not a positive number"]),
        (["--bits", "14 GB"], ["argument --bits: '14 GB' is not a finite number of at least 0"]),
        (["--people", 1.5], ["argument --people: '1.5' is not an integer from 1 to 1000000000"]),
        (["--gpu", "TPU"], ["argument --gpu: invalid choice: 'TPU'"]),
        (["--precision", "int3"], ["argument --precision: invalid choice: 'int3'"]),
        (["--family", "GPT3"], ["argument --family: invalid choice: 'GPT3'"]),
    ],
)  # fmt: skip
def test_every_mistake_is_a_line_and_exit_code_2(capsys, options, messages) -> None:
    code, out, errors = run_command(capsys, "ask", *options)
    assert (code, out) == (2, "")
    assert len(errors.splitlines()) == len(messages)
    for line, message in zip(errors.splitlines(), messages, strict=True):
        assert message in line


def test_without_kept_results_a_study_is_needed(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, errors = run_command(capsys, "ask", "--bits", 1e4)
    assert code == 2
    assert errors == (
        "knowcap: STUDY: missing; results/reference/desktop, results/reference/two-cores are not "
        "in this folder, so a study is needed\n"
    )


def test_mistakes_of_a_table_are_lines_and_nothing_is_written(capsys, tmp_path: Path) -> None:
    table, output = tmp_path / "mine.csv", tmp_path / "laws"
    table.write_text("N,E,P,R,R_max\n10,1000,5,3,2\nx,1000,5,1,2\n")
    code, out, errors = run_command(capsys, "fit", "--table", table, "--output", output)
    assert (code, out) == (2, "")
    assert errors.splitlines() == [
        f"knowcap: {table}: line 2: R: 3 is more than max_capacity_ratio, 2",
        f"knowcap: {table}: line 3: N: 'x' is not a number",
    ]
    assert not output.exists()


def test_a_folder_with_files_is_refused_before_the_laws_are_computed(capsys, tmp_path) -> None:
    (tmp_path / "mine").touch()
    code, out, errors = run_command(capsys, "fit", "--table", FIGURE, "--output", tmp_path)
    assert (code, out) == (2, "")
    assert str(tmp_path) in errors
