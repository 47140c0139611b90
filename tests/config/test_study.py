"""Study files: expansion of grids, and errors with file, line, field and allowed values."""

from pathlib import Path

import pytest

from knowcap.config.study import load_study
from knowcap.errors import UserError
from tests.support.tiny import tiny_run

REPOSITORY = Path(__file__).parents[2]

EXPERTS = """
    moe_router_topk: 1
    moe_aux_loss_coeff: 0.01
    num_moe_experts: """


def test_a_block_of_the_grid_expands_to_all_combinations_of_its_lists(study_file: Path) -> None:
    runs = load_study(study_file).experiments["many"].runs
    sizes = [(r.corpus.knowledge.num_people, r.architecture.num_attention_heads) for r in runs]
    assert sizes == [(20, 1), (20, 2), (30, 1), (30, 2), (40, 2)]


def test_an_mlp_cannot_be_skipped_in_a_model_without_one(study_file: Path, study_text: str) -> None:
    probed = study_text.replace("precisions: [trained]", "precisions: [without_last_mlp]")
    study_file.write_text(probed)
    load_study(study_file)
    study_file.write_text(probed.replace("family: GPT2", "family: GPT2_0"))
    with pytest.raises(UserError, match="precisions: 'without_last_mlp' is not allowed with model"):
        load_study(study_file)


def test_an_experiment_without_a_grid_has_only_its_base_run(
    study_file: Path, study_text: str
) -> None:
    study_file.write_text(
        study_text.replace("    grid:\n      - {optimization.exposures: 2}\n", "")
    )
    (run,) = load_study(study_file).experiments["few"].runs
    assert run.optimization.exposures == 20


def test_a_list_in_a_list_is_one_value(study_file: Path, study_text: str) -> None:
    edited = study_text.replace("{optimization.exposures: 2}", "{replicates.seeds: [[5, 6]]}")
    study_file.write_text(edited)
    (run,) = load_study(study_file).experiments["few"].runs
    assert run.replicates.seeds == (5, 6)


def test_equal_runs_of_two_experiments_count_once(study_file: Path, study_text: str) -> None:
    study_file.write_text(
        study_text.replace("{optimization.exposures: 2}", "{corpus.knowledge.num_people: 40}")
    )
    study = load_study(study_file)
    assert study.experiments["few"].runs[0] in study.experiments["many"].runs
    assert len(study.runs()) == 5
    assert len(study.measurements()) == 5


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "lr: [1.0e-3]",
            "lr: ['1e-3']",
            ":37: experiments.many.run.replicates.lr.0: '1e-3' is not allowed: a number has no quo",
        ),
        ("exposures: 20", "exposuers: 20", ".run.optimization.exposuers: unknown, allowed are "),
        (
            "exposures: 20",
            "exposures: 1.5",
            ".exposures: 1.5 is not allowed: an integer is required",
        ),
        ("    exposures: 20\n", "", ".run.optimization.exposures: missing"),
        (
            "weight_decay: 0.02",
            "weight_decay: on",
            ".weight_decay: 'on' is not allowed: a number is required",
        ),
        (
            "clip_grad: 1.0",
            "clip_grad: .inf",
            ".clip_grad: inf is not allowed: a finite number is required",
        ),
        (
            "num_people: [20, 30]",
            "num_people: [20, 3000000000]",
            ".num_people: 3000000000 is more than the number of distinct names, 4096",
        ),
        ("num_people: 40", "num_people: -40", ":47: experiments.many.grid.1.corpus.knowledge."),
        ("num_people: 40", "people: 40", "grid.1.corpus.knowledge.people: unknown, allowed are"),
        (
            "diversity: 16",
            "diversity: 17",
            "diversity: 17 is more than the number of possible chunks, T^L",
        ),
        ("kind: bioD", "kind: bioX", ".kind: 'bioX' is not one of 'bioS', 'bioS-simple', 'bioR',"),
        (
            "corpus.knowledge.num_people: 40",
            "corpus.mixture: {useful_share: 0.125, num_junk_people: 5000, domain_token: true}",
            "experiments.many.grid.1.corpus.mixture.num_junk_people: 5000 is more than",
        ),
        (
            "    tokenizer: word",
            "    tokenizer: GPT2",
            "tokenizer: 'GPT2' is not allowed with bioD, which needs 'word'",
        ),
        ("size: 2-2", "size: wide", ".size: 'wide' is not allowed; layers-heads is expected, such"),
        (
            "[2-1, 2-2]",
            "[2-1, 22]",
            ".grid.0.architecture.size: 22 is not allowed; layers-heads is",
        ),
        (
            "rotary_percent: 0.25",
            "rotary_percent: 0.2",
            "is 1.6 channels; an even number of at least 2 is needed",
        ),
        ("family: GPT2", "family: GPT3", ".architecture.family: 'GPT3' is not one of GPT2, LLaMA,"),
        ("family: GPT2", "family: 2", ".architecture.family: 2 is not allowed: text is required"),
        (
            "family: GPT2",
            "family: GPT2\n    num_query_groups: 3",
            ".architecture.num_query_groups: 3 does not divide num_attention_heads: 1",
        ),
        (
            "family: GPT2",
            "family: GPT2\n    activation: relu",
            ".architecture.activation: 'relu' is not allowed: input should be 'gelu' or 'silu'",
        ),
        (
            "family: GPT2",
            f"family: GPT2{EXPERTS}1",
            "num_moe_experts: 1 is not allowed; allowed are 0 and 2 or more",
        ),
        (
            "family: GPT2",
            f"family: GPT2_0{EXPERTS}4",
            ".num_moe_experts: 4 is not allowed if mlp_weights is 0",
        ),
        (
            "family: GPT2",
            f"family: GPT2{EXPERTS}2".replace("topk: 1", "topk: 3"),
            ".architecture.moe_router_topk: 3 is more than num_moe_experts: 2",
        ),
        (
            "family: GPT2",
            f"family: GPT2{EXPERTS}4\n    moe_eval_capacity_factor: 0.0",
            ".moe_eval_capacity_factor: 0.0 is not allowed: at least 0.1 is required",
        ),
        (
            "family: GPT2",
            "family: GPT2\n    num_moe_experts: 4",
            ".architecture.moe_router_topk: missing; required with num_moe_experts: 4",
        ),
        (
            "family: GPT2",
            "family: GPT2\n    moe_router_topk: 1",
            ".architecture.moe_router_topk: only allowed if num_moe_experts is 2 or more",
        ),
        (
            "    lr_warmup_fraction: 0.05\n",
            "",
            "lr_warmup_iters: exactly one of it and lr_warmup_fraction must be given",
        ),
        (
            "laws: [1]",
            "laws: [14]",
            ":41: experiments.many.laws.0: 14 is not allowed: at most 12 is required",
        ),
        ("laws: [1]", "law: [1]", "experiments.many.law: unknown, allowed are laws, scale,"),
        (
            "laws: [1]",
            "laws: [base]",
            ".laws.0: 'base' is not allowed: an integer is required",
        ),
        ("laws: [1]", "laws: 1", ".laws: 1 is not allowed: a list is required, such as [1]"),
        (
            "  many:",
            "  so many:",
            ":40: experiments.so many: 'so many' is not allowed: a name has letters,",
        ),
        ("precisions: [trained]", "precisions: [int3]", ".precisions.0: 'int3' is not allowed"),
        ("study: tiny", "study: tiny\nstudy: other", ":2: study: duplicate key"),
        (
            "study: tiny",
            "study: runs",
            ":1: study: 'runs' is not allowed; reserved names are corpora, runs,",
        ),
        ("study: tiny", "study: [tiny", "expected ',' or ']'"),
        ("results: results\n", "", ":1: results: missing"),
        ("seeds: [0, 1]", "seeds: [0, 0]", ".seeds: [0, 0] contains a value twice"),
        (
            "grid:\n      - {opt",
            "grid:\n        {opt",
            "is not allowed; a list of blocks is required",
        ),
        ("    run: *scale\n    grid:\n      - {opt", "    grid:\n      - {opt", "few.run: missing"),
    ],
)
def test_an_error_is_one_line_with_file_line_field_value_and_allowed_values(
    study_file: Path, study_text: str, old: str, new: str, expected: str
) -> None:
    assert old in study_text
    study_file.write_text(study_text.replace(old, new))
    with pytest.raises(UserError) as caught:
        load_study(study_file)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{study_file}:") for line in lines)
    assert any(expected in line for line in lines), lines


@pytest.mark.parametrize(
    ("rewriter", "expected"),
    [
        ("llama", ":46: experiments.bioR.grid.0.corpus.knowledge.rewriter: 'llama' is not allowed"),
        (
            "{model: m}",
            ":46: experiments.bioR.grid.0.corpus.knowledge.rewriter.temperature: missing",
        ),
    ],
)
def test_an_error_in_an_experiment_named_like_a_kind_of_knowledge_is_located(
    study_file: Path, study_text: str, rewriter: str, expected: str
) -> None:
    knowledge = "{kind: bioR, num_people: 9, num_versions: 2, seed: 0, rewriter: " + rewriter + "}"
    text = study_text.replace("  many:", "  bioR:").replace("tokenizer: word", "tokenizer: GPT2")
    grid = "{corpus.knowledge.num_people: [20, 30], architecture.size: [2-1, 2-2]}"
    study_file.write_text(text.replace(grid, f"{{corpus.knowledge: {knowledge}}}"))
    with pytest.raises(UserError) as caught:
        load_study(study_file)
    assert expected in str(caught.value)


def test_all_errors_of_a_file_are_reported_by_line_and_those_of_an_anchor_once(
    study_file: Path, study_text: str
) -> None:
    text = study_text
    for old, new in (
        ("study: tiny", "study: runs"),
        ("num_people: 50", "num_people: many"),
        ("alphabet_size: 16", "alphabet_size: 1"),
        ("rotary_percent: 0.25", "rotary_percent: 0.2"),
        ("clip_grad: 1.0", "clip_grad: 0"),
        ("dtype: float32", "dtype: float32\n    dtype: float16\n    adam: true"),
        ("precisions: [trained]", "precisions: trained"),
        ("num_people: 40", "people: []"),
        ("laws: [4]", "laws: [0, 13]"),
        ("    grid:\n      - {optimization.exposures: 2}", "    grid: none"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    study_file.write_text(text)
    with pytest.raises(UserError) as caught:
        load_study(study_file)
    lines = [line.removeprefix(f"{study_file}:") for line in str(caught.value).splitlines()]
    starts = [
        "1: study: 'runs' is not allowed; reserved names are corpora,",
        "3: evaluation.num_people: 'many' is not allowed: an integer is required",
        "14: experiments.many.run.corpus.knowledge.alphabet_size: 1 is not allowed: at least 2 is",
        "22: experiments.many.run.architecture.rotary_percent: 0.2 of kv_channels = 8 is 1.6 chan",
        "35: experiments.many.run.optimization.clip_grad: 0 is not allowed: more than 0 is requ",
        "36: experiments.many.run.optimization.dtype: 'float16' is not allowed: input should be",
        "37: dtype: duplicate key",
        "38: experiments.many.run.optimization.adam: unknown, allowed are adam_beta1,",
        "45: experiments.many.precisions: 'trained' is not allowed: a list is required, such as",
        "49: experiments.many.grid.1.corpus.knowledge.people: [] is not allowed; a list of val",
        "51: experiments.few.laws.0: 0 is not allowed: at least 1 is required",
        "51: experiments.few.laws.1: 13 is not allowed: at most 12 is required",
        "55: experiments.few.grid: 'none' is not allowed; a list of blocks is required",
    ]
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == starts


def test_a_missing_study_file_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.yaml: file not found"):
        load_study(tmp_path / "absent.yaml")


@pytest.mark.parametrize("path", sorted((REPOSITORY / "config").glob("*.yaml")), ids=str)
def test_every_study_of_the_repository_is_valid(path: Path) -> None:
    study = load_study(path)
    assert study.study == ("default" if path.stem == "config" else path.stem)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "seq_length: 16",
            "seq_length: 15",
            ":27: experiments.many.run.optimization.seq_length: 15",
        ),
        (
            "seq_length: 16",
            "seq_length: 100000",
            "100000 is not allowed: at most 32768 is required",
        ),
        ("seq_length: 16", "seq_length: 20000", "20000 is more than the 6400 tokens of all expo"),
        (
            "global_batch_size: 4",
            "global_batch_size: 401",
            "401 is more than the 400 windows of th",
        ),
        (
            "lr_warmup_fraction: 0.05",
            "lr_warmup_iters: 101",
            ".lr_warmup_iters: 101 is more than the 100 steps of the whole training",
        ),
        ("lr: [1.0e-3]", "lr: [1e-300]", ".lr: 1e-300 is not allowed: from 1e-09 to 10000 is requ"),
        ("lr: [1.0e-3]", "lr: [1e-3, 1e400]", ".lr.1: inf is not allowed: a finite number is req"),
        ("init_method_std: 0.02", "init_method_std: 1e30", ".init_method_std: 1e+30 is not allow"),
        ("weight_decay: 0.02", "weight_decay: 1e6", ".weight_decay: 1e+06 is not allowed: from 0"),
        ("weight_decay: 0.02", "weight_decay: .nan", ".weight_decay: nan is not allowed: a finit"),
        ("exposures: 20", "exposures: 10000000000000000000", "more than 18 digits"),
        ("chunk_length: 1", "chunk_length: 1000000000", ".chunk_length: 1000000000 is not allowed"),
        ("chunk_length: 1", "chunk_length: 10000", "tokens are too few for the longest biography"),
        ("num_chunks: 2", "num_chunks: 1000", "have more values than 10^1000"),
        (
            "size: 2-2\n    kv_channels: 8",
            "size: 1000-1000\n    kv_channels: 1024",
            "weights, more than 1e+12",
        ),
        ("size: 2-2", "size: ²-²", "size: '²-²' is not allowed; layers-heads is expected"),
        ("study: tiny", f"study: {'a' * 300}", "string should have at most 64 characters"),
        ("scale: scale model", 'scale: "two\\nlines"', "'two\\nlines' is not allowed: "),
        (
            "scale: scale model",
            f"scale: {'a' * 9000}",
            "aaa' is not allowed: string should have at",
        ),
        ("laws: [1]", "laws: [1, 1]", ".laws: [1, 1] contains a value twice"),
        ("laws: [1]", "laws: [1:30]", ".laws.0: '1:30' is not allowed: an integer is required"),
        ("num_people: [20, 30]", "num_people: []", ".num_people: [] is not allowed; a list of val"),
        (
            "num_people: 40",
            "num_people: [[40]]",
            ".num_people: [40] is not allowed: an integer is required",
        ),
        (
            "num_people: 40",
            "num_people: 40, replicates.lr: [0.0018]",
            "replicates.lr: 0.0018 is not allowed: a list is required, such as [[0.0018]]",
        ),
        (
            "num_people: 40",
            "num_people: 40, replicates.lr: 0.0018",
            "replicates.lr: 0.0018 is not allowed: a list is required, such as [[0.0018]]",
        ),
        (
            "lr: [1.0e-3]",
            "lr: 0.0018",
            "lr: 0.0018 is not allowed: a list is required, such as [0.",
        ),
        (
            "num_people: 40",
            "num_people: 40, corpus.mixture: {useful_share: 1e-9}",
            ".useful_share: 1e-09 is not allowed: at least 0.001 is required",
        ),
        (
            "family: GPT2",
            f"family: GPT2{EXPERTS}4\n    moe_expert_capacity_factor: 1e-9",
            ".moe_expert_capacity_factor: 1e-09 is not allowed: at least 0.1 is required",
        ),
        (
            "num_people: [20, 30]",
            f"num_people: {[*range(20, 600)]}, replicates.seeds: {[[n] for n in range(200)]}",
            ".grid.0: with this block the study has more than 100000 runs",
        ),
    ],
)
def test_values_that_no_training_can_have_are_refused(
    study_file: Path, study_text: str, old: str, new: str, expected: str
) -> None:
    test_an_error_is_one_line_with_file_line_field_value_and_allowed_values(
        study_file, study_text, old, new, expected
    )


@pytest.mark.parametrize("number", ["1e-3", "1.0e-3", "0.001", "1E-03"])
def test_a_number_may_have_any_form_of_json(study_file: Path, study_text: str, number: str) -> None:
    study_file.write_text(study_text.replace("1.0e-3", number))
    assert load_study(study_file).runs()[0].replicates.lr == (1e-3,)


@pytest.mark.parametrize(
    ("folder", "expanded"),
    [
        ("~/kc", "/home/someone/kc"),
        ("$SCRATCH/kc", "/scratch/kc"),
        ('"${SCRATCH}/kc"', "/scratch/kc"),
        ("results/", "results"),
        ("./a//b/../c/", "a/c"),
        ("a b", "a b"),
        (".", "."),
    ],
)
def test_the_folder_of_results_is_expanded(
    study_file: Path,
    study_text: str,
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
    expanded: str,
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("SCRATCH", "/scratch/")
    study_file.write_text(study_text.replace("results: results", f"results: {folder}"))
    assert load_study(study_file).results == expanded


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("''", "'' is not allowed: a folder is required"),
        ("$ABSENT/kc", "'$ABSENT/kc' is not allowed: the variable 'ABSENT' is not set"),
        ('"${ABSENT}"', "'${ABSENT}' is not allowed: the variable 'ABSENT' is not set"),
        ("~no-such-user/kc", "there is no home folder of '~no-such-user'"),
        ('"a{b}"', "'a{b}' is not allowed: braces"),
        ('"a\\tb"', "'a\\tb' is not allowed: braces and control characters"),
        ("a" * 256, "is not allowed: longer than a path can be"),
        ("/dev/null/kc", "'/dev/null/kc' is not allowed: '/dev/null' is not a folder"),
        ("[a]", "results: ['a'] is not allowed: text is required"),
    ],
)
def test_a_folder_that_cannot_be_is_refused(
    study_file: Path, study_text: str, monkeypatch: pytest.MonkeyPatch, folder: str, expected: str
) -> None:
    monkeypatch.delenv("ABSENT", raising=False)
    test_an_error_is_one_line_with_file_line_field_value_and_allowed_values(
        study_file, study_text, "results: results", f"results: {folder}", expected
    )


def test_more_biographies_than_can_be_counted_are_not_mixed_within_windows() -> None:
    mixture = {"useful_share": 0.125, "num_junk_people": 10, "domain_token": False}
    changes = {"optimization__exposures": 2**19, "optimization__seq_length": 16}
    for unit, fields in (("window", []), ("biography", ["corpus.mixture.unit"])):
        run = tiny_run(corpus__mixture=mixture | {"unit": unit}, **changes)
        assert [error.field for error in run.training_errors()] == fields
