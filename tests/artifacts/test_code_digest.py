"""Code digests: which edits change the digest of which stage."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from knowcap.artifacts import checksums, code_digest
from knowcap.artifacts.code_digest import Stage
from knowcap.artifacts.normalized_code import normalize_c, normalize_python

STAGES = get_args(Stage)


def normalized(source: str) -> str:
    return normalize_python(ast.parse(source), {})


@pytest.mark.parametrize(
    ("source", "same"),
    [
        ("x = f(1, 2)", "x = f(\n    1,  # why\n    2,\n)"),
        ("x = 'a'", 'x = ("a")'),
        ("def f(): return 1", 'def f() -> int:\n    """Return one."""\n    return 1'),
        ("def f(a): return a", "def f(a: int) -> int:\n\n    return a"),
        ("def f(): raise ValueError('no')", "def f(): raise ValueError(f'{1} is too low')"),
        ("def f(): assert x", "def f(): assert x, 'a reason'"),
        ("def f(): return 1", "def f():\n    _log.info('calling')\n    return 1"),
        ("import os", "import os\nfrom knowcap.data import rng\nimport knowcap.data.people"),
        ("x = 1", "from typing import TYPE_CHECKING\nx = 1".partition("\n")[2]),
    ],
)
def test_code_that_does_not_affect_results_is_left_out(source: str, same: str) -> None:
    assert normalized(source) == normalized(same)


@pytest.mark.parametrize(
    ("source", "other"),
    [
        ("x = 1", "x = 2"),
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = '1'"),
        ("x = (1,)", "x = (1)"),
        ("f(a, b)", "f(b, a)"),
        ("for i in x:\n  f()\n  g()", "for i in x:\n  f()\ng()"),
        ("def f(a=1): return a", "def f(a=2): return a"),
        ("x = f'{a}{b}'", "x = f'{b}{a}'"),
        ("x = f'{a:.2f}'", "x = f'{a:.3f}'"),
        ("raise ValueError", "raise TypeError"),
        ("from math import sin as f", "from math import cos as f"),
        ("x = a + b", "x = a - b"),
    ],
)
def test_code_that_can_affect_results_is_not_left_out(source: str, other: str) -> None:
    assert normalized(source) != normalized(other)


def test_the_name_of_an_imported_module_is_left_out() -> None:
    before = normalize_python(ast.parse("x = rng.key(0)"), {"rng": "0123"})
    assert before == normalize_python(ast.parse("x = draws.key(0)"), {"draws": "0123"})
    assert before != normalize_python(ast.parse("x = rng.key(0)"), {"rng": "4567"})


@pytest.mark.parametrize(
    "same",
    [
        "int f(int a) { return a + 1; }",
        "/* a */ int f(int a)\n{\n  return a + 1; // why\n}",
        '#include "x.h"\nint f(int a) { return a\n+ 1; }',
        "int f(int a) { return a /* one\nmore */ + 1; }",
    ],
)
def test_formatting_and_includes_of_local_headers_are_left_out_of_c(same: str) -> None:
    assert normalize_c(same).split() == normalize_c("int f(int a) { return a + 1; }").split()


@pytest.mark.parametrize(
    ("source", "other"),
    [
        ("a + +b;", "a ++ b;"),
        ("x = 1e-6;", "x = 1e -6;"),
        ("#define A 1\nint x;", "#define A 1 int x;"),
        ("#include <math.h>", "#include <tgmath.h>"),
        ('s = "a  b";', 's = "a b";'),
    ],
)
def test_c_tokens_and_directives_are_not_left_out(source: str, other: str) -> None:
    assert normalize_c(source) != normalize_c(other)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package to edit."""
    ignored = shutil.ignore_patterns("__pycache__")
    return shutil.copytree(code_digest.PACKAGE, tmp_path / "knowcap", ignore=ignored)


def digests(package: Path, python: str = sys.executable) -> list[str]:
    """Digests of all stages of a copy of the package, computed with the standard library alone."""
    program = (
        "from typing import get_args; from knowcap.artifacts.code_digest import Stage, code_digest;"
        "print(*(code_digest(stage) for stage in get_args(Stage)))"
    )
    cache = str(package.parent / "cache")
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "XDG_CACHE_HOME": cache}
    command = [python, "-S", "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def edit(package: Path, path: str, old: str, new: str) -> None:
    text = (package / path).read_text()
    assert old in text
    (package / path).write_text(text.replace(old, new, 1))


def other_pythons() -> list[str]:
    """Installed interpreters of the other supported versions of Python."""
    found = set()
    for minor in (11, 12, 13):
        pyenv = Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")
        names = filter(None, [shutil.which(f"python3.{minor}"), *map(str, pyenv)])
        for name in names:
            version = subprocess.run([name, "-V"], capture_output=True, text=True, check=False)
            if version.returncode == 0 and minor != sys.version_info.minor:
                found.add(name)
    return sorted(found)


def test_every_supported_python_computes_the_same_digests(package: Path) -> None:
    others = other_pythons()
    if not others:
        pytest.skip("no other supported Python on this machine")
    assert {tuple(digests(package, python)) for python in others} == {tuple(digests(package))}


def test_digests_of_unchanged_code_are_read_from_the_cache(package: Path) -> None:
    before = digests(package)
    (cache,) = (package.parent / "cache").rglob("digests-*.json")
    replace_digest(cache, before[0], "f" * 12)
    assert digests(package)[0] == "f" * 12
    edit(package, "errors.py", '"""', '"""Edited. ')
    assert digests(package) == before


@pytest.mark.parametrize("damage", ["truncated", "edited", "unreadable"])
def test_a_damaged_cache_of_digests_is_written_again(package: Path, damage: str) -> None:
    before = digests(package)
    (cache,) = (package.parent / "cache").rglob("digests-*.json")
    written = cache.read_bytes()
    if damage == "unreadable":
        cache.unlink()
        cache.mkdir()
    else:
        edited = written.replace(before[0].encode(), b"f" * 12)
        cache.write_bytes(edited if damage == "edited" else written[:-1])
    assert digests(package) == before
    assert damage == "unreadable" or cache.read_bytes() == written


def replace_digest(cache: Path, old: str, new: str) -> None:
    """Replace a digest in the cache, as an earlier version of the code could have written it."""
    body = bytes(checksums.read_verified(cache)).decode()
    cache.write_text(body.replace(old, new))
    checksums.append_digest(cache)


def test_a_moved_and_renamed_module_changes_no_digest(package: Path) -> None:
    before = digests(package)
    (package / "data/rng.py").rename(package / "model/random_numbers.py")
    for name in ("rng.c", "rng.h"):
        (package / "data" / name).rename(package / "model" / name)
    for path in package.rglob("*.py"):
        text = path.read_text().replace("knowcap.data.rng", "knowcap.model.random_numbers")
        path.write_text(text.replace("data import rng\n", "model import random_numbers as rng\n"))
    for name in ("biod.c",):
        edit(package, f"data/{name}", '"rng.h"', '"../model/rng.h"')
    assert digests(package) == before


def test_backups_and_object_files_change_no_digest(package: Path) -> None:
    before = digests(package)
    for name in ("data/rng.c~", "data/rng.o", "data/.rng.py.swp", "data/rng.json", "data/new.h"):
        (package / name).write_text("anything")
    assert digests(package) == before


@pytest.mark.parametrize(
    ("path", "old", "new", "stage"),
    [
        (
            "capacity/laws/rare_knowledge.py",
            "    RARE_EXPOSURES,\n",
            "    FREQUENT_EXPOSURES as RARE_EXPOSURES,\n",
            "laws",
        ),
        (
            "capacity/laws/__init__.py",
            "compute_verdicts,",
            "combine_verdicts as compute_verdicts,",
            "laws",
        ),
    ],
)
def test_another_object_imported_under_the_same_name_changes_the_digest(
    package: Path, path: str, old: str, new: str, stage: str
) -> None:
    before = dict(zip(STAGES, digests(package), strict=True))
    edit(package, path, old, new)
    after = dict(zip(STAGES, digests(package), strict=True))
    assert before[stage] != after[stage]


@pytest.mark.parametrize(
    ("path", "old", "new", "changed"),
    [
        ("data/rng.c", ";", " ; // why\n", set()),
        (
            "data/rng.c",
            "first + j",
            "first - j",
            set(STAGES) - {"table", "laws", "figures", "report"},
        ),
        ("engines/simd/vectors.h", ";", "; int another;", {"train"}),
        ("model/optimizer.py", "\n\n\n", "\n\n\nX = 1\n\n\n", {"train"}),
        ("artifacts/compiler_flags.py", "-O3", "-Ofast", "C"),
        ("training/checkpoint.py", "\n\n\n", "\n\n\nX = 1\n\n\n", set()),
        ("training/train.py", "\n\n\n", "\n\n\nX = 1\n\n\n", set()),
        ("artifacts/lock.py", "\n\n\n", "\n\n\nX = 1\n\n\n", set()),
        ("config/run.py", "\n\n\n", "\n\n\nX = 1\n\n\n", set()),
        ("planning/study_progress.py", "\n\n\n", "\n\n\nX = 1\n\n\n", set()),
        ("capacity/report/report.html.jinja", "<", "<!-- --><", {"report"}),
        ("capacity/report/models.html.jinja", "<", "<!-- --><", {"report"}),
        ("capacity/report/report.css", ";", "; color: red;", {"report"}),
        ("capacity/report/theme.js", ";", "; 1;", {"report"}),
    ],
)
def test_an_edit_changes_the_digests_of_the_stages_that_it_can_affect(
    package: Path, path: str, old: str, new: str, changed: set[str] | str
) -> None:
    before = dict(zip(STAGES, digests(package), strict=True))
    edit(package, path, old, new)
    after = dict(zip(STAGES, digests(package), strict=True))
    expected = {"corpus", "rewrite", "train", "evaluate", "quantize"} if changed == "C" else changed
    assert {stage for stage in STAGES if before[stage] != after[stage]} == expected


def test_training_uses_no_numeric_code_outside_its_digest() -> None:
    covered = code_digest.modules("train") | code_digest.modules("corpus")
    for path in (code_digest.PACKAGE / "training").glob("*.py"):
        used = code_digest._imports(f"knowcap.training.{path.stem}")
        assert {name for name in used if code_digest.is_numeric(name)} <= covered, path


@pytest.mark.parametrize(
    ("stage", "inside", "outside"),
    [
        ("corpus", "knowcap.data.people", "knowcap.engines.select"),
        ("train", "knowcap.model.optimizer", "knowcap.evaluation.evaluate"),
        ("train", "knowcap.data.token_stream", "knowcap.capacity.laws"),
        ("evaluate", "knowcap.data.prompts", "knowcap.model.optimizer"),
        ("evaluate", "knowcap.evaluation.losses", "knowcap.evaluation.quantize"),
        ("quantize", "knowcap.evaluation.evaluate", "knowcap.model.optimizer"),
        ("laws", "knowcap.capacity.laws", "knowcap.capacity.figures"),
        ("figures", "knowcap.capacity.figures", "knowcap.engines.select"),
    ],
)
def test_a_stage_reaches_its_own_code_only(stage: Stage, inside: str, outside: str) -> None:
    assert inside in code_digest.modules(stage)
    assert outside not in code_digest.modules(stage)
