"""Results of benchmarks as tables for the documentation, put between its markers.

Every number is read from the results; what is missing or failed says so in its place.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from knowcap import records
from knowcap.benchmarks.cases import Case
from knowcap.benchmarks.commands import medians
from knowcap.benchmarks.rounds import Answer, ratio
from knowcap.cost import flops_per_token
from knowcap.errors import UserError

Results = Mapping[str, dict[str, Any]]
"""By the name of their files."""

BEGIN, END = "<!-- {}:begin -->", "<!-- {}:end -->"

SHORT = ("transformers", "transformers-bf16-compiled", "litgpt", "megatron", "plain-bf16")
"""Beside ours in the README."""


def load_results(paths: Sequence[Path]) -> Results:
    """Read results of benchmarks.

    Raises
    ------
    UserError
        If one is missing or damaged, or is none of a benchmark.
    """
    found = {path.stem: records.read_json(path) for path in paths}
    for path, result in zip(paths, found.values(), strict=True):
        if result.get("kind") not in SECTIONS:
            raise UserError(f"{path}: not the result of a benchmark")
    return found


def write_tables(
    paths: Sequence[Path],
    output: Path | None,
    figure: Path | None,
    page: Path | None,
    readme: Path | None,
) -> None:
    """Write results as tables, each to where it is wanted.

    Parameters
    ----------
    paths
        Results, as :func:`knowcap.benchmarks.measure` made them.
    output
        Gets all tables, and beside it a CSV of each comparison.
    figure
        Gets the growth of costs as SVG.
    page, readme
        Get all tables, or the comparisons of training in short, between their markers.

    Raises
    ------
    UserError
        If a result is missing, or markers are.
    """
    results = load_results(paths)
    if output is not None:
        records.write_text(output, performance_page(results) + "\n")
        for name, result in results.items():
            if result["kind"] == "training":
                records.write_text(output.with_name(f"{name}.csv"), csv_table(result))
    if figure is not None:
        from knowcap.benchmarks.plots import draw_growth

        growth = [result for result in results.values() if result["kind"] == "growth"]
        if not growth:
            raise UserError("--figure: no growth among the results")
        draw_growth(growth[0], figure)
    if page is not None:
        put_between(page, "benchmarks", performance_page(results))
    if readme is not None:
        put_between(readme, "speed", readme_table(results))


def performance_page(results: Results) -> str:
    """Write all results as Markdown, in the order of their kinds."""
    parts = [
        _section(result)
        for kind in SECTIONS
        for result in results.values()
        if result["kind"] == kind
    ]
    return "\n\n".join(parts)


def readme_table(results: Results) -> str:
    """Write the comparisons of training in a few lines: one column for each case."""
    found = [result for result in results.values() if result["kind"] == "training"]
    if not found:
        raise UserError("benchmark: no comparison of trainings among the results")
    ours = ("knowcap", "knowcap-bf16")
    names = [
        name
        for name in (*SHORT, *ours)
        if any(name in result["implementations"] for result in found)
    ]
    head = ["tokens per second", *(result["case"]["title"] for result in found)]
    rows = [
        [_label(found, name), *(_cell(result["implementations"].get(name)) for result in found)]
        for name in names
    ]
    return f"{_table(head, rows)}\n\n{machine_line(found[0]['machine'])}"


def csv_table(result: dict[str, Any]) -> str:
    """Write a comparison as CSV: a row for each implementation and round."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "implementation", "round", "tokens_per_s", "step_ms", "peak_bytes"])
    for name, entry in result["implementations"].items():
        for number, answer in enumerate(entry["rounds"]):
            values = [answer.get(key, "") for key in ("tokens_per_s", "step_ms", "peak_bytes")]
            writer.writerow([result["name"], name, number, *values])
    return text.getvalue()


def put_between(path: Path, name: str, text: str) -> None:
    """Put a text between the markers of a page.

    Raises
    ------
    UserError
        If the markers are not there, once each and in order.
    """
    begin, end = BEGIN.format(name), END.format(name)
    page = path.read_text(encoding="utf-8")
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(end) < page.index(begin):
        raise UserError(f"{path}: {begin} and {end} must stand there once each, in this order")
    before, rest = page.split(begin)
    after = rest.split(end)[1]
    records.write_text(path, f"{before}{begin}\n\n{text}\n\n{end}{after}")


def machine_line(machine: dict[str, Any]) -> str:
    """Describe the machine in a sentence or two."""
    where = machine["device_name"] or machine["processor"]
    vectors = ", ".join(machine["vector_flags"]) or "no vector extensions known"
    peak = machine["products_gflops"]
    speed = " and ".join(f"{value:.0f} in {dtype}" for dtype, value in peak.items())
    packages = ", ".join(
        f"{name} {number}" for name, number in machine["packages"].items() if number
    )
    return (
        f"{where} ({vectors}), {machine['num_threads']} of {machine['num_cores']} cores; large "
        f"products of matrices reach {speed} GFLOP/s; load before and after "
        f"{machine['load_before']} and {machine['load_after']}; {packages}."
    )


def _section(result: dict[str, Any]) -> str:
    title = result["case"]["title"] if result["kind"] == "training" else TITLES[result["kind"]]
    heading = f"### {title[0].upper()}{title[1:]}"
    return f"{heading}\n\n{SECTIONS[result['kind']](result)}\n\n{machine_line(result['machine'])}"


def _training(result: dict[str, Any]) -> str:
    """Write a row for each implementation, with its ratio to the baseline over rounds."""
    case = Case.model_validate(result["case"])
    entries = result["implementations"]
    base = entries[case.baseline]["rounds"]
    base_label = entries[case.baseline]["label"]
    head = [
        *("implementation", "tokens/s", "ms per model and step", f"times {base_label}"),
        *("of the products' peak", "parameters", f"loss at 0 and {result['check_steps']} steps"),
        "GiB",
    ]
    rows = [
        [
            entry["label"],
            *_training_cells(case, result["machine"], entry["rounds"], base),
        ]
        for entry in entries.values()
    ]
    return _table(head, rows)


def _training_cells(
    case: Case, machine: dict[str, Any], rounds: Sequence[Answer], base: Sequence[Answer]
) -> list[str]:
    """Write what is known of one implementation."""
    if "failed" in rounds[-1]:
        return [str(rounds[-1]["failed"]).replace("|", "/"), *["-"] * 6]
    speeds = [answer["tokens_per_s"] for answer in rounds]
    speed = statistics.median(speeds)
    times = "-"
    if "failed" not in base[-1]:
        over = ratio(speeds, [answer["tokens_per_s"] for answer in base])
        times = f"{over.median:.2f} ({over.low:.2f} to {over.high:.2f})"
    first, last = rounds[0]["losses_nats"] or (float("nan"), float("nan"))
    memory = max(answer["gpu_bytes"] or answer["peak_bytes"] for answer in rounds)
    return [
        f"{speed:,.0f}",
        f"{1e3 * case.step_tokens / speed:.3g}",
        times,
        _share_of_peak(case, machine, speed),
        f"{rounds[0]['num_params']:,}",
        f"{first:.2f}, {last:.2f}",
        f"{memory / 2**30:.2f}",
    ]


def _share_of_peak(case: Case, machine: dict[str, Any], speed: float) -> str:
    """Write the arithmetic of a second as a share of what the fastest products reach."""
    from knowcap.benchmarks.cases import architecture_of

    flops = flops_per_token(architecture_of(case), case.vocab_size, case.seq_length)
    peak = 1e9 * max(machine["products_gflops"].values())
    return f"{100 * flops * speed / peak:.0f} %"


def _rendering(result: dict[str, Any]) -> str:
    head = ["corpus", "tokens/s on one core", "GiB"]
    rows = [
        [name, _cell({"rounds": answers}), _memory(answers)]
        for name, answers in result["corpora"].items()
    ]
    return _table(head, rows)


def _commands(result: dict[str, Any]) -> str:
    times = medians(result["commands"])
    return _table(
        ["command", "s"], [[f"`{name}`", f"{value:.2f}"] for name, value in times.items()]
    )


def _stages(result: dict[str, Any]) -> str:
    stages = result["stages"]
    trained = sum(stages["train"])
    rows = [
        [name, str(len(times)), f"{sum(times):.1f}", f"{100 * sum(times) / trained:.1f} %"]
        for name, times in stages.items()
    ]
    head = ["stage", "jobs", "s on one core", "of training"]
    return f"The study `{result['study']}`, job by job:\n\n{_table(head, rows)}"


def _growth(result: dict[str, Any]) -> str:
    rows = []
    for series in result["series"]:
        sizes, seconds, memory = series["sizes"], series["seconds"], series["peak_bytes"]
        slope = series["exponent"]
        rows.append(
            [
                series["over"],
                series["cost"],
                f"{sizes[0]:.3g} to {sizes[-1]:.3g}",
                f"{seconds[0]:.3g} to {seconds[-1]:.3g}",
                "-" if slope is None else f"{slope:.2f}",
                f"{memory[0] / 2**30:.2f} to {memory[-1] / 2**30:.2f}",
            ]
        )
    head = ["over", "cost", "size", "s", "exponent", "GiB"]
    return _table(head, rows)


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "training": _training,
    "rendering": _rendering,
    "growth": _growth,
    "stages": _stages,
    "commands": _commands,
}

TITLES = {
    "rendering": "rendering",
    "growth": "growth",
    "stages": "stages of a study",
    "commands": "commands",
}


def _label(results: Sequence[dict[str, Any]], name: str) -> str:
    return str(
        next(
            result["implementations"][name]["label"]
            for result in results
            if name in result["implementations"]
        )
    )


def _cell(entry: Mapping[str, Any] | None) -> str:
    """Write a speed, why there is none, or a dash where none was asked for."""
    if entry is None:
        return "-"
    if "failed" in entry["rounds"][-1]:
        return str(entry["rounds"][-1]["failed"]).replace("|", "/")
    return f"{statistics.median(answer['tokens_per_s'] for answer in entry['rounds']):,.0f}"


def _memory(rounds: Sequence[Answer]) -> str:
    return f"{max(answer.get('peak_bytes', 0) for answer in rounds) / 2**30:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
