"""Results of benchmarks as tables in Markdown.

Every number is read from the results; what is missing or failed says so in its place.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from knowcap.artifacts import files
from knowcap.errors import UserError
from knowcap.planning.cost import flops_per_token
from knowcap_benchmarks.cases import Case
from knowcap_benchmarks.commands import medians
from knowcap_benchmarks.interleave import Answer, ratio

Results = Mapping[str, dict[str, Any]]
"""By the name of their files."""


def load_results(paths: Sequence[Path]) -> Results:
    """Read results of benchmarks.

    Raises
    ------
    UserError
        If one is missing or damaged, or is none of a benchmark.
    """
    found = {path.stem: files.read_json(path) for path in paths}
    for path, result in zip(paths, found.values(), strict=True):
        if result.get("kind") not in SECTIONS:
            raise UserError(f"{path}: not the result of a benchmark")
    return found


def performance_page(results: Results) -> str:
    """Write all results as Markdown, in the order of their kinds."""
    parts = [
        _section(result)
        for kind in SECTIONS
        for result in results.values()
        if result["kind"] == kind
    ]
    return "\n\n".join(parts)


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
    return table(head, rows)


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
    from knowcap_benchmarks.cases import architecture_of

    flops = flops_per_token(architecture_of(case), case.vocab_size, case.seq_length)
    peak = 1e9 * max(machine["products_gflops"].values())
    return f"{100 * flops * speed / peak:.0f} %"


def _rendering(result: dict[str, Any]) -> str:
    head = ["corpus", "tokens/s on one core", "GiB"]
    rows = [
        [name, cell({"rounds": answers}), _memory(answers)]
        for name, answers in result["corpora"].items()
    ]
    return table(head, rows)


def _commands(result: dict[str, Any]) -> str:
    times = medians(result["commands"])
    return table(["command", "s"], [[f"`{name}`", f"{value:.2f}"] for name, value in times.items()])


def _stages(result: dict[str, Any]) -> str:
    stages = result["stages"]
    trained = sum(stages["train"])
    rows = [
        [name, str(len(times)), f"{sum(times):.1f}", f"{100 * sum(times) / trained:.1f} %"]
        for name, times in stages.items()
    ]
    head = ["stage", "jobs", "s on one core", "of training"]
    share = 100 * result["largest_render_share"]
    beside = f"Rendering, in a thread beside the steps, takes at most {share:.1f} % of a training."
    return f"The study `{result['study']}`, job by job:\n\n{table(head, rows)}\n\n{beside}"


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
    return table(head, rows)


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


def cell(entry: Mapping[str, Any] | None) -> str:
    """Write a speed, why there is none, or a dash where none was asked for."""
    if entry is None:
        return "-"
    if "failed" in entry["rounds"][-1]:
        return str(entry["rounds"][-1]["failed"]).replace("|", "/")
    return f"{statistics.median(answer['tokens_per_s'] for answer in entry['rounds']):,.0f}"


def _memory(rounds: Sequence[Answer]) -> str:
    return f"{max(answer.get('peak_bytes', 0) for answer in rounds) / 2**30:.2f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write rows as a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
