import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowcap.data import token_templates
from knowcap.data.token_templates import TokenTemplates

LISTS = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=5), min_size=1, max_size=20)


@pytest.mark.parametrize("is_compiled", [True, False])
@given(lists=LISTS, data=st.data())
def test_gathered_tokens_are_the_concatenated_templates(
    is_compiled: bool, lists: list[list[int]], data
) -> None:
    template_ids = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=30))
    with pytest.MonkeyPatch.context() as patch:
        if not is_compiled:
            patch.setattr(token_templates, "load_c_extension", lambda source: None)
        tokens = TokenTemplates.from_lists(lists).gather_tokens(
            np.array(template_ids, dtype=np.int64)
        )
    assert tokens.dtype == np.int32
    assert tokens.tolist() == list(itertools.chain.from_iterable(lists[n] for n in template_ids))


@pytest.mark.parametrize("is_compiled", [True, False])
@pytest.mark.parametrize("template_id", [-4, -1, 3])
def test_an_unknown_template_id_raises_an_index_error(
    is_compiled: bool, template_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_compiled:
        monkeypatch.setattr(token_templates, "load_c_extension", lambda source: None)
    with pytest.raises(IndexError):
        TokenTemplates.from_lists([[1], [2, 3], [4]]).gather_tokens(np.array([0, template_id]))


def test_template_ids_may_have_any_memory_order() -> None:
    template_ids = np.array([[0, 1], [2, 0]], dtype=np.int32).T
    tokens = TokenTemplates.from_lists([[1], [2, 3], [4]]).gather_tokens(template_ids)
    assert tokens.tolist() == [1, 4, 2, 3, 1]
