"""Quantisation: GPTQ as in its paper, bits counted by hand, bounds of rounding errors."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

from knowcap.config import Architecture, Evaluation, Precision, Probe, Run
from knowcap.data.corpus import load_corpus
from knowcap.data.corpus_writer import write_corpus
from knowcap.errors import UserError
from knowcap.evaluation.evaluate import evaluate
from knowcap.evaluation.quantize import (
    EMBEDDING_PARAMETERS,
    SCHEMES,
    calibration_windows,
    quantize,
)
from knowcap.evaluation.quantized_weights import QuantizedModel, round_to_nearest
from knowcap.model import megatron_core
from knowcap.model.megatron_config import gpt_model
from knowcap.model.megatron_core import GPTModel
from knowcap.model.num_params import num_params
from knowcap.stages.precisions import PRECISION_BACKENDS
from knowcap.training.run_dir import MEASUREMENT
from knowcap.training.train import train
from tests.support.tiny import RECORD, tiny_run

VOCAB_SIZE = 30
NARROW = tiny_run().architecture
WIDE = tiny_run(
    architecture__num_layers=1, architecture__num_attention_heads=5, architecture__kv_channels=16
).architecture
"""80 inputs are one group; the 320 inputs of the MLP's second matrix are 2.5 groups."""
EXACT_16 = 2.0**-11
"""Largest relative error of rounding to float16."""


def tokens(*shape: int) -> Tensor:
    return torch.randint(VOCAB_SIZE, shape, generator=torch.Generator().manual_seed(0))


CALIBRATION = tokens(100, 16)


def calibrate(model: nn.Module) -> None:
    for batch in CALIBRATION.split(25):
        model(batch, None, None)


def megatron_model(architecture=NARROW, state: dict[str, Tensor] | None = None) -> GPTModel:
    """A Megatron model whose weights are float16 numbers, so that storing them loses nothing."""
    megatron_core.init_process_groups()
    model = gpt_model(architecture, VOCAB_SIZE, 16).requires_grad_(False)
    if state is None:
        generator = torch.Generator().manual_seed(0)
        state = {
            name: (0.2 * torch.randn(value.shape, generator=generator)).half().float()
            for name, value in model.named_parameters()
        }
    model.load_state_dict(state, strict=False)
    return model


def quantized(precision: Precision, architecture=NARROW) -> QuantizedModel:
    return quantize(megatron_model(architecture), SCHEMES[precision], calibrate)


def inputs_of_linear_layers(model: GPTModel) -> dict[str, np.ndarray]:
    """Inputs of each linear layer during calibration, [tokens, inputs]."""
    seen: dict[str, list[Tensor]] = {}
    for name, module in model.named_modules():
        if "linear_" in name.rpartition(".")[2]:
            module.register_forward_pre_hook(
                lambda _, inputs, name=name: seen.setdefault(name, []).append(inputs[0])
            )
    calibrate(model)
    return {
        f"{name}.weight": torch.cat([x.flatten(0, 1) for x in parts]).double().numpy()
        for name, parts in seen.items()
    }


def hessian(inputs: np.ndarray) -> np.ndarray:
    return 2 * inputs.T @ inputs / len(inputs)


def group_scales(weight: np.ndarray, bits: int) -> np.ndarray:
    """Scale of every weight; 128 inputs share one."""
    largest = [abs(weight[:, i : i + 128]).max(1) for i in range(0, weight.shape[1], 128)]
    return np.repeat(np.stack(largest, 1), 128, axis=1)[:, : weight.shape[1]] / (
        2 ** (bits - 1) - 1
    )


def gptq(weight: np.ndarray, inputs: np.ndarray, bits: int) -> np.ndarray:
    """Integers by optimal brain quantisation, one input at a time, without factorisation.

    Frantar et al. 2022, equations 2 and 3: round input q; subtract the error of w_q / [H^-1]_qq
    times row q of H^-1 from the remaining weights; remove q from H^-1 by Gaussian elimination.
    """
    weight, scale = weight.copy(), group_scales(weight, bits)
    damped = hessian(inputs)
    damped += 0.01 * np.diag(damped).mean() * np.eye(len(damped))
    inverse = np.linalg.inv(damped)
    integers = np.zeros_like(weight)
    for q in range(weight.shape[1]):
        steps = np.round(weight[:, q] / scale[:, q])
        integers[:, q] = np.clip(steps, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        error = (weight[:, q] - integers[:, q] * scale[:, q]) / inverse[q, q]
        weight[:, q + 1 :] -= np.outer(error, inverse[q, q + 1 :])
        inverse -= np.outer(inverse[:, q], inverse[q]) / inverse[q, q]
    return integers


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_gptq_gives_the_integers_of_its_paper(precision):
    bits = SCHEMES[precision].bits
    model = megatron_model(WIDE)
    weights = {name: value.double().numpy() for name, value in model.named_parameters()}
    inputs = inputs_of_linear_layers(model)
    stored = quantized(precision, WIDE)
    assert stored.matrices.keys() == inputs.keys()
    for name, matrix in stored.matrices.items():
        found, expected = matrix.integers.numpy(), gptq(weights[name], inputs[name], bits)
        # In float32 a near tie can round the other way, which changes the rest of its row.
        assert (found == expected).mean() > 0.99
        assert abs(found - expected).max() <= 2


def output_errors(stored: QuantizedModel, architecture) -> dict[str, float]:
    """Mean square error of each linear layer's outputs during calibration."""
    model = megatron_model(architecture)
    weights, inputs = dict(model.named_parameters()), inputs_of_linear_layers(model)
    errors = {
        name: (matrix.dequantize() - weights[name]).double().numpy()
        for name, matrix in stored.matrices.items()
    }
    return {name: float(((inputs[name] @ errors[name].T) ** 2).mean()) for name in errors}


@pytest.mark.parametrize("better", ["int4", "int4_awq"])
def test_calibrated_methods_have_smaller_output_errors_than_rounding(better):
    rounded = output_errors(quantized("int4_rtn", WIDE), WIDE)
    calibrated = output_errors(quantized(better, WIDE), WIDE)
    assert sum(calibrated.values()) < sum(rounded.values())


@pytest.mark.parametrize("architecture", [NARROW, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("precision", ["int8_rtn_embedding", "int4_rtn_embedding"])
def test_rounding_changes_a_weight_by_at_most_half_a_scale(precision, architecture):
    bits = SCHEMES[precision].bits
    weights = dict(megatron_model(architecture).named_parameters())
    stored = quantized(precision, architecture)
    assert len(stored.matrices) == 1 + 4 * architecture.num_layers
    for name, matrix in stored.matrices.items():
        weight = weights[name].double().numpy()
        steps = abs(matrix.dequantize().double().numpy() - weight) / group_scales(weight, bits)
        # the scale is stored in float16; its error is multiplied by the integer
        assert steps.max() <= 0.5 + 2 ** (bits - 1) * EXACT_16


@pytest.mark.parametrize("precision", SCHEMES)
def test_the_stored_model_has_the_logits_of_the_quantised_model(precision):
    quantised = megatron_model(WIDE)
    stored = quantize(quantised, SCHEMES[precision], calibrate)
    loaded = megatron_model(WIDE, stored.state_dict())
    test = tokens(5, 16)
    # scales are rounded to float16
    torch.testing.assert_close(
        loaded(test, None, None), quantised(test, None, None).float(), rtol=0.02, atol=0.02
    )


@pytest.mark.parametrize("precision", SCHEMES)
def test_integers_fit_in_the_counted_number_of_bits(precision):
    bits = SCHEMES[precision].bits
    for matrix in quantized(precision).matrices.values():
        assert matrix.integers.dtype == torch.int8
        assert matrix.scale.dtype == torch.float16
        smallest, largest = int(matrix.integers.min()), int(matrix.integers.max())
        assert -(2 ** (bits - 1)) <= smallest < largest < 2 ** (bits - 1)


def test_parameters_that_are_not_quantised_keep_16_bits():
    weights = dict(megatron_model().named_parameters())
    stored = quantized("int4")
    assert "embedding.word_embeddings.weight" in stored.others
    for name, value in stored.others.items():
        assert value.dtype == torch.float16
        torch.testing.assert_close(value.float(), weights[name], rtol=0, atol=0)


@pytest.mark.parametrize("precision", ["int4", "int4_rtn"])
def test_weights_of_zero_stay_zero(precision):
    model = megatron_model()
    model.decoder.layers[0].mlp.linear_fc1.weight.zero_()
    stored = quantize(model, SCHEMES[precision], calibrate)
    assert not stored.state_dict()["decoder.layers.0.mlp.linear_fc1.weight"].any()


# Width 16, 2 layers, 30 tokens: 6144 weights in linear layers, 30 x 16 = 480 in the embedding;
# a layer's matrices have 48 + 16 + 64 + 16 outputs of one group each, so 288 scales.
# Width 80, 1 layer: 76800 weights; 240 + 80 + 320 scales, and 80 x 3 of the widest matrix.
@pytest.mark.parametrize(
    ("precision", "architecture", "num_quantised", "num_bits"),
    [
        ("int8", NARROW, 6144, 8 * 6144 + 16 * 288),
        ("int4", NARROW, 6144, 4 * 6144 + 16 * 288),
        ("int4_embedding", NARROW, 6144 + 480, 4 * (6144 + 480) + 16 * (288 + 30)),
        # plus a scale for each of the 16 + 16 + 16 + 64 inputs of a layer's matrices
        ("int4_awq", NARROW, 6144, 4 * 6144 + 16 * (288 + 2 * 112)),
        ("int8_rtn", WIDE, 76800, 8 * 76800 + 16 * (640 + 240)),
    ],
)
def test_effective_bits_equal_a_count_by_hand(precision, architecture, num_quantised, num_bits):
    total = num_params(architecture, VOCAB_SIZE)["total"]
    stored = quantized(precision, architecture)
    assert stored.share_quantised == num_quantised / total
    expected = (num_bits + 16 * (total - num_quantised)) / total
    assert stored.effective_bits_per_param == pytest.approx(expected, rel=1e-12)


EXPERTS = {"num_moe_experts": 4, "moe_router_topk": 1, "moe_aux_loss_coeff": 0.01}


@pytest.mark.parametrize("experts", [{}, EXPERTS], ids=["dense", "experts"])
@pytest.mark.parametrize("family", ["GPT2", "LLaMA", "Mistral"])
@pytest.mark.parametrize("precision", ["int4", "int4_awq"])
def test_all_matrices_except_routers_and_embedding_are_quantised(precision, family, experts):
    kind = Architecture.model_validate(RECORD["architecture"] | {"family": family} | experts)
    stored = quantized(precision, kind)
    for name, value in stored.others.items():
        assert value.ndim == 1 or name in EMBEDDING_PARAMETERS or "router" in name
    total = sum(value.numel() for value in stored.state_dict().values())
    assert total == num_params(kind, VOCAB_SIZE)["total"]
    assert megatron_model(kind, stored.state_dict())(tokens(5, 16), None, None).isfinite().all()


@pytest.mark.parametrize(("precision", "is_quantised"), [("int8", False), ("int8_embedding", True)])
def test_an_untied_output_layer_is_quantised_with_the_embedding(precision, is_quantised):
    tied = megatron_model()
    untied = GPTModel(
        tied.config,
        tied.transformer_layer_spec,
        vocab_size=VOCAB_SIZE,
        max_sequence_length=16,
        position_embedding_type="rope",
    ).requires_grad_(False)
    stored = quantize(untied, SCHEMES[precision], calibrate)
    assert all((name in stored.matrices) == is_quantised for name in EMBEDDING_PARAMETERS)
    assert all((name in stored.others) != is_quantised for name in EMBEDDING_PARAMETERS)


@pytest.mark.parametrize("precision", ["int4", "int4_awq"])
def test_integers_do_not_depend_on_the_order_of_sums(precision):
    def calibrate_window_by_window(model: nn.Module) -> None:
        for window in CALIBRATION.flip(0).split(1):
            model(window, None, None)

    stored = quantized(precision, WIDE)
    same = quantize(megatron_model(WIDE), SCHEMES[precision], calibrate_window_by_window)
    for name, matrix in stored.matrices.items():
        assert torch.equal(matrix.integers, same.matrices[name].integers), name


def test_matrices_of_experts_without_tokens_are_counted():
    kind = Architecture.model_validate(RECORD["architecture"] | EXPERTS)
    model = megatron_model(kind)
    for layer in model.decoder.layers:
        layer.mlp.router.weight.zero_()
        layer.mlp.router.bias.copy_(torch.tensor([1.0, 0.5, 0.25, 0.0]))
    weights = {name: value.clone() for name, value in model.named_parameters()}
    stored = quantize(model, SCHEMES["int4"], calibrate)
    assert stored.num_uncompensated == 2 * 3 * 2  # layers, experts, matrices
    assert quantized("int4").num_uncompensated == 0
    assert quantized("int4_rtn").num_uncompensated == 0
    name = "decoder.layers.0.mlp.experts.local_experts.3.linear_fc1.weight"
    nearest = round_to_nearest(weights[name].double(), 4)
    assert torch.equal(stored.matrices[name].integers, nearest.integers)


def test_every_precision_has_a_scheme_and_a_valid_folder_name():
    assert {"trained", *get_args(Probe), *SCHEMES} == {*get_args(Precision)}
    for precision in get_args(Precision):
        assert MEASUREMENT.fullmatch(f"{precision}-0123456789ab")


KNOWLEDGE = tiny_run().corpus.knowledge.model_dump()
RUN = tiny_run(
    corpus__knowledge=KNOWLEDGE | {"num_people": 10},
    optimization__exposures=400,
    optimization__global_batch_size=1,
    replicates__lr=[8e-3],
)
"""Ten people and enough exposures to learn them."""
EVALUATION = Evaluation(num_people=10, seed=5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    write_corpus(RUN.corpus, folder / "corpus")
    train(RUN, folder / "corpus", folder / "run", folder / "scratch")
    return folder


def evaluated(folder: Path, precision: Precision) -> xr.Dataset:
    output = folder / "losses.nc"
    backend = PRECISION_BACKENDS[precision].load()
    folders = (folder / "run", folder / "corpus")
    evaluate(*folders, precision, EVALUATION, output, backend=backend)
    return xr.load_dataset(output, engine="h5netcdf")


def test_8_bits_lose_almost_nothing_and_4_bits_do(trained):
    loss = {
        precision: float(evaluated(trained, precision)["value_loss"].mean())
        for precision in ("trained", "int8", "int8_embedding", "int4", "int4_embedding")
    }
    # in nats; uniform logits lose 4, the trained model 0.25
    assert loss["trained"] < 0.5
    assert abs(loss["int8"] - loss["trained"]) < 0.01
    assert abs(loss["int8_embedding"] - loss["trained"]) < 0.01
    assert loss["int4"] > loss["int8"]
    assert loss["int4_embedding"] > loss["trained"] + 0.01


@pytest.mark.parametrize("precision", SCHEMES)
def test_losses_of_every_precision_are_finite_and_have_the_stored_bits(trained, precision):
    losses = evaluated(trained, precision)
    assert all(np.isfinite(variable).all() for variable in losses.data_vars.values())
    assert losses.attrs["precision"] == precision
    bits = SCHEMES[precision].bits
    assert bits < losses.attrs["effective_bits_per_param"] < 16
    assert 0.5 < losses.attrs["share_quantised"] < 1
    assert losses.attrs["num_uncompensated"] == 0


def test_quantising_twice_gives_the_same_losses(trained):
    first = evaluated(trained, "int4")
    xr.testing.assert_identical(first, evaluated(trained, "int4"))


def test_losses_do_not_depend_on_the_library_of_earlier_products(trained):
    losses = []
    for precision in ("bf16", "ieee"):  # oneDNN, MKL
        torch.backends.mkldnn.matmul.fp32_precision = precision
        losses.append(evaluated(trained, "int8_rtn"))
    xr.testing.assert_identical(*losses)


def test_a_run_without_weights_is_refused(trained, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_bytes((trained / "run" / "run.json").read_bytes())
    with pytest.raises(UserError, match="DONE: missing"):
        evaluate(
            tmp_path / "run",
            trained / "corpus",
            "int4",
            EVALUATION,
            tmp_path / "losses.nc",
            backend=PRECISION_BACKENDS["int4"].load(),
        )


def calibration_data(run: Run, folder: Path) -> tuple[Tensor, float]:
    """Calibration windows, and mean tokens of a biography."""
    write_corpus(run.corpus, folder)
    corpus_reader = load_corpus(folder)
    return calibration_windows(corpus_reader, run), corpus_reader.tokens_per_biography


@pytest.mark.parametrize(("num_people", "num_calibrated"), [(50, 50), (1500, 1000)])
def test_calibration_uses_1000_people_or_all(tmp_path, num_people, num_calibrated):
    knowledge = KNOWLEDGE | {"num_people": num_people, "alphabet_size": 16}
    run = tiny_run(corpus__knowledge=knowledge)
    windows, mean_tokens = calibration_data(run, tmp_path)
    assert windows.shape[1] == run.optimization.seq_length
    assert 0 <= num_calibrated * mean_tokens - windows.numel() < run.optimization.seq_length


def test_calibration_windows_contain_junk_if_the_training_s_did(tmp_path):
    mixture = {"useful_share": 0.125, "num_junk_people": 20, "domain_token": False}
    windows, _ = calibration_data(tiny_run(corpus__mixture=mixture), tmp_path / "mixed")
    useful, _ = calibration_data(tiny_run(), tmp_path / "useful")
    assert windows.shape == useful.shape
    assert not torch.equal(windows, useful)


def test_calibration_windows_are_not_those_of_a_replicate(tmp_path):
    windows, _ = calibration_data(RUN, tmp_path)
    corpus_reader = load_corpus(tmp_path)
    for seed in RUN.replicates.seeds:
        stream = corpus_reader.stream(1, seed)
        read, _ = stream.windows(*windows.shape, stream.start)
        assert not np.array_equal(windows.numpy(), read[:, :-1])


def test_quantising_does_not_import_transformers_and_does_not_prevent_it() -> None:
    program = (
        "import sys; from tests.evaluation import test_quantize as test; "
        "test.quantize(test.megatron_model(), test.SCHEMES['int8'], test.calibrate); "
        "assert 'transformers' not in sys.modules; import transformers.activations"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "transformers" not in done.stderr
