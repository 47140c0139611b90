"""Tables, CSV and figure of benchmark results."""

from pathlib import Path
from typing import Any

import pytest

from knowcap.artifacts.files import write_json
from knowcap.errors import UserError
from knowcap_benchmarks.cases import CASES
from knowcap_benchmarks.docs_tables import write_tables
from knowcap_benchmarks.plots import draw_growth
from knowcap_benchmarks.tables import load_results

MACHINE = {
    "processor": "a processor",
    "num_cores": 2,
    "vector_flags": ["avx2"],
    "memory_gib": 8.0,
    "device": "cpu",
    "device_name": None,
    "num_threads": 2,
    "load_before": 0.1,
    "load_after": 1.9,
    "products_gflops": {"float32": 100.0, "bfloat16": 50.0},
    "python": "3.11.2",
    "packages": {"torch": "2.13.0", "litgpt": None},
}


def round_of(tokens_per_s: float) -> dict[str, Any]:
    return {
        "tokens_per_s": tokens_per_s,
        "step_ms": 8192e3 / tokens_per_s,
        "num_steps": 9,
        "losses_nats": [8.1, 7.5],
        "num_params": 309_000,
        "start_s": 1.0,
        "gpu_bytes": 0,
        "peak_bytes": 2**30,
    }


def entry(label: str, *rounds: dict[str, Any]) -> dict[str, Any]:
    return {"label": label, "rounds": list(rounds)}


TRAINING = {
    "format": 1,
    "kind": "training",
    "name": "training-2-64",
    "case": CASES["training-2-64"].model_dump(mode="json"),
    "machine": MACHINE,
    "check_steps": 20,
    "implementations": {
        "transformers": entry("transformers GPT2", round_of(1000.0), round_of(2000.0)),
        "litgpt": entry("litgpt", {"failed": "litgpt is not installed"}),
        "knowcap": entry("**knowcap**", round_of(5000.0), round_of(12000.0)),
    },
}

GROWTH = {
    "format": 1,
    "kind": "growth",
    "name": "growth",
    "machine": MACHINE,
    "series": [
        {
            "over": "people",
            "cost": "making a corpus",
            "sizes": [10.0, 100.0],
            "seconds": [1.0, 10.0],
            "peak_bytes": [2**30, 2**30],
            "exponent": 1.0,
        }
    ],
}

OTHERS = [
    {
        "format": 1,
        "kind": "rendering",
        "name": "rendering",
        "machine": MACHINE,
        "corpora": {"bioS": [{"tokens_per_s": 4e7, "peak_bytes": 2**28}]},
    },
    {
        "format": 1,
        "kind": "commands",
        "name": "commands",
        "machine": MACHINE,
        "commands": {"knowcap --version": [0.3, 0.2, 0.9]},
    },
    {
        "format": 1,
        "kind": "stages",
        "name": "stages",
        "study": "default",
        "machine": MACHINE,
        "num_models": 4,
        "stages": {"train": [60.0, 40.0], "render": [0.5, 1.2], "evaluate": [3.0], "laws": [1.0]},
        "largest_render_share": 0.031,
    },
]


@pytest.fixture
def results(tmp_path: Path) -> list[Path]:
    paths = []
    for result in [TRAINING, GROWTH, *OTHERS]:
        paths.append(tmp_path / f"{result['name']}.json")
        write_json(paths[-1], result)
    return paths


def write_all_tables(results: list[Path]) -> str:
    output = results[0].parent / "tables.md"
    write_tables(results, output, None, None, None)
    return output.read_text()


def row(page: str, first: str) -> list[str]:
    line = next(line for line in page.splitlines() if line.startswith(f"| {first} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_stages_and_rendering_are_shares_of_training(results: list[Path]) -> None:
    page = write_all_tables(results)
    assert row(page, "render") == ["render", "2", "1.7", "1.7 %"]
    assert "at most 3.1 % of a training" in page


def test_speeds_are_medians_and_ratios_are_within_rounds(results: list[Path]) -> None:
    cells = row(write_all_tables(results), "**knowcap**")
    assert cells[1:4] == ["8,500", "964", "5.50 (5.00 to 6.00)"]
    assert cells[-2:] == ["8.10, 7.50", "1.00"]


def test_the_share_of_peak_counts_the_operations_of_the_model(results: list[Path]) -> None:
    # 6 (V d + 12 l d^2) + 6 l d (S + 1) operations per token
    flops = 6 * (3275 * 64 + 12 * 2 * 64**2) + 6 * 2 * 64 * 513
    assert row(write_all_tables(results), "**knowcap**")[4] == f"{100 * flops * 8500 / 100e9:.0f} %"


def test_a_missing_peer_has_its_reason_in_the_table(results: list[Path]) -> None:
    assert row(write_all_tables(results), "litgpt")[1] == "litgpt is not installed"


def test_every_kind_of_result_has_a_table(results: list[Path]) -> None:
    page = write_all_tables(results)
    assert row(page, "bioS")[1:] == ["40,000,000", "0.25"]
    assert row(page, "`knowcap --version`")[1] == "0.30"
    assert row(page, "evaluate")[1:] == ["1", "3.0", "3.0 %"]
    assert row(page, "people")[1:5] == ["making a corpus", "10 to 100", "1 to 10", "1.00"]
    assert page.count("load before and after 0.1 and 1.9") == 5


def test_a_comparison_has_a_csv_with_all_rounds(results: list[Path]) -> None:
    write_all_tables(results)
    lines = (results[0].parent / "training-2-64.csv").read_text().splitlines()
    assert lines[0].startswith("case,implementation,round,tokens_per_s")
    assert len(lines) == 1 + 5
    assert lines[-1].startswith("training-2-64,knowcap,1,12000.0")


def test_tables_replace_the_text_between_markers(results: list[Path]) -> None:
    page, readme = (results[0].parent / name for name in ("performance.md", "README.md"))
    page.write_text("# P\n\n<!-- benchmarks:begin -->\nold\n<!-- benchmarks:end -->\n\nEnd.\n")
    readme.write_text("# R\n\n<!-- speed:begin -->\nold\n<!-- speed:end -->\n\nEnd.\n")
    for _ in range(2):
        write_tables(results, None, None, page, readme)
    for path in (page, readme):
        assert "old" not in path.read_text()
        assert path.read_text().endswith(":end -->\n\nEnd.\n")
    assert "making a corpus" in page.read_text()
    assert row(readme.read_text(), "**knowcap**") == ["**knowcap**", "8,500"]
    assert row(page.read_text(), "litgpt")[1] == "litgpt is not installed"
    assert "litgpt" not in readme.read_text()


@pytest.mark.parametrize("text", ["", "<!-- speed:end --> <!-- speed:begin -->"])
def test_a_page_without_markers_is_a_user_error_and_unchanged(
    results: list[Path], text: str
) -> None:
    readme = results[0].parent / "README.md"
    readme.write_text(text)
    with pytest.raises(UserError, match="speed:begin"):
        write_tables(results, None, None, None, readme)
    assert readme.read_text() == text


def test_growth_is_drawn_as_svg(tmp_path: Path) -> None:
    draw_growth(GROWTH, tmp_path / "growth.svg")
    text = (tmp_path / "growth.svg").read_text()
    assert text.startswith("<?xml")
    assert "making a corpus (1.00)" in text or "<use" in text


def test_a_file_that_is_no_result_is_a_user_error(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"format": 1})
    with pytest.raises(UserError, match="not a result of"):
        load_results([tmp_path / "a.json"])
    with pytest.raises(UserError, match="missing"):
        load_results([tmp_path / "b.json"])
