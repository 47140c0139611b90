"""C extensions are compiled once per machine; without a compiler there is none."""

import os
import subprocess
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


@pytest.fixture
def private_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder that replaces the cache; it does not exist yet."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / f"knowcap-{os.getuid()}"


def test_a_cache_that_cannot_be_written_is_replaced_by_a_private_folder(
    source: Path, private_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source.parent / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(source.parent / "file"))
    loaded = c_extension.load_c_extension(source)
    c_extension.load_c_extension.cache_clear()
    assert loaded is not None
    assert loaded.sum(3) == 4
    assert [path.suffix for path in private_folder.iterdir()] == [".so"]
    assert private_folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a file system")
def test_a_cache_without_execution_is_replaced_by_a_private_folder(
    source: Path, private_folder: Path
) -> None:
    cache = source.parent / "cache"
    cache.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", str(cache)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine cannot mount file systems")
    try:
        loaded = c_extension.load_c_extension(source)
    finally:
        c_extension.load_c_extension.cache_clear()
        subprocess.run(["umount", "--lazy", str(cache)], check=True)
    assert loaded is not None
    assert loaded.sum(3) == 4
    assert [path.suffix for path in private_folder.iterdir()] == [".so"]


def test_without_any_folder_slower_code_is_used_and_one_line_says_so(
    source: Path,
    private_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (source.parent / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(source.parent / "file"))
    private_folder.symlink_to(source.parent / "elsewhere")  # of another user, perhaps
    assert c_extension.load_c_extension(source) is None
    c_extension.load_c_extension.cache_clear()
    (line,) = caplog.messages
    assert line.startswith("no cache for compiled code (")
    assert "Not a directory" in line
    assert line.endswith("slower code replaces sum.c")
    assert "\n" not in line
