"""The parallelism of a model follows from its size, and sizes that do not divide it are refused."""

import pytest

from knowcap.config import Run
from knowcap.config.parallelism import ParallelDims
from knowcap.errors import UserError
from knowcap.planning.choose_parallelism import (
    PARAMS_PER_PROCESS,
    check_parallel_dims,
    choose_parallel_dims,
)
from tests.support.tiny import tiny_run
from tests.support.variants import EXPERTS

SMALL, LARGE = 10**6, 5 * PARAMS_PER_PROCESS


def run(**fields: object) -> Run:
    """A run of 12 layers, 8 heads and 4 KV heads."""
    shape = {"num_layers": 12, "num_attention_heads": 8, "num_query_groups": 4}
    record = tiny_run().model_dump()
    record["architecture"] |= shape | fields
    return Run.model_validate(record)


@pytest.mark.parametrize(
    ("num_params", "world_size", "expected"),
    [
        (SMALL, 1, ParallelDims()),
        (SMALL, 8, ParallelDims(data=8)),
        (PARAMS_PER_PROCESS, 8, ParallelDims(data=8)),
        (PARAMS_PER_PROCESS + 1, 8, ParallelDims(tensor=2, data=4)),
        # Five processes can hold it: four split each layer, and two split the layers.
        (LARGE, 8, ParallelDims(tensor=4, pipeline=2)),
        (LARGE, 16, ParallelDims(tensor=4, pipeline=2, data=2)),
    ],
)
def test_a_model_is_split_among_as_few_processes_as_can_hold_it(num_params, world_size, expected):
    assert choose_parallel_dims(run(), num_params, world_size, 8, {}) == expected


def test_a_layer_is_not_split_across_machines():
    dims = choose_parallel_dims(run(), LARGE, 8, 2, {})
    assert (dims.tensor, dims.pipeline) == (2, 4)


def test_one_layer_is_split_by_tensors_and_not_by_layers():
    dims = choose_parallel_dims(run(num_layers=1), LARGE, 8, 8, {})
    assert dims == ParallelDims(tensor=4, data=2)


def test_a_model_is_split_by_experts_before_tensors():
    dims = choose_parallel_dims(run(**EXPERTS), LARGE, 8, 8, {})
    assert dims == ParallelDims(tensor=2, expert=4, data=4)


def test_sizes_that_are_set_are_kept():
    assert choose_parallel_dims(run(), SMALL, 8, 8, {"pipeline": 4}) == ParallelDims(
        pipeline=4, data=2
    )


@pytest.mark.parametrize(
    ("fields", "fixed_sizes", "error"),
    [
        ({}, {"tensor": 16}, "--tensor-parallel: 16 does not divide 8 heads; allowed are 1, 2"),
        ({}, {"tensor": 8}, "--tensor-parallel: 8 does not divide 4 KV heads"),
        ({}, {"tensor": 0}, "--tensor-parallel: 0 is not allowed"),
        ({}, {"pipeline": 8}, "--pipeline-parallel: 8 does not divide 12 layers"),
        (
            {"num_layers": 1},
            {"pipeline": 2},
            "^--pipeline-parallel: 2 does not divide 1 layer; only 1 is allowed$",
        ),
        ({}, {"pipeline": 3}, "does not divide 16 processes"),
        ({}, {"expert": 2}, "--expert-parallel: 2 is not allowed, the model has no experts"),
        (EXPERTS, {"expert": 8}, "--expert-parallel: 8 does not divide 4 experts"),
    ],
)
def test_sizes_that_do_not_divide_the_model_are_refused(fields, fixed_sizes, error):
    with pytest.raises(UserError, match=error):
        choose_parallel_dims(run(**fields), SMALL, 16, 8, fixed_sizes)


def test_experts_are_split_among_processes_with_the_same_layers():
    with pytest.raises(UserError, match="4 does not divide 2 processes with the same layers"):
        choose_parallel_dims(run(**EXPERTS), SMALL, 8, 8, {"expert": 4, "pipeline": 4})


def test_tensor_parallel_routers_need_equal_parts_of_a_window():
    record = run(**EXPERTS).model_dump()
    record["optimization"]["seq_length"] = 15
    with pytest.raises(UserError, match="2 does not divide 15 positions of a window"):
        check_parallel_dims(ParallelDims(tensor=2), Run.model_validate(record))


def test_channels_of_an_mlp_are_split_evenly():
    # 8/3 of a width of 24 are 64 channels.
    kind = {"num_attention_heads": 3, "num_query_groups": None, "gated": True}
    with pytest.raises(UserError, match="3 does not divide 64 channels of an MLP"):
        check_parallel_dims(ParallelDims(tensor=3), run(**kind))
