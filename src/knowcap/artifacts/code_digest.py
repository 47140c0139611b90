"""Digests of the code of each workflow stage, the same under every supported Python.

A stage's digest covers the modules of the numeric packages that its entry modules can import, and
the C sources and templates that these modules name. Comments, docstrings, formatting, annotations
of functions, log calls, checks of manifests, error messages, and the names and folders of files are
left out. Editing these does not rename results.

The bookkeeping packages (:mod:`knowcap.config`, :mod:`knowcap.artifacts`, :mod:`knowcap.training`,
:mod:`knowcap.planning`, :mod:`knowcap.stages`) are not covered: records are part of the names
themselves, and the other packages do not compute reported numbers.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Literal

from knowcap.artifacts.compiler_flags import FLAGS
from knowcap.artifacts.digest_cache import cached_digests
from knowcap.artifacts.normalized_code import (
    is_for_type_checkers,
    is_ours,
    normalize_file,
    normalize_python,
)

PACKAGE = Path(__file__).parents[1]

NUMERIC = ("data", "model", "engines", "evaluation", "capacity")
"""Packages whose code is covered by digests."""

Stage = Literal[
    "corpus", "rewrite", "train", "evaluate", "quantize", "table", "laws", "figures", "report"
]

ENTRIES: Mapping[Stage, tuple[str, ...]] = {
    "corpus": ("knowcap.data.corpus_writer",),
    "rewrite": ("knowcap.data.bior_language_model",),
    "train": (
        "knowcap.engines.dataloader",
        "knowcap.engines.select",
        "knowcap.engines.megatron.engine",
    ),
    "evaluate": ("knowcap.evaluation.evaluate",),
    "quantize": ("knowcap.evaluation.quantize",),
    "table": ("knowcap.capacity.table",),
    "laws": ("knowcap.capacity.laws",),
    "figures": ("knowcap.capacity.figures",),
    "report": ("knowcap.capacity.report",),
}
"""The numeric modules that each stage imports directly."""

EQUIVALENCES = Path(__file__).with_name("equivalences.json")
"""Recorded pairs of equivalent code digests (:mod:`knowcap.artifacts.equivalences`)."""

_EMPTY_MODULE = "(Module)"


def digest(*parts: str) -> str:
    """Return twelve hex digits of the SHA-256 of some texts, each with its length."""
    framed = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(framed.encode()).hexdigest()[:12]


@cache
def code_digest(stage: Stage) -> str:
    """Return the digest of a stage's code, or of older code recorded as equivalent to it."""
    current = _digests()[stage]
    equivalent = {
        recorded["code"]: recorded["stands_for"]
        for recorded in json.loads(EQUIVALENCES.read_text(encoding="utf-8"))
        if recorded["stage"] == stage
    }
    while current in equivalent:
        current = equivalent.pop(current)
    return current


@cache
def _digests() -> dict[str, str]:
    """Return the digest of the code of each stage."""
    return cached_digests(
        PACKAGE,
        lambda: {
            stage: digest(*sorted(filter(None, map(_module_digest, modules(stage)))))
            for stage in ENTRIES
        },
    )


def covered_files(stage: Stage) -> list[Path]:
    """Return the files that a stage's digest covers, sorted."""
    sources = {source_of(module) for module in modules(stage)}
    return sorted(sources.union(*(_named_files(module) for module in modules(stage))))


@cache
def modules(stage: Stage) -> frozenset[str]:
    """Return the numeric modules that a stage's entry modules can import, themselves included."""
    reached: set[str] = set()
    waiting = set(ENTRIES[stage])
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= {name for name in _imports(module) - reached if is_numeric(name)}
    return frozenset(reached)


def is_numeric(module: str) -> bool:
    """Whether a module of this package is in one of the numeric packages."""
    return module.split(".")[1:2] != [] and module.split(".")[1] in NUMERIC


def source_of(module: str) -> Path:
    """Return the file of a module of this package."""
    source = _source(module)
    assert source is not None, module
    return source


def _source(module: str) -> Path | None:
    below = PACKAGE.joinpath(*module.split(".")[1:])
    return next((p for p in (below.with_suffix(".py"), below / "__init__.py") if p.exists()), None)


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(source_of(module).read_text(encoding="utf-8"))


@cache
def _imports(module: str) -> frozenset[str]:
    """Return the modules of this package that a module can import when it runs."""
    found: set[str] = set()
    for node in _statements(_tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    parents = {name.rpartition(".")[0] for name in found}
    return frozenset(name for name in found | parents if is_ours(name) and _source(name))


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and every statement in it, except those for type checkers alone."""
    yield node
    for field in ("body", "handlers", "orelse", "finalbody", "cases"):
        if not (field == "body" and is_for_type_checkers(node)):
            for child in getattr(node, field, ()):
                yield from _statements(child)


@cache
def _module_digest(module: str) -> str:
    """Return the digest of a module and the files that it names; "" for an empty module."""
    imported = {
        alias: ".".join([_shallow_digest(target) if is_numeric(target) else "bookkeeping", *name])
        for alias, (target, *name) in _own_imports(_tree(module)).items()
    }
    normalized = normalize_python(_tree(module), imported, _file_names(module))
    if source_of(module).name == "__init__.py":  # what a package offers under which name
        normalized += "".join(f"({alias} {imported[alias]})" for alias in sorted(imported))
    if normalized == _EMPTY_MODULE:  # an __init__.py with only a docstring
        return ""
    beside = [normalize_file(path) for path in _named_files(module)]
    flags = FLAGS if any(path.suffix == ".c" for path in _named_files(module)) else ()
    return digest(normalized, *sorted(beside), *flags)


@cache
def _shallow_digest(module: str) -> str:
    """Return the digest of a module's own text, which replaces its name in other modules."""
    return digest(normalize_python(_tree(module), {}, _file_names(module)))


def _own_imports(tree: ast.Module) -> dict[str, tuple[str, ...]]:
    """Return (module,) or (module, name) of each import from this package, by its name here."""
    imports: dict[str, tuple[str, ...]] = {}
    for node in _statements(tree):
        if isinstance(node, ast.ImportFrom) and node.module and is_ours(node.module):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                is_module = _source(submodule) is not None
                target = (submodule,) if is_module else (node.module, alias.name)
                imports[alias.asname or alias.name] = target
    return imports


def _file_names(module: str) -> frozenset[str]:
    """Return the string constants of a module that are names of files in its folder."""
    folder = source_of(module).parent
    texts = {
        node.value
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return frozenset(
        text for text in texts if re.fullmatch(r"[\w.]+\.(c|jinja|css|js)", text)
        and (folder / text).is_file()
    )  # fmt: skip


def _named_files(module: str) -> tuple[Path, ...]:
    """Return the files in a module's folder that it names, and the C headers they include."""
    folder = source_of(module).parent
    return tuple(_with_headers(folder / name for name in sorted(_file_names(module))))


def _with_headers(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield files, and the headers that C sources include, each once."""
    seen: set[Path] = set()
    waiting = list(paths)
    while waiting:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        yield path
        if path.suffix in (".c", ".h"):
            text = path.read_text(encoding="utf-8")
            names = re.findall(r'^\s*#\s*include\s*"([^"]+)"', text, flags=re.MULTILINE)
            waiting += [path.parent / name for name in names]
