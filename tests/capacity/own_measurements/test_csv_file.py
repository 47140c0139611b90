"""Files of measurements: what is read, and every mistake in one line, all at once."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from knowcap.capacity.own_measurements.csv_file import read_measurements
from knowcap.capacity.own_measurements.dataset import read_own_measurements
from knowcap.config import Precision
from knowcap.errors import UserError

HEADER = "N,exposures,num_params,R,R_max"


def write(folder: Path, *lines: str) -> Path:
    path = folder / "mine.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def errors(path: Path) -> list[str]:
    with pytest.raises(UserError) as caught:
        read_own_measurements([path])
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


def test_short_names_comments_and_empty_lines_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path, "# typed by hand", "", f"{HEADER},steps", "100, 1000, 500, 1.5, 2.4, 60000",
        ",,,,,", "# another one", "200,1000,1000,1.6,,", "",
    )  # fmt: skip
    assert errors(path) == ["line 7: max_bits or max_capacity_ratio: missing value"]
    path.write_text(path.read_text().replace("1.6,,", "1.6,2.4,"))
    rows = read_measurements([path])
    assert rows["num_people"].tolist() == [100, 200]
    assert rows["bits"].tolist() == [750.0, 1600.0]
    assert rows["max_bits"].tolist() == [1200.0, 2400.0]
    assert rows["train_iters"].isna().tolist() == [False, True]


def test_bits_and_ratios_stand_for_each_other(tmp_path: Path) -> None:
    path = write(tmp_path, "N,E,P,bits,max_bits", "100,1000,500,750,1200")
    (row,) = read_measurements([path]).to_dict("records")
    assert (row["capacity_ratio"], row["max_capacity_ratio"]) == (1.5, 2.4)


def test_every_mistake_of_a_header_is_a_line(tmp_path: Path) -> None:
    found = errors(write(tmp_path, "N,exposure,R,seed,seed,colour", "1,1,1,0,0,red"))
    assert found == [
        "'exposure': no such column; did you mean exposures?",
        "seed: the column is given 2 times",
        "'colour': no such column; docs/own-measurements.md lists the columns",
        "exposures: missing column (or E)",
        "num_params: missing column (or P)",
        "max_bits or max_capacity_ratio: missing column",
    ]


def test_every_mistake_of_the_rows_is_a_line(tmp_path: Path) -> None:
    found = errors(
        write(
            tmp_path, f"{HEADER},kind,precision,tied,useful_share,bits",
            "100,1000,500,1.5,2.4,bioX,int3,maybe,2,",
            "many,1000.5,-500,inf,0,bioS,int8,,,",
            ",1000,500,2.5,2.4,,,,,",
            "100,1000,500,2.5,2.4,,,,,",
            "100,1000,500,1.5,2.4,,,,,1500",
            "100,1000,500,1.5,2.4,,,,0.125,",
            "100,1000,500",
        )
    )  # fmt: skip
    assert found == [
        "line 8: 3 values for 10 columns",
    ]
    path = tmp_path / "mine.csv"
    path.write_text(path.read_text().rsplit("\n", 2)[0] + "\n")
    assert errors(path) == [
        "line 2: kind: 'bioX' is not one of bioS, bioS-simple, bioR, bioD, table",
        f"line 2: precision: 'int3' is not one of {', '.join(get_args(Precision))}",
        "line 2: tied: 'maybe' is not true or false",
        "line 2: useful_share: '2' is not above 0 and at most 1",
        "line 3: N: 'many' is not a number",
        "line 3: exposures: '1000.5' is not an integer of at least 0",
        "line 3: num_params: '-500' is not an integer of at least 0",
        "line 3: R: 'inf' is not a finite number",
        "line 3: R_max: '0' is not above 0",
        "line 4: N: missing value",
        "line 5: R: 2.5 is more than max_capacity_ratio, 2.4",
        "line 6: R: 1.5 is not bits / num_params, 3",
        "line 7: num_junk_people: missing value; needed if useful_share is below 1",
    ]


def test_more_bits_than_the_corpus_has_are_named_as_typed(tmp_path: Path) -> None:
    path = write(tmp_path, "N,E,P,bits,R_max", "100,1000,500,1500,2.4")
    assert errors(path) == ["line 2: bits: 1,500 is more than max_bits, 1,200"]


def test_equal_rows_are_refused(tmp_path: Path) -> None:
    same = "100,1000,500,1.5,2.4"
    found = errors(write(tmp_path, HEADER, same, "100,100,500,0.9,2.4", same, same))
    text = "equal to line 2 in all settings; columns such as seed, lr or model tell them apart"
    assert found == [f"line 4: {text}", f"line 5: {text}"]
    rows = [f"{same},{seed}" for seed in range(3)]
    table = read_own_measurements([write(tmp_path, f"{HEADER},seed", *rows)]).table
    assert (table.sizes["measurement"], table.sizes["replicate"]) == (1, 3)


def test_a_model_has_one_size(tmp_path: Path) -> None:
    rows = ("100,1000,500,1.5,2.4,mine", "200,1000,900,1.5,2.4,mine", "100,100,700,1.5,2.4,mine")
    (error,) = errors(write(tmp_path, f"{HEADER},model", *rows))
    assert error.startswith("line 4: model: mine has 700 parameters here and 500 in line 2;")


def test_mistakes_of_several_files_are_listed_together(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("absent.csv", "empty.csv", "binary.csv")]
    paths[1].write_text("# nothing\n")
    paths[2].write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError) as caught:
        read_own_measurements(paths)
    assert str(caught.value).splitlines() == [
        f"{paths[0]}: cannot be read: No such file or directory",
        f"{paths[1]}: a line of column names and lines of measurements are expected",
        f"{paths[2]}: not a text in UTF-8",
    ]
