"""How a model is laid out follows from its size, and what does not divide it is refused."""

import pytest

from knowcap.config import Run
from knowcap.config.parallelism import ParallelDims
from knowcap.errors import UserError
from knowcap.planning.parallelism import (
    PARAMS_PER_PROCESS,
    check_parallel_dims,
    choose_parallel_dims,
)
from tests.support.tiny import tiny_run
from tests.support.variants import EXPERTS

SMALL, LARGE = 10**6, 5 * PARAMS_PER_PROCESS


def run(**fields: object) -> Run:
    """A run of 12 layers and 8 heads, of which 4 have keys and values."""
    shape = {"num_layers": 12, "num_attention_heads": 8, "num_query_groups": 4}
    record = tiny_run().model_dump()
    record["architecture"] |= shape | fields
    return Run.model_validate(record)


@pytest.mark.parametrize(
    ("num_params", "world_size", "layout"),
    [
        (SMALL, 1, ParallelDims()),
        (SMALL, 8, ParallelDims(data=8)),
        (PARAMS_PER_PROCESS, 8, ParallelDims(data=8)),
        (PARAMS_PER_PROCESS + 1, 8, ParallelDims(tensor=2, data=4)),
        # five processes have to share it: four share each layer, and two the layers
        (LARGE, 8, ParallelDims(tensor=4, pipeline=2)),
        (LARGE, 16, ParallelDims(tensor=4, pipeline=2, data=2)),
    ],
)
def test_as_few_processes_share_a_model_as_can_hold_it(num_params, world_size, layout):
    assert choose_parallel_dims(run(), num_params, world_size, 8, {}) == layout


def test_processes_of_different_machines_do_not_share_a_layer():
    layout = choose_parallel_dims(run(), LARGE, 8, 2, {})
    assert (layout.tensor, layout.pipeline) == (2, 4)


def test_experts_are_shared_out_before_layers_are():
    layout = choose_parallel_dims(run(**EXPERTS), LARGE, 8, 8, {})
    assert layout == ParallelDims(tensor=2, expert=4, data=4)


def test_what_is_asked_for_is_kept():
    assert choose_parallel_dims(run(), SMALL, 8, 8, {"pipeline": 4}) == ParallelDims(
        pipeline=4, data=2
    )


@pytest.mark.parametrize(
    ("fields", "asked", "error"),
    [
        ({}, {"tensor": 16}, "--tensor-parallel: 16 does not divide 8 heads; allowed are 1, 2"),
        ({}, {"tensor": 8}, "--tensor-parallel: 8 does not divide 4 heads of keys and values"),
        ({}, {"tensor": 0}, "--tensor-parallel: 0 is fewer than 1"),
        ({}, {"pipeline": 8}, "--pipeline-parallel: 8 does not divide 12 layers"),
        ({}, {"pipeline": 3}, "does not divide 16 processes"),
        ({}, {"expert": 2}, "--expert-parallel: 2 processes for a model without experts"),
        (EXPERTS, {"expert": 8}, "--expert-parallel: 8 does not divide 4 experts"),
    ],
)
def test_a_layout_that_does_not_divide_the_model_is_refused(fields, asked, error):
    with pytest.raises(UserError, match=error):
        choose_parallel_dims(run(**fields), SMALL, 16, 8, asked)


def test_experts_are_shared_by_processes_that_have_the_same_layers():
    with pytest.raises(UserError, match="4 does not divide 2 processes that have the same layers"):
        choose_parallel_dims(run(**EXPERTS), SMALL, 8, 8, {"expert": 4, "pipeline": 4})


def test_routers_need_equal_parts_of_a_window():
    record = run(**EXPERTS).model_dump()
    record["optimization"]["seq_length"] = 15
    with pytest.raises(UserError, match="2 does not divide 15 positions of a window"):
        check_parallel_dims(ParallelDims(tensor=2), Run.model_validate(record))


def test_channels_of_an_mlp_are_shared_out_evenly():
    # 8/3 of a width of 24 is 64 channels
    kind = {"num_attention_heads": 3, "num_query_groups": None, "gated": True}
    with pytest.raises(UserError, match="3 does not divide 64 channels of an MLP"):
        check_parallel_dims(ParallelDims(tensor=3), run(**kind))
