"""Study files: expansion of grids, and errors with file, line, field and allowed values."""

from pathlib import Path

import pytest

from knowcap.config.study import load_study
from knowcap.errors import UserError

REPOSITORY = Path(__file__).parents[2]

EXPERTS = """
    moe_router_topk: 1
    moe_aux_loss_coeff: 0.01
    num_moe_experts: """


def test_a_block_of_the_grid_expands_to_all_combinations_of_its_lists(study_file: Path) -> None:
    runs = load_study(study_file).experiments["many"].runs
    sizes = [(r.corpus.knowledge.num_people, r.architecture.num_attention_heads) for r in runs]
    assert sizes == [(20, 1), (20, 2), (30, 1), (30, 2), (40, 2)]


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
        "35: experiments.many.run.optimization.clip_grad: 0 is not allowed: at least 1e-09 is ",
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
