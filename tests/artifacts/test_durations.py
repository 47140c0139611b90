import math

import pytest

from knowcap.artifacts.durations import format_duration


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (90, "1.5 min"),
        (3599, "60.0 min"),
        (3600, "1.0 h"),
        (36 * 3600, "1.5 d"),
        (1e9, "11,574.1 d"),
        (math.nan, "\u2013"),
    ],
)
def test_a_duration_is_given_in_its_largest_unit(seconds: float, expected: str) -> None:
    assert format_duration(seconds) == expected
