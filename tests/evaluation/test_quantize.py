"""Oracles: GPTQ as its paper writes it, bits counted by hand, and what rounding cannot exceed."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

from knowcap.config import Architecture, Evaluation, Precision, Run
from knowcap.data.corpus import load_corpus, write_corpus
from knowcap.errors import UserError
from knowcap.evaluation.evaluate import evaluate
from knowcap.evaluation.quantize import (
    ANSWERS,
    SCHEMES,
    TABLES,
    calibration_windows,
    quantize,
)
from knowcap.evaluation.quantized_weights import StoredModel
from knowcap.model import megatron_core
from knowcap.model.megatron_config import gpt_model
from knowcap.model.megatron_core import GPTModel
from knowcap.model.num_params import num_params
from knowcap.training.run_dir import MEASUREMENT
from knowcap.training.train import train
from tests.support.tiny import RECORD, tiny_run

VOCAB_SIZE = 30
NARROW = tiny_run().architecture
WIDE = tiny_run(
    architecture__num_layers=1, architecture__num_attention_heads=5, architecture__kv_channels=16
).architecture
"""80 inputs are one group, the 320 of the last matrix are two and half a group."""
EXACT_16 = 2.0**-11
"""Largest relative error of rounding to float16."""


def tokens(*shape: int) -> Tensor:
    return torch.randint(VOCAB_SIZE, shape, generator=torch.Generator().manual_seed(0))


CALIBRATION = tokens(100, 16)


def calibrate(model: nn.Module) -> None:
    for batch in CALIBRATION.split(25):
        model(batch, None, None)


def ordinary(architecture=NARROW, state: dict[str, Tensor] | None = None) -> GPTModel:
    """A model of float16 numbers, so that what is not quantised stays what it is."""
    megatron_core.start()
    model = gpt_model(architecture, VOCAB_SIZE, 16).requires_grad_(False)
    if state is None:
        generator = torch.Generator().manual_seed(0)
        state = {
            name: (0.2 * torch.randn(value.shape, generator=generator)).half().float()
            for name, value in model.named_parameters()
        }
    model.load_state_dict(state, strict=False)
    return model


def store(precision: Precision, architecture=NARROW) -> StoredModel:
    return quantize(ordinary(architecture), SCHEMES[precision], calibrate)


def inputs_of_linear_layers(model: GPTModel) -> dict[str, np.ndarray]:
    """What each linear layer reads in calibration, [tokens, inputs]."""
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
    """The scale of every weight, one for 128 inputs."""
    largest = [abs(weight[:, i : i + 128]).max(1) for i in range(0, weight.shape[1], 128)]
    return np.repeat(np.stack(largest, 1), 128, axis=1)[:, : weight.shape[1]] / (
        2 ** (bits - 1) - 1
    )


def gptq(weight: np.ndarray, inputs: np.ndarray, bits: int) -> np.ndarray:
    """Codes by optimal brain quantisation of one input after another, without factorisation.

    Frantar et al. 2022, equations 2 and 3: round input q, take w_q's error / [H^-1]_qq times
    row q of H^-1 off the weights to come, and remove q from H^-1 by Gaussian elimination.
    """
    weight, scale = weight.copy(), group_scales(weight, bits)
    damped = hessian(inputs)
    damped += 0.01 * np.diag(damped).mean() * np.eye(len(damped))
    inverse = np.linalg.inv(damped)
    codes = np.zeros_like(weight)
    for q in range(weight.shape[1]):
        steps = np.round(weight[:, q] / scale[:, q])
        codes[:, q] = np.clip(steps, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        error = (weight[:, q] - codes[:, q] * scale[:, q]) / inverse[q, q]
        weight[:, q + 1 :] -= np.outer(error, inverse[q, q + 1 :])
        inverse -= np.outer(inverse[:, q], inverse[q]) / inverse[q, q]
    return codes


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_gptq_is_that_of_its_paper(precision):
    bits = SCHEMES[precision].bits
    model = ordinary(WIDE)
    weights = {name: value.double().numpy() for name, value in model.named_parameters()}
    inputs = inputs_of_linear_layers(model)
    stored = store(precision, WIDE)
    assert stored.matrices.keys() == inputs.keys()
    for name, matrix in stored.matrices.items():
        found, expected = matrix.codes.numpy(), gptq(weights[name], inputs[name], bits)
        # In float32 a near tie can fall to the other side, which moves the rest of its row.
        assert (found == expected).mean() > 0.99
        assert abs(found - expected).max() <= 2


def damage(stored: StoredModel, architecture) -> dict[str, float]:
    """Mean square error of every linear layer's outputs in calibration."""
    model = ordinary(architecture)
    weights, inputs = dict(model.named_parameters()), inputs_of_linear_layers(model)
    errors = {
        name: (matrix.dense() - weights[name]).double().numpy()
        for name, matrix in stored.matrices.items()
    }
    return {name: float(((inputs[name] @ errors[name].T) ** 2).mean()) for name in errors}


@pytest.mark.parametrize("better", ["int4", "int4_awq"])
def test_calibration_keeps_outputs_better_than_rounding_does(better):
    rounded = damage(store("int4_rtn", WIDE), WIDE)
    calibrated = damage(store(better, WIDE), WIDE)
    assert sum(calibrated.values()) < sum(rounded.values())


@pytest.mark.parametrize("architecture", [NARROW, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("precision", ["int8_rtn_embedding", "int4_rtn_embedding"])
def test_rounding_moves_no_weight_by_more_than_half_a_step(precision, architecture):
    bits = SCHEMES[precision].bits
    weights = dict(ordinary(architecture).named_parameters())
    stored = store(precision, architecture)
    assert len(stored.matrices) == 1 + 4 * architecture.num_layers
    for name, matrix in stored.matrices.items():
        weight = weights[name].double().numpy()
        steps = abs(matrix.dense().double().numpy() - weight) / group_scales(weight, bits)
        # the scale is stored in float16, and the largest codes have its error that many times
        assert steps.max() <= 0.5 + 2 ** (bits - 1) * EXACT_16


@pytest.mark.parametrize("precision", SCHEMES)
def test_what_is_stored_answers_as_the_model_that_was_quantised(precision):
    quantised = ordinary(WIDE)
    stored = quantize(quantised, SCHEMES[precision], calibrate)
    plain = ordinary(WIDE, stored.state_dict())
    test = tokens(5, 16)
    # scales are rounded to float16
    torch.testing.assert_close(
        plain(test, None, None), quantised(test, None, None), rtol=0.02, atol=0.02
    )


@pytest.mark.parametrize("precision", SCHEMES)
def test_codes_have_as_many_bits_as_are_counted(precision):
    bits = SCHEMES[precision].bits
    for matrix in store(precision).matrices.values():
        assert matrix.codes.dtype == torch.int8
        assert matrix.scale.dtype == torch.float16
        smallest, largest = int(matrix.codes.min()), int(matrix.codes.max())
        assert -(2 ** (bits - 1)) <= smallest < largest < 2 ** (bits - 1)


def test_what_is_not_quantised_keeps_16_bits():
    weights = dict(ordinary().named_parameters())
    stored = store("int4")
    assert "embedding.word_embeddings.weight" in stored.others
    for name, value in stored.others.items():
        assert value.dtype == torch.float16
        torch.testing.assert_close(value.float(), weights[name], rtol=0, atol=0)


@pytest.mark.parametrize("precision", ["int4", "int4_rtn"])
def test_weights_of_zero_stay_zero(precision):
    model = ordinary()
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
        # and a scale for each of 16 + 16 + 16 + 64 inputs of a layer's matrices
        ("int4_awq", NARROW, 6144, 4 * 6144 + 16 * (288 + 2 * 112)),
        ("int8_rtn", WIDE, 76800, 8 * 76800 + 16 * (640 + 240)),
    ],
)
def test_bits_are_those_counted_by_hand(precision, architecture, num_quantised, num_bits):
    total = num_params(architecture, VOCAB_SIZE)["total"]
    stored = store(precision, architecture)
    assert stored.share_quantised == num_quantised / total
    expected = (num_bits + 16 * (total - num_quantised)) / total
    assert stored.effective_bits_per_param == pytest.approx(expected, rel=1e-12)


EXPERTS = {"num_moe_experts": 4, "moe_router_topk": 1, "moe_aux_loss_coeff": 0.01}


@pytest.mark.parametrize("experts", [{}, EXPERTS], ids=["dense", "experts"])
@pytest.mark.parametrize("family", ["GPT2", "LLaMA", "Mistral"])
@pytest.mark.parametrize("precision", ["int4", "int4_awq"])
def test_all_matrices_of_a_family_are_quantised_but_routers_and_embedding(
    precision, family, experts
):
    kind = Architecture.model_validate(RECORD["architecture"] | {"family": family} | experts)
    stored = store(precision, kind)
    for name, value in stored.others.items():
        assert value.ndim == 1 or name in TABLES or "router" in name
    total = sum(value.numel() for value in stored.state_dict().values())
    assert total == num_params(kind, VOCAB_SIZE)["total"]
    assert ordinary(kind, stored.state_dict())(tokens(5, 16), None, None).isfinite().all()


@pytest.mark.parametrize(("precision", "is_quantised"), [("int8", False), ("int8_embedding", True)])
def test_an_output_layer_of_its_own_goes_with_the_embedding(precision, is_quantised):
    tied = ordinary()
    untied = GPTModel(
        tied.config,
        tied.transformer_layer_spec,
        vocab_size=VOCAB_SIZE,
        max_sequence_length=16,
        position_embedding_type="rope",
    ).requires_grad_(False)
    stored = quantize(untied, SCHEMES[precision], calibrate)
    assert all((name in stored.matrices) == is_quantised for name in TABLES)
    assert all((name in stored.others) != is_quantised for name in TABLES)


def test_every_precision_is_known_and_has_a_folder():
    assert {"trained", *SCHEMES} == {*get_args(Precision)}
    for precision in get_args(Precision):
        assert MEASUREMENT.fullmatch(f"{precision}-0123456789ab")


KNOWLEDGE = tiny_run().corpus.knowledge.model_dump()
RUN = tiny_run(
    corpus__knowledge=KNOWLEDGE | {"num_people": 10},
    optimization__exposures=400,
    optimization__global_batch_size=1,
    replicates__lr=[8e-3],
)
"""Ten people, read until they are known."""
EVALUATION = Evaluation(num_people=10, seed=5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    write_corpus(RUN.corpus, folder / "corpus")
    train(RUN, folder / "corpus", folder / "run", folder / "scratch")
    return folder


def measured(folder: Path, precision: Precision) -> xr.Dataset:
    output = folder / "losses.nc"
    answers = {} if precision == "trained" else {"answers": ANSWERS}
    evaluate(folder / "run", folder / "corpus", precision, EVALUATION, output, **answers)
    return xr.load_dataset(output, engine="h5netcdf")


def test_8_bits_are_nearly_free_and_4_bits_are_not(trained):
    loss = {
        precision: float(measured(trained, precision)["value_loss"].mean())
        for precision in ("trained", "int8", "int8_embedding", "int4", "int4_embedding")
    }
    # in nats; a guess loses 4, and the trained model a quarter of one
    assert loss["trained"] < 0.5
    assert abs(loss["int8"] - loss["trained"]) < 0.01
    assert abs(loss["int8_embedding"] - loss["trained"]) < 0.01
    assert loss["int4"] > loss["int8"]
    assert loss["int4_embedding"] > loss["trained"] + 0.01


@pytest.mark.parametrize("precision", SCHEMES)
def test_losses_of_every_precision_are_finite_and_say_what_was_stored(trained, precision):
    losses = measured(trained, precision)
    assert all(np.isfinite(variable).all() for variable in losses.data_vars.values())
    assert losses.attrs["precision"] == precision
    bits = SCHEMES[precision].bits
    assert bits < losses.attrs["effective_bits_per_param"] < 16
    assert 0.5 < losses.attrs["share_quantised"] < 1


def test_measuring_quantised_twice_gives_the_same(trained):
    first = measured(trained, "int4")
    xr.testing.assert_identical(first, measured(trained, "int4"))


def test_a_run_without_weights_is_refused(trained, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_bytes((trained / "run" / "run.json").read_bytes())
    with pytest.raises(UserError, match=r"model\.pt: missing"):
        evaluate(
            tmp_path / "run",
            trained / "corpus",
            "int4",
            EVALUATION,
            tmp_path / "losses.nc",
            answers=ANSWERS,
        )


def calibrated_on(run: Run, folder: Path) -> tuple[Tensor, float]:
    """The windows, and tokens that the population's biographies have on average."""
    write_corpus(run.corpus, folder)
    corpus_reader = load_corpus(folder)
    return calibration_windows(corpus_reader, run), corpus_reader.tokens_per_biography


@pytest.mark.parametrize(("num_people", "num_read"), [(50, 50), (1500, 1000)])
def test_calibration_reads_1000_people_or_all(tmp_path, num_people, num_read):
    knowledge = KNOWLEDGE | {"num_people": num_people, "alphabet_size": 16}
    run = tiny_run(corpus__knowledge=knowledge)
    windows, mean_tokens = calibrated_on(run, tmp_path)
    assert windows.shape[1] == run.optimization.seq_length
    assert 0 <= num_read * mean_tokens - windows.numel() < run.optimization.seq_length


def test_calibration_reads_junk_where_training_did(tmp_path):
    mixture = {"useful_share": 0.125, "num_junk_people": 20, "domain_token": False}
    windows, _ = calibrated_on(tiny_run(corpus__mixture=mixture), tmp_path / "mixed")
    useful, _ = calibrated_on(tiny_run(), tmp_path / "useful")
    assert windows.shape == useful.shape
    assert not torch.equal(windows, useful)


def test_calibration_reads_nothing_that_was_trained_on(tmp_path):
    windows, _ = calibrated_on(RUN, tmp_path)
    corpus_reader = load_corpus(tmp_path)
    for seed in RUN.replicates.seeds:
        stream = corpus_reader.stream(1, seed)
        read, _ = stream.windows(*windows.shape, stream.start)
        assert not np.array_equal(windows.numpy(), read[:, :-1])


def test_quantising_does_without_transformers_which_can_be_imported_afterwards() -> None:
    program = (
        "import sys; from tests.evaluation.test_quantize import SCHEMES, calibrate, ordinary, quantize; "
        "quantize(ordinary(), SCHEMES['int8'], calibrate); "
        "assert 'transformers' not in sys.modules; import transformers.activations"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "transformers" not in done.stderr
