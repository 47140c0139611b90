"""Files are written atomically, and damaged ones are errors of one line."""

import stat
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from knowcap.artifacts import files
from knowcap.errors import UserError


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), files.atomic_write(path) as temporary:
        1 / temporary.write_text("")
    assert files.read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_has_default_permissions(tmp_path: Path) -> None:
    files.write_text(tmp_path / "ours", "")
    (tmp_path / "plain").touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "plain")}
    assert len(modes) == 1


def test_nan_is_not_written_to_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "value.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["figures", "new", "old", "older"])
def test_a_folder_of_any_name_is_replaced_as_a_whole(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "older.txt").touch()
    with files.atomic_folder(folder) as temporary:
        (temporary / "newer.txt").touch()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert [path.name for path in folder.iterdir()] == ["newer.txt"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "missing"),
        ('{"a": ', "damaged, not JSON"),
        ("[]", "a JSON object is expected, not list"),
        ('{"format": 99}', "format 99, this version reads 1"),
    ],
)
def test_unreadable_json_raises_one_line(tmp_path: Path, text: str | None, expected: str) -> None:
    path = tmp_path / "run.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=f"run.json: {expected}") as caught:
        files.read_json(path)
    assert "\n" not in str(caught.value)


def test_a_dataset_is_read_back_with_its_units(tmp_path: Path) -> None:
    path = tmp_path / "losses.nc"
    loss = xr.DataArray(np.arange(6.0).reshape(2, 3), dims=("replicate", "person"))
    loss.attrs["units"] = "nat"
    written = xr.Dataset({"name_loss": loss}, coords={"label": ("replicate", ["a", "b"])})
    files.write_dataset(written, path)
    xr.testing.assert_identical(files.read_dataset(path), written)


@pytest.mark.parametrize("kept_bytes", [0, 10, 3000])
def test_a_truncated_dataset_raises_one_line(tmp_path: Path, kept_bytes: int) -> None:
    path = tmp_path / "losses.nc"
    rng = np.random.default_rng(0)
    files.write_dataset(xr.Dataset({"loss": ("person", rng.normal(size=5000))}), path)
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(UserError, match=r"losses\.nc: damaged"):
        files.read_dataset(path)


def test_a_missing_dataset_raises_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"losses\.nc: missing"):
        files.read_dataset(tmp_path / "losses.nc")


def test_publishing_removes_digests_from_names_and_older_stamps(tmp_path: Path) -> None:
    store, study = tmp_path / "store", tmp_path / "study"
    files.write_text(store / "laws-1234" / "laws.md", "law")
    files.write_text(store / "figures-1234" / "bits.svg", "new")
    files.write_text(study / "figures" / "old.svg", "old")
    files.write_text(study / ".published-0", "")
    files.publish([store / "laws-1234" / "laws.md", store / "figures-1234"], study / ".published-1")
    published = sorted(p.relative_to(study).as_posix() for p in study.rglob("*") if p.is_file())
    assert published == [".published-1", "figures/bits.svg", "laws.md"]


def test_publishing_a_missing_file_leaves_no_stamp(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent: missing"):
        files.publish([tmp_path / "absent"], tmp_path / "study" / ".published-1")
    assert not (tmp_path / "study" / ".published-1").exists()


def test_text_is_replaced_between_the_markers_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    before, after = "# Title\n\n<!-- laws:begin -->", "<!-- laws:end -->\n\nEnd.\n"
    page.write_text(f"{before}old{after}")
    for _ in range(2):
        files.replace_between_markers(page, "laws", "new\n")
    assert page.read_text() == f"{before}\n\nnew\n\n{after}"


@pytest.mark.parametrize(
    "text",
    ["", "<!-- laws:begin -->", "<!-- laws:end --> <!-- laws:begin -->", 2 * "<!-- laws:end -->"],
)
def test_a_page_without_its_markers_is_left_unchanged(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(UserError, match=r"page\.md: needs <!-- laws:begin --> and <!-- laws:end"):
        files.replace_between_markers(page, "laws", "new")
    assert page.read_text() == text


def test_a_missing_page_is_an_error_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"page\.md: missing"):
        files.replace_between_markers(tmp_path / "page.md", "laws", "new")
