"""The names: an artefact is called by a readable slug and a digest of all that moves its numbers.

A digest covers the canonical JSON of the record, the names of what is read, and the code of the
stage: the syntax trees, without docstrings, of every module that the stage's entry module can
import from this package. So a comment or a new layout of the source renames nothing, an edit that
can move a number renames everything it can move, and taking the edit back finds everything again.

Left out of the code on purpose: the modules that only carry the question (:mod:`knowcap.config`,
:mod:`knowcap.families` and :mod:`knowcap.study`), whose whole effect is the record itself, and
:mod:`knowcap.errors`.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from knowcap.config import Corpus, Evaluation, Precision, Run
from knowcap.study import Study

PACKAGE = Path(__file__).parent

Stage = Literal[
    "corpus", "rewrite", "train", "evaluate", "quantize", "table", "laws", "figures", "report"
]

ENTRY: Mapping[Stage, str] = {
    "corpus": "knowcap.bios.corpus",
    "rewrite": "knowcap.lm.rewrite",
    "train": "knowcap.lm.train",
    "evaluate": "knowcap.lm.evaluate",
    "quantize": "knowcap.lm.quantize",
    "table": "knowcap.capacity.table",
    "laws": "knowcap.capacity.laws",
    "figures": "knowcap.capacity.figures",
    "report": "knowcap.capacity.report",
}
"""The module whose imports are a stage's code."""

QUESTION = ("knowcap.config", "knowcap.families", "knowcap.study", "knowcap.errors")
"""Modules and packages whose effect is already in the record."""

EQUIVALENCES = PACKAGE / "equivalences.json"
"""Recorded decisions that one code of a stage stands for another (`knowcap accept`)."""


def canonical_json(value: Any) -> str:
    """One text for one value: keys sorted, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(*parts: str) -> str:
    """Twelve hex digits of SHA-256 over the parts, each with its length."""
    framed = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(framed.encode()).hexdigest()[:12]


def record_json(record: Corpus | Run | Evaluation) -> str:
    """Canonical JSON of a record without fields at their default, so a new one renames nothing."""
    return canonical_json(record.model_dump(mode="json", exclude_defaults=True))


@cache
def _tree(module: str) -> ast.Module:
    path = _source(module)
    assert path is not None, module
    return ast.parse(path.read_text(encoding="utf-8"))


def _source(module: str) -> Path | None:
    """File of a module of this package, or None."""
    below = PACKAGE.joinpath(*module.split(".")[1:])
    return next((p for p in (below.with_suffix(".py"), below / "__init__.py") if p.exists()), None)


@cache
def _imports(module: str) -> frozenset[str]:
    """Modules of this package that a module can import when it runs."""
    found: set[str] = set()
    for node in _statements(_tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    parents = {name.rpartition(".")[0] for name in found}
    ours = {name for name in found | parents if name.split(".")[0] == "knowcap"}
    return frozenset(name for name in ours if _source(name) is not None)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """A node and everything below it that can hold a statement, but for what types alone need."""
    yield node
    is_for_types = isinstance(node, ast.If) and _is_name(node.test, "TYPE_CHECKING")
    for field in ("body", "handlers", "orelse", "finalbody", "cases"):
        if not (is_for_types and field == "body"):
            for child in getattr(node, field, ()):
                yield from _statements(child)


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def is_question(module: str) -> bool:
    """Whether a module only carries the question: one of :data:`QUESTION`, or inside of one.

    So does the root of this package, which holds a version; what is inside of it does not.
    """
    return module == "knowcap" or any(
        module == carrier or module.startswith(f"{carrier}.") for carrier in QUESTION
    )


def modules(entry: str) -> frozenset[str]:
    """The modules of this package that `entry` can reach, itself among them."""
    reached: set[str] = set()
    waiting = {entry}
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= {name for name in _imports(module) - reached if not is_question(name)}
    return frozenset(reached)


@cache
def _module_digest(module: str) -> str:
    """Digest of what a module does: its syntax without docstrings, and the data beside it."""
    tree = _tree(module)
    for node in list(_statements(tree)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    source = _source(module)
    assert source is not None
    beside = sorted(p for p in source.parent.glob(f"{source.stem}.*") if p.suffix != ".py")
    return digest(module, ast.dump(tree), *(_file_digest(path) for path in beside))


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is a docstring, of a module, a function, a class or a field."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


@cache
def _file_digest(path: Path) -> str:
    return digest(path.name, path.read_text(encoding="utf-8"))


@cache
def code_digest(stage: Stage) -> str:
    """Digest of a stage's code, or of the older code it was found equivalent to."""
    reached = sorted(modules(ENTRY[stage]))
    current = digest(*(_module_digest(module) for module in reached))
    stands_for = {
        decision["code"]: decision["stands_for"]
        for decision in json.loads(EQUIVALENCES.read_text(encoding="utf-8"))
        if decision["stage"] == stage
    }
    while current in stands_for:
        current = stands_for.pop(current)
    return current


def _data_files(corpus: Corpus) -> list[Path]:
    """Pools and templates a corpus is made of."""
    bios = PACKAGE / "bios"
    if corpus.knowledge.kind != "bioD":
        wording = "phrases" if _is_by_grammar(corpus) else "templates"
        return sorted([*bios.glob("pools/*.txt"), *bios.glob(f"{wording}/*.txt")])
    return sorted(bios.glob("pools/*_names.txt")) if corpus.knowledge.layout == "sentences" else []


def _is_by_grammar(corpus: Corpus) -> bool:
    return corpus.knowledge.kind == "bioR" and corpus.knowledge.rewriter == "grammar"


def _is_by_language_model(corpus: Corpus) -> bool:
    return corpus.knowledge.kind == "bioR" and corpus.knowledge.rewriter != "grammar"


@cache
def corpus_name(corpus: Corpus) -> str:
    """Folder of a corpus below `results/corpora`."""
    knowledge = corpus.knowledge
    identity = digest(
        record_json(corpus),
        code_digest("corpus"),
        *([code_digest("rewrite")] if _is_by_language_model(corpus) else []),
        *(_file_digest(path) for path in _data_files(corpus)),
    )
    return f"{knowledge.kind}-N{knowledge.num_people}-{identity}"


@cache
def run_name(run: Run) -> str:
    """Folder of a run below `results/runs`."""
    corpus = run.corpus.knowledge
    slug = f"{run.architecture.label}-{corpus.kind}-N{corpus.num_people}"
    identity = digest(record_json(run), corpus_name(run.corpus), code_digest("train"))
    return f"{slug}-E{run.optimization.exposures}-{identity}"


def measuring_stage(precision: Precision) -> Stage:
    """The stage that measures in a precision; quantising is no part of what was trained."""
    return "evaluate" if precision == "trained" else "quantize"


def measurement_name(run: Run, precision: Precision, evaluation: Evaluation) -> str:
    """Folder of a measurement below its run's."""
    code = code_digest(measuring_stage(precision))
    identity = digest(run_name(run), precision, record_json(evaluation), code)
    return f"{precision}-{identity}"


def losses_path(study: Study, run: Run, precision: Precision) -> Path:
    """Where a study's results have the losses of a measurement."""
    folder = Path(study.results) / "runs" / run_name(run)
    return folder / measurement_name(run, precision, study.evaluation) / "losses.nc"


def study_names(study: Study) -> dict[Stage, str]:
    """Digests that name what a study makes of its measurements, stage by stage.

    A stage's name covers the names of all stages before it. Laws and scales are in the table's,
    as they say which measurements are read together.
    """
    plan = {
        name: {
            "laws": experiment.laws,
            "scale": experiment.scale,
            "measurements": [
                [run_name(run), measurement_name(run, precision, study.evaluation)]
                for run in experiment.runs
                for precision in experiment.precisions
            ],
        }
        for name, experiment in study.experiments.items()
    }
    names: dict[Stage, str] = {}
    before = digest(study.study, canonical_json(plan))
    stages: tuple[Stage, ...] = ("table", "laws", "figures", "report")
    for stage in stages:
        before = names[stage] = digest(before, code_digest(stage))
    return names
