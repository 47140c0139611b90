"""Models of plain transformers code, measured, beside an independent computation."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from knowcap.artifacts import files
from knowcap.config import Corpus, Evaluation
from knowcap.data.text_folder import write_text_folder
from knowcap.data.tokenizer import gpt2_tokenizer
from knowcap.errors import UserError
from knowcap.stages.measure import MeasureSettings, measure
from tests.support.text_models import log_prob, train_plainly, training_tokens

NUM_PEOPLE, DIVERSITY, ALPHABET = 20, 8, 16
EOS = "<|endoftext|>"

SHAPE = {
    "kind": "bioD", "num_people": NUM_PEOPLE, "num_attributes": 2, "num_chunks": 2,
    "diversity": DIVERSITY, "chunk_length": 1, "alphabet_size": ALPHABET, "seed": 3,
}  # fmt: skip


def settings(**changes: Any) -> MeasureSettings:
    default = MeasureSettings(Evaluation(num_people=1000, seed=0), None, "float32", 1, None, 0)
    return default._replace(**changes)


def write_text(folder: Path, layout: str, exposures: int) -> Path:
    corpus = {"knowledge": SHAPE | {"layout": layout}, "tokenizer": "word"}
    write_text_folder(Corpus.model_validate(corpus), folder, exposures, 0, ["jsonl"])
    return folder


def people(text_folder: Path) -> list[dict[str, str]]:
    with (text_folder / "people.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def piece_losses(
    model: PreTrainedModel, tokenizer: Any, pieces: list[str]
) -> tuple[list[float], list[int]]:
    """Loss of each piece of a text given those before it, and the tokens of the text."""
    losses, before = [], 0.0
    tokens: list[int] = []
    for i in range(len(pieces)):
        text = "".join(pieces[: i + 1])
        tokens = [tokenizer.eos_token_id, *tokenizer(text, add_special_tokens=False).input_ids]
        after = -log_prob(model, tokens)
        losses.append(after - before)
        before = after
    return losses, tokens


def bits_of_compact(model: PreTrainedModel, tokenizer: Any, text_folder: Path) -> float:
    """Bits of compact bioD by the formula of the paper, from whole names and values."""
    bits = 0.0
    for person in people(text_folder):
        for marker, attribute in ((" BABA", "ID 1"), (" BABE", "ID 2")):
            pieces = [f" {person['name']}", marker, f" {person[attribute]}"]
            (name, _, value), _ = piece_losses(model, tokenizer, pieces)
            bits += math.log2(DIVERSITY**2) - value / math.log(2)
            if attribute == "ID 1":
                bits += math.log2(ALPHABET**3) - name / math.log(2)
    return bits + diversity_bits(model, tokenizer, text_folder, "{name} {marker}", " {chunk}")


def diversity_bits(
    model: PreTrainedModel, tokenizer: Any, text_folder: Path, before: str, chunk: str
) -> float:
    """Bits of the chunks that occur: D log2(T^L / D) less the mean loss of a first chunk."""
    bits = 0.0
    for attribute, marker in (("ID 1", "BABA"), ("ID 2", "BABE")):
        losses = []
        for person in people(text_folder):
            prefix = f" {before.format(name=person['name'], marker=marker, attribute=attribute)}"
            first = chunk.format(chunk=person[attribute].replace(",", "").split()[0])
            losses.append(piece_losses(model, tokenizer, [prefix, first])[0][1])
        bits += DIVERSITY * (math.log2(ALPHABET / DIVERSITY) - np.mean(losses) / math.log(2))
    return bits


def test_bits_of_a_llama_trained_with_the_tokenizer_of_the_corpus(tmp_path):
    text = write_text(tmp_path / "text", "compact", exposures=60)
    tokenizer = AutoTokenizer.from_pretrained(text / "tokenizer")
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=24, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=64,
        )
    )  # fmt: skip
    train_plainly(model, training_tokens(text, tokenizer), window=40, batch=8, lr=1e-2)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    measure(tmp_path / "model", text, tmp_path / "measured", settings())
    summary = json.loads((tmp_path / "measured" / "bits.json").read_text())
    expected = bits_of_compact(model, tokenizer, text)
    assert summary["bits"]["plain"] == pytest.approx(expected, rel=1e-4)
    assert expected > 0.3 * summary["max_bits"]  # it has learnt something
    num_params = sum(parameter.numel() for parameter in model.parameters())
    assert summary["num_params"] == {"used": num_params, "all": num_params}
    table = files.read_dataset(tmp_path / "measured" / "capacity.nc")
    ratio = float(table["capacity_ratio"].sel(scoring="plain").squeeze())
    assert ratio == pytest.approx(expected / num_params, rel=1e-4)


def own_tokenizer(text_folder: Path) -> PreTrainedTokenizerFast:
    """A byte-level BPE that is trained on the text, with fewer tokens than words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=350, special_tokens=[EOS], initial_alphabet=alphabet, show_progress=False
    )
    lines = (text_folder / "biographies.jsonl").read_text().splitlines()
    tokenizer.train_from_iterator([json.loads(line)["text"] for line in lines], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=EOS, eos_token=EOS)


def bits_of_sentences(
    model: PreTrainedModel, tokenizer: Any, text_folder: Path
) -> tuple[float, set[int]]:
    """Bits of bioD in sentences, chunk by chunk, without the commas; and the tokens."""
    bits, tokens = 0.0, set()
    for person in people(text_folder):
        for attribute in ("ID 1", "ID 2"):
            first, second = person[attribute].split(", ")
            pieces = [f" {person['name']}", f"'s {attribute} is", f" {first}", ",", f" {second}"]
            losses, used = piece_losses(model, tokenizer, [*pieces, "."])
            tokens.update(used)
            bits += math.log2(DIVERSITY**2) - (losses[2] + losses[4]) / math.log(2)
            if attribute == "ID 1":
                bits += math.log2(400 * 400 * 1000) - losses[0] / math.log(2)
    return (
        bits + diversity_bits(model, tokenizer, text_folder, "{name}'s {attribute} is", " {chunk}"),
        tokens,
    )


def test_bits_of_a_gpt2_with_a_tokenizer_and_words_of_its_own(tmp_path):
    text = write_text(tmp_path / "text", "sentences", exposures=30)
    tokenizer = own_tokenizer(text)
    name = people(text)[0]["name"]
    assert len(tokenizer(f" {name}").input_ids) > 3  # names are split
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=96,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    train_plainly(model, training_tokens(text, tokenizer), window=64, batch=8, lr=1e-2)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    measure(tmp_path / "model", text, tmp_path / "measured", settings(batch_tokens=100))
    summary = json.loads((tmp_path / "measured" / "bits.json").read_text())
    expected, tokens = bits_of_sentences(model, tokenizer, text)
    assert summary["tokenizer"] == "model"
    assert summary["bits"]["plain"] == pytest.approx(expected, rel=1e-4)
    used = {tokenizer.eos_token_id, *training_tokens(text, tokenizer).tolist()}
    assert tokens <= used
    assert summary["num_used_tokens"] == len(used) < len(tokenizer)
    total = sum(parameter.numel() for parameter in model.parameters())
    unused = (len(tokenizer) - len(used)) * config.n_embd  # tied: once
    assert summary["num_params"] == {"used": total - unused, "all": total}


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    return write_text(tmp_path_factory.mktemp("texts") / "text", "compact", exposures=1)


def save_llama(folder: Path, vocab_size: int, **changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {
        "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
        "max_position_embeddings": 64,
    }  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocab_size, **shape | changes))
    model.save_pretrained(folder)
    return model


def vocab_size_of(text: Path) -> int:
    return int(files.read_json(text / "corpus" / "corpus.json")["vocab_size"])


def test_a_model_without_a_tokenizer_is_read_in_the_tokens_of_the_corpus(text, tmp_path):
    vocab_size = vocab_size_of(text)
    model = save_llama(tmp_path / "model", vocab_size + 5)
    table = measure(tmp_path / "model", text / "corpus", tmp_path / "measured", settings())
    summary = json.loads((tmp_path / "measured" / "bits.json").read_text())
    assert summary["tokenizer"] == "corpus"
    total = sum(parameter.numel() for parameter in model.parameters())
    # an untied output layer has unused rows, too
    assert summary["num_params"] == {"used": total - 2 * 5 * 8, "all": total}
    assert f"{total:,} parameters, {total - 80:,} without" in table
    tokenizer = AutoTokenizer.from_pretrained(text / "tokenizer")
    expected = bits_of_compact(model, tokenizer, text)
    assert summary["bits"]["plain"] == pytest.approx(expected, rel=1e-4)


def test_a_tokenizer_with_a_token_for_a_space_is_refused(text, tmp_path):
    save_llama(tmp_path / "model", 300)
    letters = Tokenizer(models.WordLevel({EOS: 0, " ": 1, **{c: i for i, c in enumerate(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", 2)}}, unk_token=EOS))  # fmt: skip
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, eos_token=EOS)
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match="has a token for a space alone"):
        measure(tmp_path / "model", text, tmp_path / "measured", settings())
    assert not (tmp_path / "measured").exists()


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def with_pickled_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def with_code_of_its_own(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "mine"
    config["auto_map"] = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('this code was executed')")


def with_truncated_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


DAMAGES = {
    "no configuration": (without_config, r"config\.json: missing; --model is a folder"),
    "pickled weights": (with_pickled_weights, "no weights in safetensors"),
    "code of its own": (with_code_of_its_own, "transformers cannot load the model"),
    "truncated weights": (with_truncated_weights, "transformers cannot load the model"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_model_that_is_not_loaded_is_one_line_and_nothing_is_written(
    text, tmp_path, damage, message
):
    save_llama(tmp_path / "model", vocab_size_of(text))
    damage(tmp_path / "model")
    with pytest.raises(UserError, match=message) as caught:
        measure(tmp_path / "model", text, tmp_path / "measured", settings())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "measured").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 5}, "has token 1., the model has only 5 tokens"),
        (
            {"max_position_embeddings": 6},
            r"prompts have up to 10 tokens, the model's context .* has 6",
        ),
    ],
)
def test_a_model_that_is_too_small_is_refused(text, tmp_path, changes, message):
    save_llama(tmp_path / "model", **{"vocab_size": vocab_size_of(text), **changes})
    with pytest.raises(UserError, match=message):
        measure(tmp_path / "model", text, tmp_path / "measured", settings())


def test_a_row_of_a_study_s_table_needs_the_exposures(text, tmp_path):
    save_llama(tmp_path / "model", vocab_size_of(text))
    with pytest.raises(UserError, match="--exposures: missing"):
        measure(tmp_path / "model", text, tmp_path / "out", settings(), tmp_path / "capacity.nc")


def test_the_whole_vocabulary_of_gpt2_counts_once_and_its_used_rows_apart(tmp_path):
    corpus = {"knowledge": {"kind": "bioS", "num_people": 20, "seed": 0}, "tokenizer": "word"}
    text = tmp_path / "text"
    write_text_folder(Corpus.model_validate(corpus), text, 20, 0, ["jsonl"])
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_embd=4, n_layer=1, n_head=1, n_positions=128)).eval()
    model.save_pretrained(tmp_path / "model")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=gpt2_tokenizer(), bos_token=EOS, eos_token=EOS
    )
    tokenizer.save_pretrained(tmp_path / "model")
    measure(tmp_path / "model", text, tmp_path / "measured", settings())
    summary = json.loads((tmp_path / "measured" / "bits.json").read_text())
    names = [f" {person['name']}" for person in people(text)]
    expected = sum(
        math.log2(400 * 400 * 1000) - piece_losses(model, tokenizer, [name])[0][0] / math.log(2)
        for name in names
    )
    assert summary["bits_by_term"]["plain"]["name"] == pytest.approx(expected, rel=1e-4)
    # one pronoun of two: the loss of a token of either form
    assert set(summary["bits_by_attribute"]["plain"]) >= {"birth_date", "gender"}
    seen = {tokenizer.eos_token_id, *training_tokens(text, tokenizer).tolist()}
    assert len(seen) <= summary["num_used_tokens"] < 1.5 * len(seen)
    total = sum(parameter.numel() for parameter in model.parameters())
    unused = (50257 - summary["num_used_tokens"]) * 4
    assert summary["num_params"] == {"used": total - unused, "all": total}
