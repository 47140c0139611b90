"""Exported replicates: what is measured of them is what was evaluated before."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from knowcap.artifacts import files, identity
from knowcap.capacity.bit_complexity import bit_complexity
from knowcap.config import Evaluation, Run
from knowcap.data.corpus import load_corpus
from knowcap.data.corpus_writer import write_corpus
from knowcap.errors import UserError
from knowcap.evaluation.evaluate import evaluate, trained_weights
from knowcap.evaluation.trained_run import load_model
from knowcap.model.megatron_core import init_process_groups
from knowcap.stages.export import export
from knowcap.stages.measure import MeasureSettings, measure
from knowcap.training.train import train
from tests.support.tiny import RECORD, tiny_run

EVALUATION = Evaluation(num_people=30, seed=5)
SETTINGS = MeasureSettings(EVALUATION, None, "float32", 1, None, 0)
SCORINGS = ("plain", "strict", "in_context", "chain_rule", "in_window", "given_useful")
REPLICATE = 2

LLAMA = RECORD["architecture"] | {"family": "LLaMA", "rotary_percent": 1.0}
BIOS = {"knowledge": {"kind": "bioS", "num_people": 40, "seed": 1}, "tokenizer": "GPT2"}
DOMAIN = RECORD["corpus"] | {
    "mixture": {"useful_share": 0.5, "num_junk_people": 20, "domain_token": True}
}
RUNS = {
    "GPT2 on bioD": tiny_run(),
    "GPT2 on bioD with a domain token": tiny_run(optimization__seq_length=40).model_copy(
        update={"corpus": Run.model_fields["corpus"].annotation.model_validate(DOMAIN)}
    ),
    "LLaMA on bioS": Run.model_validate(
        RECORD
        | {
            "corpus": BIOS,
            "architecture": LLAMA,
            "optimization": RECORD["optimization"] | {"seq_length": 128, "exposures": 2},
        }
    ),
}


def train_and_evaluate(run: Run, results: Path) -> Path:
    """Folder of a trained and evaluated run."""
    corpus = results / "corpora" / identity.corpus_name(run.corpus)
    write_corpus(run.corpus, corpus)
    folder = results / "runs" / identity.run_name(run)
    train(run, corpus, folder, results / "scratch", code_digest="-")
    losses = folder / identity.measurement_name(run, "trained", EVALUATION) / "losses.nc"
    evaluate(folder, corpus, "trained", EVALUATION, losses, backend=trained_weights)
    return folder


@pytest.fixture(scope="module", params=RUNS)
def run_folder(request: pytest.FixtureRequest, tmp_path_factory) -> Path:
    return train_and_evaluate(RUNS[request.param], tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def exported(run_folder: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    export(run_folder, REPLICATE, folder, None)
    return folder


def corpus_of(run_folder: Path) -> Path:
    return run_folder.parents[1] / "corpora" / files.read_json(run_folder / "run.json")["corpus"]


def test_an_exported_replicate_has_the_same_logits(run_folder, exported):
    run = Run.model_validate(files.read_json(run_folder / "run.json")["record"])
    reader = load_corpus(corpus_of(run_folder))
    stacked = load_model(run_folder, run, reader.vocab_size, init_process_groups())
    model = AutoModelForCausalLM.from_pretrained(exported, local_files_only=True)
    tokens = torch.from_numpy(reader.biography_prompts(np.arange(4), 0).tokens).long()
    with torch.no_grad():
        found, expected = model(tokens).logits, stacked.logits(tokens.unsqueeze(0))[REPLICATE]
    # float32 sums in another order
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_measured_bits_of_an_exported_replicate_are_those_of_its_evaluation(
    run_folder, exported, tmp_path
):
    run = Run.model_validate(files.read_json(run_folder / "run.json")["record"])
    optimization, reader = run.optimization, load_corpus(corpus_of(run_folder))
    window = reader.biographies_per_window(optimization.seq_length, optimization.windows)
    settings = SETTINGS._replace(window_biographies=window)
    measure(exported, corpus_of(run_folder), tmp_path / "measured", settings)
    measured = files.read_dataset(tmp_path / "measured" / "losses.nc")
    (path,) = run_folder.glob("trained-*/losses.nc")
    evaluated = files.read_dataset(path).isel(replicate=[REPLICATE])
    for name in evaluated.data_vars:
        # float32 sums in another order
        np.testing.assert_allclose(measured[name], evaluated[name], rtol=1e-4, atol=1e-4)
    facts = files.read_json(corpus_of(run_folder) / "corpus.json")
    expected = bit_complexity(evaluated, facts)["bits"].isel(replicate=0)
    bits = json.loads((tmp_path / "measured" / "bits.json").read_text())
    assert set(bits["bits"]) == (set(SCORINGS) if window > 1 else set(SCORINGS[:4]))
    for scoring in bits["bits"]:
        max_bits = bits["max_bits"]
        assert bits["bits"][scoring] == pytest.approx(
            float(expected.sel(scoring=scoring)), abs=1e-5 * max_bits
        )
    # the exported tokenizer has the used tokens only
    num_params = files.read_json(run_folder / "run.json")["num_params"]["total"]
    assert bits["num_params"] == {"used": num_params, "all": num_params}


def test_the_model_card_has_the_ratio_the_study_and_the_commit(run_folder, tmp_path):
    name = run_folder.name
    study = run_folder.parents[1] / "mine"
    study.mkdir(exist_ok=True)
    (study / "index.csv").write_text(f"measurement,seed\n{name}/trained,0\n")
    folder = tmp_path / "model"
    export(run_folder, REPLICATE, folder, None)
    text = (folder / "README.md").read_text()
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["library_name"] == "transformers"
    (metric, bits) = header["model-index"][0]["results"][0]["metrics"]
    (path,) = run_folder.glob("trained-*/losses.nc")
    facts = files.read_json(corpus_of(run_folder) / "corpus.json")
    expected = bit_complexity(files.read_dataset(path), facts)["bits"]
    expected = float(expected.isel(replicate=REPLICATE).sel(scoring="plain"))
    num_params = files.read_json(run_folder / "run.json")["num_params"]["total"]
    assert bits["value"] == pytest.approx(expected, rel=1e-5)
    assert metric["value"] == pytest.approx(expected / num_params, rel=1e-5)
    commit = files.read_json(run_folder / "provenance.json")["git"]["commit"]
    assert commit in text
    assert "| study | mine |" in text
    assert f"| run | {name}, replicate {REPLICATE} |" in text
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    scope: dict[str, object] = {}
    exec(example.replace(f'"{folder.name}"', f'"{folder}"'), scope)


def test_the_tokenizer_of_an_exported_model_reads_the_biographies(run_folder, exported):
    reader = load_corpus(corpus_of(run_folder))
    tokenizer = AutoTokenizer.from_pretrained(exported, local_files_only=True)
    texts = reader.biographies(np.arange(20), 0, 0)
    expected = [reader._tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    assert tokenizer(texts).input_ids == expected
    assert len(tokenizer) == reader.vocab_size


@pytest.fixture(scope="module")
def small_run(tmp_path_factory) -> Path:
    return train_and_evaluate(tiny_run(optimization__exposures=2), tmp_path_factory.mktemp("small"))


def test_a_replicate_that_does_not_exist_is_refused(small_run, tmp_path):
    with pytest.raises(UserError, match=r"--replicate: 4 is not allowed; .* has 0 to 3"):
        export(small_run, 4, tmp_path / "model", None)
    assert not list(tmp_path.iterdir())


def test_a_damaged_run_is_refused(small_run, tmp_path):
    results = shutil.copytree(small_run.parents[1], tmp_path / "results")
    run_folder = results / "runs" / small_run.name
    (run_folder / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match=r"metrics\.jsonl: damaged"):
        export(run_folder, 0, tmp_path / "model", None)
    assert not (tmp_path / "model").exists()


def test_another_corpus_is_refused(small_run, tmp_path):
    other = tmp_path / "corpus"
    write_corpus(
        tiny_run(corpus__tokenizer="word").corpus.model_copy(
            update={"mixture": RUNS["GPT2 on bioD with a domain token"].corpus.mixture}
        ),
        other,
    )
    with pytest.raises(UserError, match="not the corpus that"):
        export(small_run, 0, tmp_path / "model", other)


def test_a_run_without_an_evaluation_has_a_card_that_says_so(small_run, tmp_path):
    results = shutil.copytree(small_run.parents[1], tmp_path / "results")
    run_folder = results / "runs" / small_run.name
    for path in run_folder.glob("trained-*"):
        shutil.rmtree(path)
    export(run_folder, 0, tmp_path / "model", None)
    text = (tmp_path / "model" / "README.md").read_text()
    assert "has not been evaluated" in text
    assert "model-index" not in yaml.safe_load(text.split("---\n")[1])
