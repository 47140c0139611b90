"""The table of precisions is complete and imports a backend only when it is loaded."""

import subprocess
import sys
from typing import get_args

import pytest

from knowcap.artifacts import code_digest
from knowcap.config import PRECISION_STAGES, Precision
from knowcap.stages.precisions import PRECISION_BACKENDS


def test_every_precision_has_a_stage_and_a_backend() -> None:
    assert {*PRECISION_BACKENDS} == {*PRECISION_STAGES} == {*get_args(Precision)}
    for precision, backend in PRECISION_BACKENDS.items():
        assert backend.stage == PRECISION_STAGES[precision]


@pytest.mark.parametrize("precision", PRECISION_BACKENDS)
def test_a_backend_is_defined_in_code_that_its_stage_s_digest_covers(precision: Precision) -> None:
    stage, load = PRECISION_BACKENDS[precision]
    backend = load()
    module = getattr(backend, "func", backend).__module__
    assert module in code_digest.modules(stage)


def test_trained_weights_are_loaded_without_the_quantisation_library() -> None:
    program = (
        "import sys; from knowcap.stages.precisions import PRECISION_BACKENDS; "
        "assert 'torch' not in sys.modules; PRECISION_BACKENDS['trained'].load(); "
        "sys.exit('modelopt' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_no_stage_s_digest_covers_the_table() -> None:
    for stage in get_args(code_digest.Stage):
        assert "knowcap.stages.precisions" not in code_digest.modules(stage)
