"""Weight-only quantisation of trained models to 8 or 4 bits: GPTQ, AWQ and round to nearest.

Each replicate is copied into a Megatron model, which modelopt quantises in place. The integers,
the 16-bit scales of groups of inputs and the other parameters in 16 bits are then read from it
(:mod:`knowcap.evaluation.quantized_weights`). Losses are computed from these stored values only,
so the reported number of bits per parameter is the number that the model needed.

Shapes: O outputs, I inputs, G groups of inputs, N windows, S positions, R replicates, P prompts,
V vocabulary.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from knowcap.config import Precision, Run
from knowcap.data.corpus import CorpusReader
from knowcap.evaluation.evaluate import BATCH_LOGITS
from knowcap.evaluation.gptq import gptq_in_float64
from knowcap.evaluation.prepared_model import PreparedModel
from knowcap.evaluation.quantized_weights import (
    GROUP_SIZE,
    QuantizedMatrix,
    QuantizedModel,
    nearest_integers,
    round_to_nearest,
)
from knowcap.model.attention import document_mask
from knowcap.model.library_imports import without_compiler, without_package
from knowcap.model.megatron_config import gpt_model, load_parameters
from knowcap.model.megatron_core import GPTModel
from knowcap.model.stacked_model import StackedModel

# modelopt imports transformers if it is installed, which takes a second; it is not needed here.
with without_compiler(), without_package("transformers"):
    from modelopt.torch import quantization as modelopt

NUM_CALIBRATION_PEOPLE = 1000
"""People whose biographies GPTQ and AWQ are calibrated on; all if the population has fewer."""
# PAPER 8: calibrated on the biographies of 1000 people

ALGORITHMS: Mapping[str, Any] = {
    "gptq": {
        "method": "gptq",
        "perc_damp": 0.01,
        "block_size": GROUP_SIZE,
        "layerwise": {"enable": True},
    },
    "rtn": "max",
    "awq": "awq_lite",
}
"""The `algorithm` of modelopt's configuration for each method."""
# PAPER 8: GPTQ by auto_gptq
# ASSUME: the paper uses auto_gptq's defaults: groups of 128, symmetric, damping 0.01, inputs in
# their original order
# DEVIATES: modelopt's GPTQ differs from auto_gptq's in three details. The scale of a group is its
# largest weight divided by 2^(bits-1) - 1, not by 2^(bits-1) - 1/2. All scales are computed from
# the trained weights, not from the weights after error compensation. The four matrices of a layer
# are calibrated on the outputs of the quantised layers below, not on each other's outputs.

EMBEDDING_PARAMETERS = ("embedding.word_embeddings.weight", "output_layer.weight")
"""Names of the embedding and of an untied output layer."""


class Scheme(NamedTuple):
    """Bits and method of a quantised precision."""

    bits: int
    """Bits of a weight of a linear layer."""
    method: Literal["gptq", "rtn", "awq"]
    """Error compensation (GPTQ), round to nearest, or activation-aware scaling (AWQ)."""
    embedding: bool = False
    """Whether the embedding and the output layer are rounded to nearest too."""


# ASSUME: the embedding and the output layer stay in 16 bits, as in auto_gptq; the paper does not
# say. They are a large share of a small model, so each precision has a variant that quantises them.
SCHEMES: Mapping[Precision, Scheme] = {
    "int8": Scheme(8, "gptq"),
    "int4": Scheme(4, "gptq"),
    "int8_rtn": Scheme(8, "rtn"),
    "int4_rtn": Scheme(4, "rtn"),
    "int4_awq": Scheme(4, "awq"),
    "int8_embedding": Scheme(8, "gptq", embedding=True),
    "int4_embedding": Scheme(4, "gptq", embedding=True),
    "int8_rtn_embedding": Scheme(8, "rtn", embedding=True),
    "int4_rtn_embedding": Scheme(4, "rtn", embedding=True),
    "int4_awq_embedding": Scheme(4, "awq", embedding=True),
}


def quantize(
    model: GPTModel, scheme: Scheme, calibrate: Callable[[nn.Module], None]
) -> QuantizedModel:
    """Quantise a Megatron model and return its stored weights.

    Calibration and error compensation are computed in float64.

    Parameters
    ----------
    model
        A model with the trained weights. It is modified and must not be used afterwards.
    scheme
        Bits and method. modelopt quantises all linear layers of the transformer layers except the
        MoE routers.
    calibrate
        Runs the given model on typical inputs. GPTQ preserves the layers' outputs for these
        inputs; AWQ scales up the weights of large inputs.
    """
    model.double()
    others = {name: value.detach().half() for name, value in model.named_parameters()}
    embeddings = [name for name in EMBEDDING_PARAMETERS if scheme.embedding and name in others]
    matrices = {
        name: round_to_nearest(others.pop(name).float(), scheme.bits) for name in embeddings
    }
    load_parameters(model, QuantizedModel(matrices, others).state_dict())
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(sys.stderr),  # modelopt prints; standard output is for results
        without_package("transformers"),  # modelopt imports some of its modules only here
        gptq_in_float64() as rounded_to_nearest,
    ):
        # These warnings do not apply: there is one process, modelopt's model is not saved,
        # transformers is not used, and groups shorter than 128 inputs are intended.
        warnings.filterwarnings("ignore", message=".*no parallel_state is set.*")
        warnings.filterwarnings("ignore", message=".*sharded_state_dict.*")
        warnings.filterwarnings("ignore", message=".*find transformers.*")
        warnings.filterwarnings("ignore", message=".*block-quantized padded.*")
        modelopt.quantize(model, _config(scheme), calibrate)
    for name, module in model.named_modules():
        if hasattr(module, "weight_quantizer") and module.weight_quantizer.is_enabled:
            matrices[f"{name}.weight"] = _stored_matrix(module, scheme.bits)
            del others[f"{name}.weight"]
    num_uncompensated = len(rounded_to_nearest) if scheme.method == "gptq" else 0
    return QuantizedModel(matrices, others, num_uncompensated)


def _config(scheme: Scheme) -> dict[str, Any]:
    """Return modelopt's configuration for weight-only quantisation by a scheme."""
    config: dict[str, Any] = copy.deepcopy(modelopt.INT4_BLOCKWISE_WEIGHT_ONLY_CFG)
    (weights,) = (
        entry for entry in config["quant_cfg"] if entry["quantizer_name"] == "*weight_quantizer"
    )
    weights["cfg"] = {"num_bits": scheme.bits, "block_sizes": {-1: GROUP_SIZE, "type": "static"}}
    return config | {"algorithm": ALGORITHMS[scheme.method]}


def _stored_matrix(module: Any, bits: int) -> QuantizedMatrix:
    """Return the integers and scales of a linear layer that modelopt has quantised."""
    with torch.no_grad():
        weight_OI = module.weight_quantizer(module.weight)
    assert weight_OI.isfinite().all(), "the weights of a trained model are finite"
    scale_OG = module.weight_quantizer.amax.view(len(weight_OI), -1) / (2 ** (bits - 1) - 1)
    input_scale_I = module.input_quantizer.pre_quant_scale
    return QuantizedMatrix(
        bits,
        nearest_integers(weight_OI, scale_OG.double(), bits),
        scale_OG.half(),
        None if input_scale_I is None else input_scale_I.half(),
    )


def calibration_windows(corpus_reader: CorpusReader, run: Run) -> Tensor:
    """Return windows [N, S] of biographies of :data:`NUM_CALIBRATION_PEOPLE` people.

    Windows are packed as in training, with the same share of junk. Their seed is not one of the
    run's, so no replicate was trained on the same order and templates.
    """
    seed = next(seed for seed in itertools.count() if seed not in run.replicates.seeds)
    num_people = min(NUM_CALIBRATION_PEOPLE, corpus_reader.corpus.knowledge.num_people)
    seq_length, kind = run.optimization.seq_length, run.optimization.windows
    num_windows = max(1, corpus_reader.num_windows(num_people, seq_length, kind))
    stream = corpus_reader.stream(1, seed, kind)
    windows, _ = stream.windows(num_windows, seq_length, stream.start)
    return torch.from_numpy(windows[:, :-1]).long().clamp(min=0)


def quantized_weights(
    scheme: Scheme, model: StackedModel, run: Run, corpus_reader: CorpusReader
) -> PreparedModel:
    """Quantise every replicate of a trained model.

    Parameters
    ----------
    scheme
        Bits and method.
    model
        The trained replicates.
    run
        The record of the run.
    corpus_reader
        Renders the biographies for calibration.

    Returns
    -------
    PreparedModel
        Its attributes are ``effective_bits_per_param``, scales included, ``share_quantised``, the
        share of the parameters that are stored as integers, and ``num_uncompensated``, the
        matrices that GPTQ rounded to nearest, mean over replicates.
    """
    # The stacked model sets this for each of its products (knowcap.model.matmul). Without a fixed
    # value the losses would depend on what was computed before in this process.
    torch.backends.mkldnn.matmul.fp32_precision = "ieee"  # type: ignore[attr-defined]
    device, vocab_size = model.flat.device, corpus_reader.vocab_size
    windows_NS = calibration_windows(corpus_reader, run).to(device)
    batch = max(1, BATCH_LOGITS[device.type] // (vocab_size * windows_NS.shape[1]))

    def new_model() -> GPTModel:
        megatron_model = gpt_model(run.architecture, vocab_size, run.optimization.seq_length)
        return megatron_model.to(device).eval().requires_grad_(False)

    def forward(model: nn.Module, tokens_BS: Tensor) -> Tensor:
        is_masked = run.optimization.reset_attention_mask
        output: Tensor = model(tokens_BS, None, document_mask(tokens_BS) if is_masked else None)
        return output

    def calibrate(model: nn.Module) -> None:
        for tokens_BS in windows_NS.split(batch):
            forward(model, tokens_BS)

    models, stored = [], []
    for replicate in range(model.num_replicates):
        original = new_model()
        load_parameters(original, model.unstack(replicate))
        stored.append(quantize(original, scheme, calibrate))
        models.append(new_model())
        load_parameters(models[-1], stored[-1].state_dict())

    def logits(tokens_PS: Tensor) -> Tensor:
        return torch.stack([forward(each, tokens_PS.to(device)) for each in models])

    attrs = {
        "effective_bits_per_param": stored[0].effective_bits_per_param,
        "share_quantised": stored[0].share_quantised,
        "num_uncompensated": sum(each.num_uncompensated for each in stored) / len(stored),
    }
    return PreparedModel(logits, attrs)
