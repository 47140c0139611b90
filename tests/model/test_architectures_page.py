"""The example in docs/architectures.md works."""

import ast
import re
from pathlib import Path

import pytest
import torch
import yaml

from knowcap.config import Architecture, architecture_presets
from knowcap.model.megatron_config import gpt_model
from knowcap.model.num_params import num_params
from tests.support.variants import SEQ_LENGTH, VOCAB_SIZE, stacked, windows

PAGE = (Path(__file__).parents[2] / "docs" / "architectures.md").read_text()


def block(language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return text


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Architecture:
    entry = ast.literal_eval("{" + block("python") + "}")
    monkeypatch.setattr(
        "knowcap.config.architecture.ARCHITECTURE_PRESETS",
        architecture_presets.ARCHITECTURE_PRESETS | entry,
    )
    monkeypatch.setattr(
        "knowcap.config.architecture_presets.ARCHITECTURE_PRESETS",
        architecture_presets.ARCHITECTURE_PRESETS | entry,
    )
    return Architecture.model_validate(yaml.safe_load(block("yaml"))["architecture"])


def test_the_example_builds_a_model(own):
    model = stacked(own, 1)
    tokens = windows(1, 2, SEQ_LENGTH)
    gpt = gpt_model(own, VOCAB_SIZE, max_sequence_length=SEQ_LENGTH)
    gpt.load_state_dict(model.unstack(0), strict=False)
    with torch.no_grad():
        # float32 sums in another order
        torch.testing.assert_close(
            model.logits(tokens)[0], gpt(tokens[0], None, None), rtol=1e-4, atol=1e-5
        )


def test_the_example_has_the_number_of_parameters_that_the_page_states(own):
    (stated,) = re.findall(r"has ([\d,]+) parameters", PAGE)
    assert num_params(own, VOCAB_SIZE)["total"] == int(stated.replace(",", ""))


def test_the_page_lists_every_preset_and_every_option():
    for name in architecture_presets.ARCHITECTURE_PRESETS:
        assert f"| `{name}` |" in PAGE
    for field in Architecture.model_fields.keys() - {"family"}:
        required = Architecture.model_fields[field].is_required()
        assert required or f"`{field}`" in PAGE
