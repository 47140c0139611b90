"""Quantisation: a trained model whose matrices are stored in 8 or 4 bits a weight.

Each replicate becomes an ordinary Megatron model, which modelopt quantises in place. What a file
of it would hold is then read off (:mod:`knowcap.evaluation.quantized_weights`): integers, a 16-bit scale per group of
inputs, and everything else in 16 bits. Only that answers the questions
(:mod:`knowcap.evaluation.evaluate`), so that the bits that are reported are the bits that were needed.

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
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from knowcap.config import Precision, Run
from knowcap.data.corpus import CorpusReader
from knowcap.evaluation.evaluate import BATCH_LOGITS, Answer, Answers
from knowcap.evaluation.quantized_weights import (
    GROUP_SIZE,
    StoredMatrix,
    StoredModel,
    integers,
    rounded,
)
from knowcap.model.megatron_config import gpt_model
from knowcap.model.megatron_core import GPTModel, without_compiler, without_package
from knowcap.model.stacked_model import StackedModel

# For models of transformers, of which there are none here, modelopt would import a second of it.
with without_compiler(), without_package("transformers"):
    from modelopt.torch import quantization as modelopt

NUM_CALIBRATION_PEOPLE = 1000
"""People whose biographies show GPTQ and AWQ what inputs are like; all of them if fewer."""
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
"""Methods in modelopt's words."""
# PAPER 8: GPTQ by auto_gptq
# ASSUME: with its defaults: groups of 128, symmetric, damping 0.01, inputs in their own order
# DEVIATES: modelopt's GPTQ differs from auto_gptq's in three details. Its scale is a group's
# largest weight over 2^(bits-1) - 1, not over 2^(bits-1) - 1/2; all scales are of the weights as
# trained, not as compensation has left them; and a layer's four matrices are all calibrated on the
# quantised layers below, not on each other.

TABLES = ("embedding.word_embeddings.weight", "output_layer.weight")
"""The embedding, and the output layer where it is not the embedding."""


class Scheme(NamedTuple):
    """How a precision stores a model."""

    bits: Literal[4, 8]
    """Of a weight of a linear layer."""
    method: Literal["gptq", "rtn", "awq"]
    """Error-compensating, round to nearest, or activation-aware scaling."""
    embedding: bool = False
    """Whether embedding and output layer are rounded to nearest too."""


# ASSUME: embedding and output layer stay in 16 bits, as auto_gptq leaves them; the paper is silent.
# In small models they are a large share, so every precision has a variant with them quantised.
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
) -> StoredModel:
    """Quantise an ordinary Megatron model.

    Parameters
    ----------
    model
        With the trained weights; it is used up.
    scheme
        How to store it. Which of its modules are linear layers to quantise is modelopt's rule: all
        in the transformer's layers but the routers of experts.
    calibrate
        Runs the model it is given on inputs that are typical. GPTQ keeps the outputs of layers on
        these inputs, AWQ scales up the weights of the inputs that are large.
    """
    others = {name: value.detach().half() for name, value in model.named_parameters()}
    tables = [name for name in TABLES if scheme.embedding and name in others]
    matrices = {name: rounded(others.pop(name).float(), scheme.bits) for name in tables}
    _load(model, StoredModel(matrices, others))
    # What it prints is for the log; the standard output is for results.
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(sys.stderr),
        without_package("transformers"),  # modelopt imports some of itself only now
    ):
        # Of agreement between processes, but there is one; of saving modelopt's model, but what it
        # stands for is read off; of transformers; and of short groups, which are meant.
        warnings.filterwarnings("ignore", message=".*no parallel_state is set.*")
        warnings.filterwarnings("ignore", message=".*sharded_state_dict.*")
        warnings.filterwarnings("ignore", message=".*find transformers.*")
        warnings.filterwarnings("ignore", message=".*block-quantized padded.*")
        modelopt.quantize(model, _config(scheme), calibrate)
    for name, module in model.named_modules():
        if hasattr(module, "weight_quantizer") and module.weight_quantizer.is_enabled:
            matrices[f"{name}.weight"] = _stored(module, scheme.bits)
            del others[f"{name}.weight"]
    return StoredModel(matrices, others)


def _config(scheme: Scheme) -> dict[str, Any]:
    """Modelopt's own configuration for weights alone, with our integers and our algorithm."""
    config: dict[str, Any] = copy.deepcopy(modelopt.INT4_BLOCKWISE_WEIGHT_ONLY_CFG)
    (weights,) = (
        entry for entry in config["quant_cfg"] if entry["quantizer_name"] == "*weight_quantizer"
    )
    weights["cfg"] = {"num_bits": scheme.bits, "block_sizes": {-1: GROUP_SIZE, "type": "static"}}
    return config | {"algorithm": ALGORITHMS[scheme.method]}


def _stored(module: Any, bits: int) -> StoredMatrix:
    """Read off what a layer that modelopt quantised would be stored as."""
    with torch.no_grad():
        weight_OI = module.weight_quantizer(module.weight)
    assert weight_OI.isfinite().all(), "a trained model has finite weights"
    scale_OG = module.weight_quantizer.amax.view(len(weight_OI), -1) / (2 ** (bits - 1) - 1)
    input_scale_I = module.input_quantizer.pre_quant_scale
    return StoredMatrix(
        bits,
        integers(weight_OI, scale_OG, bits),
        scale_OG.half(),
        None if input_scale_I is None else input_scale_I.half(),
    )


def _load(model: GPTModel, stored: StoredModel) -> None:
    # Megatron's modules have states beside their parameters, all of them empty.
    model.load_state_dict(stored.state_dict(), strict=False)


def calibration_windows(corpus_reader: CorpusReader, run: Run) -> Tensor:
    """Windows [N, S] of biographies of :data:`NUM_CALIBRATION_PEOPLE` people.

    They are packed as in training and with the same share of junk, in an order and wording that no
    replicate was trained on.
    """
    seed = next(seed for seed in itertools.count() if seed not in run.replicates.seeds)
    num_people = min(NUM_CALIBRATION_PEOPLE, corpus_reader.corpus.knowledge.num_people)
    seq_length = run.optimization.seq_length
    num_windows = max(1, int(num_people * corpus_reader.tokens_per_biography) // seq_length)
    stream = corpus_reader.stream(1, seed)
    windows, _ = stream.windows(num_windows, seq_length, stream.start)
    return torch.from_numpy(windows[:, :-1]).long().clamp(min=0)


def quantized(
    scheme: Scheme, model: StackedModel, run: Run, corpus_reader: CorpusReader
) -> Answers:
    """Answer with every replicate quantised.

    Parameters
    ----------
    scheme
        How replicates are stored.
    model
        The trained replicates.
    run
        Theirs.
    corpus_reader
        Writes the biographies to calibrate on.

    Returns
    -------
    Answers
        Their attributes are ``effective_bits_per_param``, scales included, and
        ``share_quantised``, the share of parameters that are stored as integers.
    """
    device, vocab_size = model.flat.device, corpus_reader.vocab_size
    windows_NS = calibration_windows(corpus_reader, run).to(device)
    batch = max(1, BATCH_LOGITS[device.type] // (vocab_size * windows_NS.shape[1]))

    def ordinary() -> GPTModel:
        made = gpt_model(run.architecture, vocab_size, run.optimization.seq_length)
        return made.to(device).eval().requires_grad_(False)

    def calibrate(model: nn.Module) -> None:
        for tokens_BS in windows_NS.split(batch):
            model(tokens_BS, None, None)

    models, stored = [], []
    for replicate in range(model.num_replicates):
        made = ordinary()
        made.load_state_dict(model.unstack(replicate), strict=False)
        stored.append(quantize(made, scheme, calibrate))
        models.append(ordinary())
        _load(models[-1], stored[-1])

    def logits(tokens_PS: Tensor) -> Tensor:
        return torch.stack([each(tokens_PS.to(device), None, None) for each in models])

    attrs = {
        "effective_bits_per_param": stored[0].effective_bits_per_param,
        "share_quantised": stored[0].share_quantised,
    }
    return Answers(logits, attrs)


ANSWERS: Mapping[Precision, Answer] = {
    precision: partial(quantized, scheme) for precision, scheme in SCHEMES.items()
}
"""How each precision answers."""
