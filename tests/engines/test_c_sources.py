"""C sources compile without warnings, for every variant, and are formatted by clang-format."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from knowcap.artifacts.compiler_flags import FLAGS

REPOSITORY = Path(__file__).parents[2]
SOURCES = sorted((REPOSITORY / "src").rglob("*.c"))
HEADERS = sorted((REPOSITORY / "src").rglob("*.h"))

SIMD = REPOSITORY / "src/knowcap/engines/simd"
LANES = tuple(("LANES=" + lanes,) for lanes in "1248")
PROCESSORS = ("x86-64", "haswell", "skylake-avx512")
"""Processors with SSE2, AVX2 and AVX-512: the C code has a variant for each."""

FORMATTER = shutil.which("clang-format", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
COMPILER = shutil.which(os.environ.get("CC", "cc"))
IS_X86 = os.uname().machine == "x86_64"
WARNINGS = ("-Wall", "-Wextra", "-Werror")


def compiler_errors(
    source: Path, definitions: tuple[str, ...], processor: str, *options: str
) -> str:
    """Compile a source with warnings as errors; return the errors."""
    assert COMPILER is not None
    flags = [flag for flag in FLAGS if flag != "-march=native"]
    command = [COMPILER, *flags, f"-march={processor}", *WARNINGS]
    command += options or ("-fsyntax-only",)
    command += [*(f"-D{definition}" for definition in definitions), str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def test_all_c_sources_of_the_package_are_found() -> None:
    assert SIMD / "train_step.c" in SOURCES
    assert len(SOURCES) > 1


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_c_sources_compile_without_warnings(source: Path) -> None:
    for definitions in LANES if source.parent == SIMD else [()]:
        # not only the syntax: optimization finds variables that may be uninitialized
        options = ("-c", "-o", os.devnull)
        assert compiler_errors(source, definitions, "native", *options) == ""


@pytest.mark.skipif(COMPILER is None or not IS_X86, reason="there is no C compiler for x86")
@pytest.mark.parametrize("processor", PROCESSORS)
def test_the_training_step_compiles_without_warnings_for_other_processors(processor: str) -> None:
    for definitions in LANES:
        assert compiler_errors(SIMD / "train_step.c", definitions, processor) == ""


@pytest.mark.skipif(COMPILER is None or not IS_X86, reason="there is no C compiler for x86")
def test_the_training_step_in_bfloat16_compiles_without_warnings() -> None:
    definitions = ("LANES=1", "BFLOAT16")
    assert compiler_errors(SIMD / "train_step.c", definitions, "cooperlake") == ""


@pytest.mark.skipif(FORMATTER is None, reason="clang-format is not installed")
def test_c_sources_are_formatted() -> None:
    assert FORMATTER is not None
    command = [FORMATTER, "--dry-run", "-Werror", *map(str, SOURCES + HEADERS)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
