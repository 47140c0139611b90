"""Parts of Megatron-core and torch that the package relies on exist; an upgrade fails here."""

import inspect
import subprocess
import sys

import torch
from torch import distributed

from knowcap.model import megatron_core
from knowcap.model.megatron_config import gpt_model
from knowcap.model.megatron_core import GPTModel, MegatronModule, init_process_groups
from tests.support.tiny import tiny_run


def test_a_second_initialization_has_no_effect():
    assert init_process_groups() == init_process_groups()
    assert distributed.get_world_size() == 1


def test_importing_megatron_is_silent():
    code = "import warnings; warnings.simplefilter('always'); import knowcap.model.megatron_core"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_megatron_is_imported_without_triton():
    code = "import sys; sys.modules['triton'] = None; import knowcap.model.megatron_core"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_building_a_model_logs_nothing(caplog):
    init_process_groups()
    gpt_model(tiny_run().architecture, vocab_size=11, max_sequence_length=4)
    assert not caplog.records


def test_gpt_model_calls_the_methods_that_the_stacked_model_overrides():
    """The stacked model overrides two steps of the forward pass and gives layers rotary factors."""
    parameters = inspect.signature(GPTModel._preprocess).parameters
    assert "input_ids" in parameters
    parameters = inspect.signature(GPTModel._postprocess).parameters
    assert {"hidden_states", "labels"} <= parameters.keys()
    source = inspect.getsource(GPTModel.forward)
    assert "preproc_output[:6]" in source
    assert "rotary_pos_emb=rotary_pos_emb" in source


def test_a_transformer_block_takes_layer_specs_and_a_norm():
    assert issubclass(megatron_core.BaseTransformerLayer, object)
    fields = megatron_core.TransformerBlockSubmodules.__dataclass_fields__
    assert list(fields) == ["layer_specs", "layer_norm"]


def test_a_megatron_module_is_a_torch_module_with_a_config():
    assert issubclass(MegatronModule, torch.nn.Module)
    assert "config" in inspect.signature(MegatronModule).parameters


def test_fused_adamw_takes_a_tensor_learning_rate_and_steps():
    overloads = torch._fused_adamw_.__doc__ or ""
    assert callable(torch._fused_adamw_), overloads
    schema = str(torch.ops.aten._fused_adamw_.tensor_lr._schema)
    for argument in ("Tensor lr", "float beta1", "float weight_decay", "Tensor[] state_steps"):
        assert argument in schema or argument.replace("[]", "(f!)[]") in schema
