"""Losses of made-up models, whose values are known in closed form, and of a trained run."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch.nn.functional import cross_entropy

from knowcap.artifacts import manifest
from knowcap.artifacts.files import read_dataset, read_json, write_json
from knowcap.config import Architecture, Corpus, Evaluation
from knowcap.data.corpus import CorpusReader, load_corpus
from knowcap.data.corpus_writer import write_corpus
from knowcap.data.prompts import Prompts
from knowcap.errors import UserError
from knowcap.evaluation.evaluate import compute_losses, evaluate, trained_weights
from knowcap.evaluation.losses import LogitsFunction, fact_losses, token_losses
from knowcap.evaluation.trained_run import load_model
from knowcap.model import megatron_core
from knowcap.model.stacked_model import StackedModel, build_model
from knowcap.stages.precisions import PRECISION_BACKENDS
from knowcap.training.run_dir import FILES
from knowcap.training.train import train
from tests.support.tiny import RECORD, tiny_run

FLOAT32 = torch.float32

RUN = tiny_run(optimization__exposures=2)
EVALUATION = Evaluation(num_people=30, seed=5)
CORPORA = {
    "bioD": RUN.corpus,
    "bioS": Corpus.model_validate(
        {"knowledge": {"kind": "bioS", "num_people": 40, "seed": 1}, "tokenizer": "GPT2"}
    ),
}


@pytest.fixture(scope="module", params=list(CORPORA))
def corpus_reader(request: pytest.FixtureRequest, tmp_path_factory) -> CorpusReader:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(CORPORA[request.param], folder)
    return load_corpus(folder)


def uniform(vocab_size: int, num_replicates: int = 2) -> LogitsFunction:
    return lambda tokens: torch.zeros(num_replicates, *tokens.shape, vocab_size)


def random_but_causal(vocab_size: int, num_replicates: int = 2) -> LogitsFunction:
    """Logits that depend on all earlier tokens, so that errors of padding or order show."""
    table = torch.randn(num_replicates, vocab_size, vocab_size, generator=torch.manual_seed(0))
    return lambda tokens: table[:, tokens].cumsum(2)


def all_prompts(corpus_reader: CorpusReader, num_people: int = 30) -> list[Prompts]:
    people = np.arange(num_people)
    return [
        build_prompts(people, EVALUATION.seed)
        for build_prompts in (
            corpus_reader.name_prompts,
            corpus_reader.attribute_prompts,
            corpus_reader.biography_prompts,
        )
    ]


def perfect(corpus_reader: CorpusReader) -> LogitsFunction:
    """Logits that are certain of the next token of every prompt."""
    next_token: dict[tuple[int, ...], int] = {}
    for prompts in all_prompts(corpus_reader):
        for row in prompts.tokens.tolist():
            for column in range(1, len(row)):
                next_token[tuple(row[:column])] = row[column]

    def logits(tokens: torch.Tensor) -> torch.Tensor:
        certain = torch.zeros(1, *tokens.shape, corpus_reader.vocab_size)
        for prompt, row in enumerate(tokens.tolist()):
            for column in range(len(row)):
                known = next_token.get(tuple(row[: column + 1]))
                if known is not None:
                    certain[0, prompt, column, known] = 200.0
        return certain

    return logits


def num_accepted(prompts: Prompts) -> np.ndarray:
    """Number of accepted tokens in each column."""
    set_sizes = prompts.accept_sets.sum(1)
    return np.where(prompts.accept < 0, 1, set_sizes[prompts.accept])


def uniform_loss(
    prompts: Prompts, marks: np.ndarray, person: int, field: int, vocab_size: int
) -> float:
    """Loss of uniform logits: the sum of ln(V / accepted tokens) over the tokens of a field."""
    of_field = (prompts.person[:, None] == person) & (marks == field)
    return float(np.log(vocab_size / num_accepted(prompts)[of_field]).sum())


def test_a_perfect_model_has_no_loss_on_values(corpus_reader):
    losses = compute_losses(corpus_reader, perfect(corpus_reader), EVALUATION, batch_tokens=512)
    assert float(losses["value_loss"].max()) == 0.0


def test_a_uniform_model_loses_ln_v_for_each_token_of_a_name_or_value(corpus_reader):
    vocab_size = corpus_reader.vocab_size
    losses = compute_losses(corpus_reader, uniform(vocab_size), EVALUATION, batch_tokens=512)
    names, values, context = all_prompts(corpus_reader)
    for person in (0, 7, 29):
        expected = uniform_loss(names, names.field, person, 0, vocab_size)
        # float32 represents ln V to seven digits
        np.testing.assert_allclose(losses["name_loss"][:, person], expected, rtol=1e-6)
        for name, prompts in (("value_loss", values), ("value_loss_in_context", context)):
            expected = [
                uniform_loss(prompts, prompts.field, person, field, vocab_size)
                for field in range(1, len(corpus_reader.fields))
            ]
            np.testing.assert_allclose(losses[name][0, person], expected, rtol=1e-6)


def test_strict_losses_add_the_loss_of_the_token_after_a_value(corpus_reader):
    vocab_size = corpus_reader.vocab_size
    losses = compute_losses(corpus_reader, uniform(vocab_size), EVALUATION, batch_tokens=512)
    names, values, _ = all_prompts(corpus_reader)
    for person in (0, 29):
        added = losses["name_loss_strict"] - losses["name_loss"]
        expected = uniform_loss(names, names.strict_field, person, 0, vocab_size)
        np.testing.assert_allclose(added[:, person], expected, rtol=1e-5)
        added = losses["value_loss_strict"] - losses["value_loss"]
        expected = [
            uniform_loss(values, values.strict_field, person, field, vocab_size)
            for field in range(1, len(corpus_reader.fields))
        ]
        np.testing.assert_allclose(added[0, person], expected, rtol=1e-5, atol=1e-9)


def test_losses_do_not_depend_on_batches_or_padding(corpus_reader):
    logits = random_but_causal(corpus_reader.vocab_size)
    for prompts in all_prompts(corpus_reader, num_people=10):
        people, num_fields = np.arange(10), len(corpus_reader.fields)
        unbatched, batched = (
            fact_losses(prompts, token_losses(prompts, logits, batch_tokens), people, num_fields)
            for batch_tokens in (1, 10**6)
        )
        for found, expected in zip(batched, unbatched, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5)  # float32 sums


def prompts_of(tokens: list[int], accept: int, vocab_size: int = 10, given: int = -1) -> Prompts:
    """One prompt whose last token is of field 0; accepted is the token or the set {2, 3}."""
    shape = (1, len(tokens))
    field, marks = np.full(shape, -1, dtype=np.int8), np.full(shape, -1, dtype=np.int16)
    field[0, -1], marks[0, -1] = 0, accept
    return Prompts(
        person=np.array([4]),
        tokens=np.array([tokens], dtype=np.int32),
        field=field,
        first_chunk=np.zeros(shape, dtype=bool),
        strict_field=np.full(shape, -1, dtype=np.int8),
        accept=marks,
        given=np.full(shape, given, dtype=np.int16),
        chain_field=np.full(shape, -1, dtype=np.int8),
        accept_sets=np.stack([np.isin(np.arange(vocab_size), each) for each in ([2, 3], [2, 5])]),
    )


@pytest.mark.parametrize(("accept", "probability"), [(-1, 0.25), (0, 0.75)])
def test_the_loss_is_that_of_the_summed_probability_of_accepted_tokens(accept, probability):
    odds = torch.full((1, 1, 2, 10), 0.25 / 8)
    odds[..., 2], odds[..., 3] = 0.25, 0.5
    prompts = prompts_of([0, 1, 2], accept)
    losses = token_losses(prompts, lambda _: odds.log(), batch_tokens=100)
    # float32 logarithms
    np.testing.assert_allclose(losses.loss, [[-math.log(probability)]], rtol=1e-6)


def test_a_loss_is_never_negative():
    odds = torch.full((1, 1, 2, 10), -torch.inf)
    odds[..., 2], odds[..., 3] = math.log(1 / 3), math.log(2 / 3)
    losses = token_losses(prompts_of([0, 1, 2], 0), lambda _: odds, batch_tokens=100)
    assert 0 <= losses.loss.item() < 1e-6  # float32 rounding


def test_a_loss_can_be_conditional_on_a_set_of_tokens():
    odds = torch.full((1, 1, 2, 10), 0.25 / 8)
    odds[..., 2], odds[..., 5] = 0.25, 0.5
    conditional = prompts_of([0, 1, 2], -1, given=1)
    losses = token_losses(conditional, lambda _: odds.log(), batch_tokens=100)
    np.testing.assert_allclose(losses.loss, [[math.log(3)]], rtol=1e-6)  # 0.25 of 0.75


def test_losses_of_names_within_a_window_are_means_over_its_positions(corpus_reader):
    logits = random_but_causal(corpus_reader.vocab_size)
    alone = compute_losses(corpus_reader, logits, EVALUATION, 512)
    within = compute_losses(corpus_reader, logits, EVALUATION, 512, num_positions=5)
    assert (alone["name_loss_in_window"] == alone["name_loss"]).all()
    assert (alone["name_loss_given_useful"] == alone["name_loss"]).all()
    assert (within["name_loss"] == alone["name_loss"]).all()
    later = within["name_loss_given_useful"]
    assert (later != alone["name_loss"]).mean() > 0.9
    expected = (within["name_loss"] + 4 * later) / 5
    np.testing.assert_allclose(within["name_loss_in_window"], expected)
    prompts = corpus_reader.later_name_prompts(np.arange(30), EVALUATION.seed, 5)
    losses = token_losses(prompts, logits, 512)
    sums = np.zeros((2, 30))
    is_name = prompts.field[losses.row, losses.column] == 0
    for row, loss in zip(losses.row[is_name], losses.loss[:, is_name].T, strict=True):
        sums[:, row] += loss
    np.testing.assert_allclose(later, sums, rtol=1e-6)


def test_names_given_useful_are_not_measured_where_junk_cannot_be_told_apart(tmp_path):
    mixture = {"useful_share": 0.125, "num_junk_people": 100, "domain_token": False}
    for domain_token in (False, True):
        corpus = Corpus.model_validate(
            RUN.corpus.model_dump() | {"mixture": mixture | {"domain_token": domain_token}}
        )
        write_corpus(corpus, tmp_path / str(domain_token))
        reader = load_corpus(tmp_path / str(domain_token))
        logits = uniform(reader.vocab_size)
        for num_positions, is_known in ((1, domain_token), (2, True)):
            losses = compute_losses(reader, logits, EVALUATION, 512, num_positions)
            assert ("name_loss_given_useful" in losses) == is_known


def test_the_chain_rule_adds_the_losses_of_revealing_values(corpus_reader):
    vocab_size = corpus_reader.vocab_size
    losses = compute_losses(corpus_reader, uniform(vocab_size), EVALUATION, batch_tokens=512)
    _, _, context = all_prompts(corpus_reader)
    added = losses["value_loss_chain_rule"] - losses["value_loss_in_context"]
    assert (float(added.max()) > 0) == (corpus_reader.corpus.knowledge.kind == "bioS")
    for person in (0, 7, 29):
        expected = [
            uniform_loss(context, context.chain_field, person, field, vocab_size)
            for field in range(1, len(corpus_reader.fields))
        ]
        np.testing.assert_allclose(added[0, person], expected, rtol=1e-5, atol=1e-6)


def test_a_very_improbable_token_has_a_finite_loss():
    logits = torch.zeros(1, 1, 2, 10)
    logits[..., 5] = 1e4
    losses = token_losses(prompts_of([0, 1, 2], -1), lambda _: logits, batch_tokens=100)
    np.testing.assert_allclose(losses.loss, [[1e4]], rtol=1e-6)


def test_a_field_without_a_prompt_has_no_loss():
    prompts = prompts_of([0, 1, 2], -1)
    losses = token_losses(prompts, uniform(10), batch_tokens=100)
    plain = fact_losses(prompts, losses, np.array([3, 4]), num_fields=2).plain
    assert np.isnan(plain[:, [0, 0, 1], [0, 1, 1]]).all()
    np.testing.assert_allclose(plain[:, 1, 0], math.log(10), rtol=1e-6)


def test_the_loss_of_a_first_chunk_is_part_of_its_value_s(corpus_reader):
    losses = compute_losses(
        corpus_reader, random_but_causal(corpus_reader.vocab_size), EVALUATION, 512
    )
    is_bio_d = corpus_reader.corpus.knowledge.kind == "bioD"
    assert ("first_chunk_loss" in losses) == is_bio_d
    if is_bio_d:
        assert (losses["first_chunk_loss"] > 0).all()
        assert (losses["first_chunk_loss"] < losses["value_loss"]).all()


def test_losses_have_dimensions_and_units(corpus_reader):
    losses = compute_losses(corpus_reader, uniform(corpus_reader.vocab_size), EVALUATION, 512)
    assert losses.sizes == {
        "replicate": 2,
        "person": 30,
        "attribute": len(corpus_reader.fields) - 1,
    }
    assert tuple(losses["attribute"].values) == corpus_reader.fields[1:]
    for variable in losses.data_vars.values():
        assert variable.attrs["units"] == "nat"
        assert variable.dtype == np.float64


def test_at_most_the_whole_population_is_evaluated(corpus_reader):
    everyone = Evaluation(num_people=1000, seed=0)
    losses = compute_losses(corpus_reader, uniform(corpus_reader.vocab_size), everyone, 4096)
    assert losses.sizes["person"] == corpus_reader.corpus.knowledge.num_people


class Results:
    """A corpus, a trained run and the file of its losses."""

    def __init__(self, root: Path) -> None:
        self.corpus, self.run = root / "corpus", root / "run"
        self.output = self.run / "trained-0123456789ab" / "losses.nc"

    def evaluate(self) -> xr.Dataset:
        folders = (self.run, self.corpus)
        evaluate(*folders, "trained", EVALUATION, self.output, backend=trained_weights)
        return read_dataset(self.output)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    results = Results(tmp_path)
    write_corpus(RUN.corpus, results.corpus)
    train(RUN, results.corpus, results.run, tmp_path / "scratch")
    return results


def test_losses_of_a_trained_run_have_its_replicates(results):
    losses = results.evaluate()
    pairs = list(zip(losses["seed"].values, losses["lr"].values, strict=True))
    assert pairs == list(RUN.replicates.pairs)
    assert losses.attrs["run"] == "run"
    assert losses.attrs["precision"] == "trained"
    assert all(np.isfinite(variable).all() for variable in losses.data_vars.values())


def test_names_in_a_window_of_a_masked_run_are_as_at_its_start(tmp_path):
    for mask in (False, True):
        run = tiny_run(
            optimization__exposures=2,
            optimization__seq_length=40,
            optimization__reset_attention_mask=mask,
        )
        results = Results(tmp_path / str(mask))
        write_corpus(run.corpus, results.corpus)
        train(run, results.corpus, results.run, tmp_path / "scratch")
        losses = results.evaluate()
        same = np.isclose(losses["name_loss_in_window"], losses["name_loss"], rtol=1e-5)
        assert same.all() == mask


def test_a_loss_is_the_cross_entropy_of_the_model_for_each_prompt(results):
    corpus_reader = load_corpus(results.corpus)
    losses = results.evaluate()
    model = load_model(results.run, RUN, corpus_reader.vocab_size, torch.device("cpu"))
    logits, _ = trained_weights(model, RUN, corpus_reader)
    _, values, context = all_prompts(corpus_reader)
    for name, prompts in (("value_loss", values), ("value_loss_in_context", context)):
        for row in range(0, len(prompts.tokens), 7):
            field = prompts.field[row].max()
            columns = torch.from_numpy(np.flatnonzero(prompts.field[row] == field))
            tokens = torch.from_numpy(prompts.tokens[row].astype(np.int64))
            with torch.no_grad():
                predicted = logits(tokens[None])[:, 0, columns - 1]
            expected = [cross_entropy(each, tokens[columns], reduction="sum") for each in predicted]
            found = losses[name][:, prompts.person[row], field - 1]
            np.testing.assert_allclose(found, expected, rtol=1e-5)  # float32 sums


@pytest.mark.parametrize("kind", ["GPT2", "LLaMA", "experts"])
@pytest.mark.parametrize("probe", ["without_last_mlp", "without_last_attention"])
def test_a_probe_skips_a_part_of_the_last_layer(kind, probe):
    experts = {"num_moe_experts": 4, "moe_router_topk": 1, "moe_aux_loss_coeff": 0.01}
    changes = {"experts": experts, "GPT2": {}, "LLaMA": {"family": "LLaMA"}}[kind]
    architecture = Architecture.model_validate(RECORD["architecture"] | changes)
    run = RUN.model_copy(update={"architecture": architecture})
    tokens = torch.randint(30, (3, 7), generator=torch.manual_seed(0))

    def new_model() -> StackedModel:
        model = build_model(architecture, 30, [0, 1], megatron_core.init_process_groups(), FLOAT32)
        model.flat += 0.1 * torch.randn(model.flat.shape, generator=torch.manual_seed(1))
        return model

    skipped = new_model()
    layer = skipped.decoder.layers[-1]
    if probe == "without_last_attention":
        layer.self_attention.forward = lambda inputs, residual, *_: residual
    else:
        layer.forward = lambda hidden_states, rotary_pos_emb, **_: (
            layer.self_attention(
                layer.input_layernorm(hidden_states), hidden_states, rotary_pos_emb
            ),
            None,
        )
    with torch.no_grad():
        expected = trained_weights(skipped, run, None).logits(tokens)
        found = PRECISION_BACKENDS[probe].load()(new_model(), run, None).logits(tokens)
        trained = trained_weights(new_model(), run, None).logits(tokens)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, trained, rtol=1e-2, atol=1e-2)


def test_without_its_last_layer_a_model_has_one_layer_less(results):
    corpus_reader = load_corpus(results.corpus)
    tokens = torch.randint(corpus_reader.vocab_size, (3, 7), generator=torch.manual_seed(0))
    two, one = (
        load_model(results.run, RUN, corpus_reader.vocab_size, torch.device("cpu"))
        for _ in range(2)
    )
    one.decoder.layers = one.decoder.layers[:-1]
    one.decoder.num_layers_per_pipeline_rank = 1
    with torch.no_grad():
        found = PRECISION_BACKENDS["without_last_layer"].load()(two, RUN, corpus_reader)
        expected = trained_weights(one, RUN, corpus_reader)
        torch.testing.assert_close(found.logits(tokens), expected.logits(tokens))


def test_losses_are_those_of_the_weights_on_disk(results):
    path = results.run / "model.pt"
    weights = torch.load(path, weights_only=True)
    torch.save({name: torch.zeros_like(value) for name, value in weights.items()}, path)
    manifest.write(results.run, FILES)
    uniform_token_loss = math.log(load_corpus(results.corpus).vocab_size)
    # a name of three tokens; float32 has ln V to seven digits
    np.testing.assert_allclose(results.evaluate()["name_loss"], 3 * uniform_token_loss, rtol=1e-6)


def test_evaluating_twice_gives_the_same_losses(results):
    first = results.evaluate()
    xr.testing.assert_identical(first, results.evaluate())


def test_missing_weights_are_refused(results):
    (results.run / "model.pt").unlink()
    with pytest.raises(UserError, match=r"model\.pt: missing"):
        results.evaluate()


def test_weights_of_another_run_are_refused(results):
    path = results.run / "model.pt"
    weights = torch.load(path, weights_only=True)
    torch.save({name: value + 1 for name, value in weights.items()}, path)
    with pytest.raises(UserError, match=r"model\.pt: damaged, its SHA-256 is not that in DONE"):
        results.evaluate()


def test_truncated_weights_are_refused(results):
    path = results.run / "model.pt"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"model\.pt: damaged"):
        results.evaluate()


def test_weights_of_another_model_are_refused(results):
    facts = read_json(results.run / "run.json")
    facts["record"]["architecture"]["num_layers"] = 3
    write_json(results.run / "run.json", facts)
    manifest.write(results.run, FILES)
    with pytest.raises(UserError, match="not the weights"):
        results.evaluate()


def test_the_corpus_of_another_run_is_refused(results):
    write_corpus(CORPORA["bioS"], results.corpus)
    with pytest.raises(UserError, match="not the corpus"):
        results.evaluate()
