"""C is compiled once for a machine, and done without where it cannot be."""

from pathlib import Path

import pytest

from knowcap.artifacts import c_extension

SOURCE = """
#ifndef SUMMAND
#define SUMMAND 1
#endif
int sum(int x) { return x + SUMMAND; }
"""


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Some C, and a cache that nobody has used."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "sum.c"
    path.write_text(SOURCE)
    return path


def kept(source: Path) -> list[Path]:
    """What is in the cache."""
    return list((source.parent / "cache" / "knowcap").iterdir())


def test_what_is_compiled_can_be_called(source: Path) -> None:
    for definitions, expected in (((), 4), (("SUMMAND=5",), 8)):
        loaded = c_extension.library(source, definitions)
        assert loaded is not None
        assert loaded.sum(3) == expected


def test_what_is_compiled_is_kept_for_the_next_process(source: Path) -> None:
    for definition in ("SUMMAND=4", "SUMMAND=8", "SUMMAND=4"):
        c_extension.library.cache_clear()
        assert c_extension.library(source, (definition,)) is not None
    assert len(kept(source)) == 2
    c_extension.library.cache_clear()


def test_an_edit_is_compiled_anew(source: Path) -> None:
    c_extension.library(source)
    c_extension.library.cache_clear()
    source.write_text(SOURCE.replace("SUMMAND 1", "SUMMAND 2"))
    loaded = c_extension.library(source)
    assert loaded is not None
    assert loaded.sum(3) == 5
    c_extension.library.cache_clear()


def test_source_that_does_not_compile_is_done_without(
    source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source.write_text("this is not C")
    assert c_extension.library(source) is None
    assert "cannot compile sum.c" in caplog.text
    assert kept(source) == []


def test_without_a_compiler_nothing_is_compiled(
    source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with caplog.at_level("INFO"):
        assert c_extension.library(source) is None
    assert "no C compiler" in caplog.text
