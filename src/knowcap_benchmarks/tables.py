"""Benchmark results as Markdown tables.

Every number comes from the results. A failed or missing measurement shows its reason or a dash.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from knowcap.artifacts import files
from knowcap.errors import UserError
from knowcap.planning.cost import flops_per_token
from knowcap_benchmarks import threads
from knowcap_benchmarks.cases import Case, case_architecture
from knowcap_benchmarks.commands import median_times
from knowcap_benchmarks.interleave import WorkerResult, ratio

Results = Mapping[str, dict[str, Any]]
"""Results by the names of their files."""


def load_results(paths: Sequence[Path]) -> Results:
    """Read benchmark results from JSON files.

    Raises
    ------
    UserError
        If a file is missing, damaged, or not a benchmark result.
    """
    results = {path.stem: files.read_json(path) for path in paths}
    for path, result in zip(paths, results.values(), strict=True):
        if result.get("kind") not in SECTIONS:
            raise UserError(f"{path}: not a result of `python -m knowcap_benchmarks run`")
    return results


def all_tables(results: Results) -> str:
    """All results as Markdown, in the order of :data:`SECTIONS`."""
    parts = [
        _section(result)
        for kind in SECTIONS
        for result in results.values()
        if result["kind"] == kind
    ]
    return "\n\n".join(parts)


def machine_sentence(machine: dict[str, Any]) -> str:
    """Sentence about the machine of a result."""
    device = machine["device_name"] or machine["processor"]
    vectors = ", ".join(machine["vector_flags"]) or "no vector extensions known"
    gflops = machine["products_gflops"]
    speed = " and ".join(f"{value:.0f} in {dtype}" for dtype, value in gflops.items())
    packages = ", ".join(
        f"{name} {number}" for name, number in machine["packages"].items() if number
    )
    return (
        f"{device} ({vectors}), {machine['num_threads']} of {machine['num_cores']} cores; large "
        f"products of matrices reach {speed} GFLOP/s; load before and after "
        f"{machine['load_before']} and {machine['load_after']}; {packages}."
    )


def _section(result: dict[str, Any]) -> str:
    title = result["case"]["title"] if result["kind"] == "training" else TITLES[result["kind"]]
    heading = f"### {title[0].upper()}{title[1:]}"
    return (
        f"{heading}\n\n{SECTIONS[result['kind']](result)}\n\n{machine_sentence(result['machine'])}"
    )


def _training(result: dict[str, Any]) -> str:
    """Table of a training comparison, with ratios to the baseline."""
    case = Case.model_validate(result["case"])
    entries = result["implementations"]
    baseline = entries[case.baseline]["rounds"]
    baseline_label = entries[case.baseline]["label"]
    head = [
        *("implementation", "tokens/s", "ms per model and step", f"times {baseline_label}"),
        *("of the products' peak", "parameters", f"loss at 0 and {result['check_steps']} steps"),
        "GiB",
    ]
    rows = [
        [
            entry["label"],
            *_training_cells(case, result["machine"], entry["rounds"], baseline),
        ]
        for entry in entries.values()
    ]
    return markdown_table(head, rows)


def _training_cells(
    case: Case,
    machine: dict[str, Any],
    rounds: Sequence[WorkerResult],
    baseline: Sequence[WorkerResult],
) -> list[str]:
    """Cells of one implementation, after its label."""
    if "failed" in rounds[-1]:
        return [str(rounds[-1]["failed"]).replace("|", "/"), *["-"] * 6]
    speeds = [each["tokens_per_s"] for each in rounds]
    speed = statistics.median(speeds)
    times = "-"
    if "failed" not in baseline[-1]:
        speedup = ratio(speeds, [each["tokens_per_s"] for each in baseline])
        times = f"{speedup.median:.2f} ({speedup.low:.2f} to {speedup.high:.2f})"
    first, last = rounds[0]["losses_nats"] or (float("nan"), float("nan"))
    memory = max(each["gpu_bytes"] or each["peak_bytes"] for each in rounds)
    return [
        f"{speed:,.0f}",
        f"{1e3 * case.step_tokens / speed:.3g}",
        times,
        share_of_peak(case, machine, speed),
        f"{rounds[0]['num_params']:,}",
        f"{first:.2f}, {last:.2f}",
        f"{memory / 2**30:.2f}",
    ]


def share_of_peak(case: Case, machine: dict[str, Any], speed: float) -> str:
    """Arithmetic per second, as a share of the fastest matrix products."""
    flops = flops_per_token(case_architecture(case), case.vocab_size, case.seq_length)
    peak = 1e9 * max(machine["products_gflops"].values())
    return f"{100 * flops * speed / peak:.0f} %"


def _rendering(result: dict[str, Any]) -> str:
    head = ["corpus", "tokens/s on one core", "GiB"]
    rows = [
        [name, speed_cell({"rounds": rounds}), _peak_gib(rounds)]
        for name, rounds in result["corpora"].items()
    ]
    return markdown_table(head, rows)


def _commands(result: dict[str, Any]) -> str:
    times = median_times(result["commands"])
    return markdown_table(
        ["command", "s"], [[f"`{name}`", f"{value:.2f}"] for name, value in times.items()]
    )


def _stages(result: dict[str, Any]) -> str:
    stages = result["stages"]
    train_s = sum(stages["train"])
    rows = [
        [name, str(len(times)), f"{sum(times):.1f}", f"{100 * sum(times) / train_s:.1f} %"]
        for name, times in stages.items()
    ]
    head = ["stage", "jobs", "s on one core", "of training"]
    share = 100 * result["largest_render_share"]
    rendering = (
        f"Rendering, in a thread beside the steps, takes at most {share:.1f} % of a training."
    )
    return (
        f"The study `{result['study']}`, job by job:\n\n{markdown_table(head, rows)}\n\n{rendering}"
    )


def _threads(result: dict[str, Any]) -> str:
    """Table of one training on all threads beside trainings of one thread each."""
    rows = []
    for shape in result["shapes"]:
        ways = shape["rounds"]
        together, apart = (
            [each.get("tokens_per_s", math.nan) for each in ways[name]]
            for name in (threads.TOGETHER, threads.SIDE_BY_SIDE)
        )
        found = ratio(together, apart)
        medians = [f"{statistics.median(speeds):,.0f}" for speeds in (together, apart)]
        range_text = f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"
        title = Case.model_validate(shape["case"]).title
        rows.append([title, shape["implementation"], *medians, range_text])
    number = result["num_threads"]
    head = [
        *("shape", "implementation", f"tokens/s of one training, {number} threads"),
        *(f"tokens/s of {number} trainings, one thread each", "ratio"),
    ]
    return markdown_table(head, rows)


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
    return markdown_table(head, rows)


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "training": _training,
    "rendering": _rendering,
    "growth": _growth,
    "threads": _threads,
    "stages": _stages,
    "commands": _commands,
}

TITLES = {
    "rendering": "rendering",
    "growth": "growth",
    "threads": "threads of a training",
    "stages": "stages of a study",
    "commands": "commands",
}


def speed_cell(entry: Mapping[str, Any] | None) -> str:
    """Median speed, the reason of a failure, or a dash without a measurement."""
    if entry is None:
        return "-"
    if "failed" in entry["rounds"][-1]:
        return str(entry["rounds"][-1]["failed"]).replace("|", "/")
    return f"{statistics.median(each['tokens_per_s'] for each in entry['rounds']):,.0f}"


def _peak_gib(rounds: Sequence[WorkerResult]) -> str:
    return f"{max(each.get('peak_bytes', 0) for each in rounds) / 2**30:.2f}"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown table of a head and rows."""
    # Not by tabulate: it pads columns, so that a new number would change every line of a table.
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
