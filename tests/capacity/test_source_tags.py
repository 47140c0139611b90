from __future__ import annotations

from pathlib import Path

from knowcap.capacity.source_tags import SourceTag, find_source_tags

SOURCE = '''\
"""A module about # ASSUME: nothing."""
N0 = 400  # PAPER 2.2: first names
WIDTH = 64  # PAPER 2.3
# unrelated
def f():
    # DEVIATES: we do it otherwise,
    # as it is quicker.
    x = 1  # here is no tag
    # ASSUME: all is well.
    # PAPER 4.1, 4.2: both say so
    return x
'''


def test_every_tagged_comment_is_found_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "module.py").write_text(SOURCE)
    assert find_source_tags(tmp_path) == [
        SourceTag("PAPER", "2.2", "first names", "below/module.py", 2),
        SourceTag("PAPER", "2.3", "WIDTH = 64", "below/module.py", 3),
        SourceTag("DEVIATES", "", "we do it otherwise, as it is quicker.", "below/module.py", 6),
        SourceTag("ASSUME", "", "all is well.", "below/module.py", 9),
        SourceTag("PAPER", "4.1, 4.2", "both say so", "below/module.py", 10),
    ]
