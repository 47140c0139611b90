"""C extensions are compiled once per machine; without a compiler there is none."""

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
    """A C file, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "sum.c"
    path.write_text(SOURCE)
    return path


def cached_files(source: Path) -> list[Path]:
    """Files in the cache."""
    return list((source.parent / "cache").glob("knowcap/*"))


def test_a_compiled_function_can_be_called(source: Path) -> None:
    for definitions, expected in (((), 4), (("SUMMAND=5",), 8)):
        loaded = c_extension.load_c_extension(source, definitions)
        assert loaded is not None
        assert loaded.sum(3) == expected


def test_a_compiled_library_is_cached_for_the_next_process(source: Path) -> None:
    for definition in ("SUMMAND=4", "SUMMAND=8", "SUMMAND=4"):
        c_extension.load_c_extension.cache_clear()
        assert c_extension.load_c_extension(source, (definition,)) is not None
    assert len(cached_files(source)) == 2
    c_extension.load_c_extension.cache_clear()


@pytest.mark.parametrize("kept_share", [0.0, 0.5, 0.999])
def test_a_truncated_library_is_compiled_again(source: Path, kept_share: float) -> None:
    assert c_extension.load_c_extension(source) is not None
    (library,) = cached_files(source)
    content = library.read_bytes()
    library.unlink()  # this process has loaded the whole file
    library.write_bytes(content[: int(kept_share * len(content))])
    c_extension.load_c_extension.cache_clear()
    loaded = c_extension.load_c_extension(source)
    assert loaded is not None
    assert loaded.sum(3) == 4
    assert cached_files(source)[0].read_bytes() == content
    c_extension.load_c_extension.cache_clear()


def test_edited_source_is_compiled_again(source: Path) -> None:
    c_extension.load_c_extension(source)
    c_extension.load_c_extension.cache_clear()
    source.write_text(SOURCE.replace("SUMMAND 1", "SUMMAND 2"))
    loaded = c_extension.load_c_extension(source)
    assert loaded is not None
    assert loaded.sum(3) == 5
    c_extension.load_c_extension.cache_clear()


def test_source_that_does_not_compile_gives_no_library(
    source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source.write_text("this is not C")
    assert c_extension.load_c_extension(source) is None
    assert "cannot compile sum.c" in caplog.text
    assert cached_files(source) == []


def test_without_a_compiler_there_is_no_library(
    source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with caplog.at_level("INFO"):
        assert c_extension.load_c_extension(source) is None
    assert "no C compiler" in caplog.text
