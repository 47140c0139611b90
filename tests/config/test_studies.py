"""The study files of the repository: runs per law, models, hyperparameters of the paper."""

import json
from collections import Counter
from pathlib import Path

import pytest

from knowcap.artifacts import identity
from knowcap.config import Run
from knowcap.config.study import Study, load_study
from knowcap.model.num_params import num_params
from knowcap.planning.cost import text_statistics

CONFIG = Path(__file__).parents[2] / "config"

# fmt: off
FIGURE_1A = {
    "2-2": 0.816, "3-2": 1.014, "4-2": 1.213, "5-2": 1.411, "2-3": 1.519, "6-2": 1.609,
    "7-2": 1.807, "8-2": 2.006, "4-3": 2.409, "2-4": 2.418, "5-3": 2.854, "3-4": 3.208,
    "6-3": 3.298, "4-4": 3.998, "5-4": 4.788, "2-6": 4.807, "6-4": 5.577, "3-6": 6.582,
    "8-4": 7.157, "2-8": 7.983, "4-6": 8.356, "10-4": 8.737, "5-6": 10.13, "12-4": 10.32,
    "6-6": 11.91, "16-4": 13.48, "8-6": 15.45, "9-6": 17.23, "10-6": 19.00, "6-8": 20.59,
    "12-6": 22.55, "7-8": 23.74, "8-8": 26.90, "4-12": 30.87, "10-8": 33.20, "12-8": 39.51,
    "2-20": 43.55, "6-12": 45.04, "16-8": 52.12, "8-12": 59.22, "3-20": 63.23, "6-16": 78.93,
    "4-20": 82.90, "12-12": 87.57, "8-16": 104.1, "16-12": 115.9, "6-20": 122.3, "20-12": 144.3,
    "12-16": 154.5, "8-20": 161.6, "6-24": 175.0, "16-16": 204.9, "8-24": 231.7, "12-20": 240.3,
    "20-16": 255.3, "14-20": 279.7, "24-16": 305.7, "16-20": 319.0, "12-24": 345.0, "28-16": 356.1,
}
# fmt: on
"""Models of the paper's figure 1a and their parameters in millions, at 3275 tokens."""

RANGES = {
    50_000: ("2-2", "10-6", 29),
    100_000: ("4-2", "10-8", 33),
    200_000: ("4-3", "3-20", 33),
    500_000: ("6-4", "6-24", 35),
    1_000_000: ("6-6", "28-16", 36),
}
"""Smallest and largest model of a population in figure 1a, and how many there are."""


@pytest.fixture(scope="module")
def paper() -> Study:
    return load_study(CONFIG / "paper.yaml")


@pytest.fixture(scope="module")
def single_gpu() -> Study:
    return load_study(CONFIG / "single_gpu.yaml")


def size(run: Run) -> str:
    return f"{run.architecture.num_layers}-{run.architecture.num_attention_heads}"


def by_people(study: Study, experiment: str) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for run in study.experiments[experiment].runs:
        found.setdefault(run.corpus.knowledge.num_people, []).append(size(run))
    return found


def runs_of_laws(study: Study) -> dict[int, int]:
    laws = sorted({law for experiment in study.experiments.values() for law in experiment.laws})
    return {law: len({run for run, _ in study.measurements(law)}) for law in laws}


def test_the_paper_study_has_the_expected_runs_of_each_law(paper: Study) -> None:
    assert runs_of_laws(paper) == {
        1: 201, 2: 387, 3: 160, 4: 395, 5: 109, 6: 112, 7: 100, 8: 361, 9: 49, 10: 64, 11: 20,
        12: 36,
    }  # fmt: skip
    assert len(paper.runs()) == 1211


def test_the_single_gpu_study_has_the_expected_runs_of_each_law(single_gpu: Study) -> None:
    assert runs_of_laws(single_gpu) == {
        1: 8, 2: 4, 3: 11, 4: 25, 5: 5, 6: 7, 7: 10, 8: 19, 9: 4, 10: 5, 11: 2, 12: 3
    }  # fmt: skip
    assert len(single_gpu.runs()) == 74


def test_every_run_is_equal_after_writing_and_reading_its_record(
    paper: Study, single_gpu: Study
) -> None:
    for run in (*paper.runs(), *single_gpu.runs()):
        assert Run.model_validate(json.loads(identity.record_json(run))) == run


def test_models_have_the_parameter_counts_of_figure_1a(paper: Study) -> None:
    models = {size(run): run.architecture for run in paper.experiments["bioS-1000"].runs}
    models.pop("25-20")  # named in the text
    millions = {name: num_params(model, 3275)["total"] / 1e6 for name, model in models.items()}
    # The figure is known to four digits.
    assert millions == pytest.approx(FIGURE_1A, rel=5e-4)


@pytest.mark.parametrize("experiment", ["bioS-1000", "bioS-simple-1000", "bioS-100"])
def test_each_population_has_all_models_of_its_size_range(paper: Study, experiment: str) -> None:
    order = sorted(FIGURE_1A, key=lambda name: FIGURE_1A[name])
    models_by_people = by_people(paper, experiment)
    for num_people, (smallest, largest, number) in RANGES.items():
        models = order[order.index(smallest) : order.index(largest) + 1]
        assert len(models) == number
        assert Counter(models_by_people[num_people]) == Counter(models)


def test_the_largest_populations_have_one_model_at_1000_exposures(paper: Study) -> None:
    models_by_people = by_people(paper, "bioS-1000")
    assert {n: models_by_people[n] for n in models_by_people if n > 1_000_000} == {
        2_000_000: ["16-8"],
        5_000_000: ["6-20"],
        10_000_000: ["20-16"],
        20_000_000: ["25-20"],
    }
    assert {10_000, 20_000} < models_by_people.keys()


@pytest.mark.parametrize(
    ("experiment", "num_people", "weight_decay", "batch", "lr"),
    [
        ("bioS-1000", 10_000, 0.02, 24, (1e-3,)),
        ("bioS-1000", 200_000, 0.02, 192, (1e-3,)),
        ("bioS-1000", 500_000, 0.01, 192, (5e-4,)),
        ("bioS-1000", 2_000_000, 0.005, 1536, (3e-4,)),
        ("bioS-1000", 10_000_000, 0.001, 1536, (3e-4,)),
        ("bioS-simple-1000", 50_000, 0.02, 96, (1e-3,)),
        ("bioS-100", 50_000, 0.01, 12, (1e-3,)),
        ("bioS-100", 2_000_000, 0.01, 384, (3e-4, 5e-4, 1e-3)),
        ("bioS-100", 5_000_000, 0.01, 768, (3e-4, 5e-4)),
        ("bioS-100", 10_000_000, 0.01, 1024, (2e-4, 3e-4, 5e-4)),
        ("bioR-1000", 500_000, 0.01, 192, (5e-4,)),
        ("LLaMA-1000", 200_000, 0.02, 192, (5e-4, 1e-3, 2e-3)),
        ("Mistral-1000", 1_000_000, 0.01, 192, (2e-4, 3e-4, 5e-4)),
        ("LLaMA-tied-1000", 5_000_000, 0.002, 1536, (3e-4, 5e-4, 1e-3)),
        ("GPT2_0-1000", 50_000, 0.02, 96, (1e-3,)),
        ("GPT2_quarter-1000", 1_000_000, 0.01, 192, (5e-4,)),
        ("LLaMA-100", 200_000, 0.01, 48, (3e-4, 5e-4, 1e-3)),
        ("Mistral-100", 500_000, 0.01, 96, (2e-4, 3e-4, 5e-4)),
        ("Mistral-100", 2_000_000, 0.01, 384, (3e-4, 5e-4, 1e-3)),
        ("LLaMA-100", 10_000_000, 0.01, 1536, (3e-4, 5e-4, 1e-3)),
        ("GPT2_quarter-100", 100_000, 0.01, 24, (5e-4, 1e-3)),
        ("GPT2_quarter-100", 1_000_000, 0.01, 192, (3e-4, 5e-4)),
        ("GPT2_0-100", 500_000, 0.01, 96, (2e-4, 3e-4, 5e-4)),
        ("LLaMA-tied-100", 50_000, 0.01, 12, (3e-4, 5e-4, 1e-3)),
        ("LLaMA-ungated-other-tokens-100", 50_000, 0.01, 12, (1e-3,)),
        ("experts-1000", 500_000, 0.01, 192, (5e-4, 1e-3)),
        ("experts-1000", 2_000_000, 0.005, 1536, (2e-3,)),
        ("experts-1000", 10_000_000, 0.001, 1536, (5e-4,)),
        ("experts-100", 200_000, 0.01, 48, (1e-3, 2e-3, 5e-3)),
        ("experts-100", 1_000_000, 0.01, 192, (5e-4, 1e-3, 2e-3)),
        ("experts-100", 5_000_000, 0.005, 384, (3e-4, 5e-4, 1e-3)),
        ("junk-100", 200_000, 0.01, 48, (3e-4, 5e-4, 1e-3)),
        ("junk-100", 500_000, 0.005, 192, (5e-5, 1e-4, 2e-4, 3e-4, 5e-4)),
        ("junk-300", 50_000, 0.01, 96, (3e-4, 5e-4, 1e-3)),
        ("junk-600", 500_000, 0.002, 768, (3e-4, 5e-4, 1e-3)),
        ("junk-1000", 200_000, 0.01, 1536, (5e-4, 1e-3)),
        ("junk-repetitive-100", 100_000, 0.01, 24, (3e-4, 5e-4)),
        ("junk-repetitive-100", 200_000, 0.01, 96, (3e-4, 5e-4, 1e-3)),
        ("junk-repetitive-100", 1_000_000, 0.01, 192, (3e-4,)),
        ("junk-domain-100", 200_000, 0.01, 96, (2e-4, 3e-4, 5e-4, 1e-3)),
        ("junk-domain-100", 1_000_000, 0.005, 192, (2e-4, 3e-4, 5e-4)),
        ("junk-domain-300", 500_000, 0.005, 384, (3e-4, 5e-4, 1e-3)),
    ],
)
def test_a_population_has_the_hyperparameters_of_the_paper_s_table(
    paper: Study,
    experiment: str,
    num_people: int,
    weight_decay: float,
    batch: int,
    lr: tuple[float, ...],
) -> None:
    rows = {
        (
            run.optimization.weight_decay,
            run.optimization.global_batch_size,
            run.replicates.lr,
        )
        for run in paper.experiments[experiment].runs
        if run.corpus.knowledge.num_people == num_people and size(run) != "2-20"
    }
    assert rows == {(weight_decay, batch, lr)}


def test_two_models_at_100_exposures_have_their_own_hyperparameters(paper: Study) -> None:
    runs = paper.experiments["bioS-100"].runs
    (wide,) = [
        run for run in runs if size(run) == "2-20" and run.corpus.knowledge.num_people == 200_000
    ]
    (deep,) = [run for run in runs if size(run) == "28-20"]
    assert wide.replicates.lr == (5e-4,)
    assert deep.optimization.global_batch_size == 1280


def test_an_experiment_has_the_exposures_in_its_name(paper: Study, single_gpu: Study) -> None:
    for study in (paper, single_gpu):
        for name, experiment in study.experiments.items():
            exposures = {run.optimization.exposures for run in experiment.runs}
            assert exposures == {int(name.rpartition("-")[2])}, name


def test_seven_eighths_of_the_windows_of_a_mixture_are_junk(
    paper: Study, single_gpu: Study
) -> None:
    people = {"junk-repetitive-100": 1000}
    for study in (paper, single_gpu):
        junk = {name: e for name, e in study.experiments.items() if name.startswith("junk")}
        assert len(junk) == 7
        for name, experiment in junk.items():
            (mixture,) = {run.corpus.mixture for run in experiment.runs}
            assert mixture is not None
            assert mixture.useful_share == 1 / 8
            assert mixture.num_junk_people == people.get(name, 100_000_000)
            assert mixture.domain_token == ("domain" in name)


def test_every_model_of_laws_1_and_3_is_quantised(paper: Study, single_gpu: Study) -> None:
    for study in (paper, single_gpu):
        for law in (1, 3):
            measurements = set(study.measurements(law))
            for run in {run for run, _ in measurements}:
                assert {(run, "int8"), (run, "int4")} <= measurements


def test_law_7_has_llama_and_the_variants_between_it_and_gpt2(
    paper: Study, single_gpu: Study
) -> None:
    for study in (paper, single_gpu):
        found = {
            (run.corpus.tokenizer, run.architecture.family, run.architecture.preset_overrides)
            for run, _ in study.measurements(7)
        }
        assert found == {
            ("GPT2", "LLaMA", "tied"),
            ("Mistral", "LLaMA", "tied"),
            ("GPT2", "LLaMA", "tied-no-gated"),
            ("Mistral", "LLaMA", "tied-no-gated"),
            ("GPT2", "LLaMA", "tied-no-gated-gelu"),
        }


def test_every_run_has_the_paper_s_common_hyperparameters(paper: Study, single_gpu: Study) -> None:
    for run in (*paper.runs(), *single_gpu.runs()):
        assert run.architecture.kv_channels == 64
        assert run.architecture.rotary_percent == 0.25
        # A prime number for bioD, whose biographies all have the same length.
        expected = 509 if run.corpus.knowledge.kind == "bioD" else 512
        assert run.optimization.seq_length == expected
        assert run.optimization.lr_warmup_iters == 1000
        assert run.optimization.min_lr_fraction == 0.1
        assert run.optimization.dtype == "bfloat16"


def test_the_two_runs_of_the_bfloat16_study_differ_only_in_dtype() -> None:
    study = load_study(CONFIG / "bfloat16.yaml")
    (rounded,), (exact,) = (study.experiments[name].runs for name in ("bfloat16", "float32"))
    exact_in_bfloat16 = exact.optimization.model_copy(update={"dtype": "bfloat16"})
    assert rounded == exact.model_copy(update={"optimization": exact_in_bfloat16})


def test_biod_varies_one_size_at_a_time(paper: Study) -> None:
    base, *others = dict.fromkeys(
        run.corpus.knowledge for run in paper.experiments["bioD-1000"].runs
    )
    values: dict[str, set[int]] = {}
    for other in others:
        differs = {
            name
            for name in type(base).model_fields
            if getattr(other, name) != getattr(base, name) and name != "num_people"
        }
        (name,) = differs
        values.setdefault(name, {getattr(base, name)}).add(getattr(other, name))
    ends = {name: (min(found), max(found)) for name, found in values.items()}
    assert ends == {
        "num_attributes": (1, 50),
        "num_chunks": (1, 50),
        "diversity": (10, 10_000),
        "chunk_length": (1, 50),
        "alphabet_size": (20, 40_000),
    }


def test_a_biography_of_biod_fits_in_a_window(paper: Study, tmp_path: Path) -> None:
    for run in paper.experiments["bioD-1000"].runs:
        assert (
            text_statistics(run.corpus, tmp_path).tokens_per_biography
            <= run.optimization.seq_length
        )


def test_the_single_gpu_runs_are_the_paper_s_with_more_seeds(
    paper: Study, single_gpu: Study
) -> None:
    def seedless(run: Run) -> Run:
        return run.model_copy(
            update={"replicates": run.replicates.model_copy(update={"seeds": (0,)})}
        )

    # bioR differs: it has another rewriter.
    own = {run for run in single_gpu.runs() if run.corpus.knowledge.kind != "bioR"}
    assert {seedless(run) for run in own} <= set(paper.runs())
    assert {run.replicates.seeds for run in single_gpu.runs()} == {(0, 1, 2)}


def test_models_surround_the_frontier_of_their_law(paper: Study, single_gpu: Study) -> None:
    # log2 of N0 / N names and of the 47.59 bits of values, for each person (paper 4.3)
    bits = {50_000: 2.962e6, 100_000: 5.824e6}
    for study, experiment, frontier in (
        (single_gpu, "bioS-1000", 2.0),
        (single_gpu, "bioS-100", 1.0),
        (paper, "bioS-100", 1.0),
    ):
        for num_people, models in by_people(study, experiment).items():
            if num_people in bits:
                ratios = [bits[num_people] / 1e6 / FIGURE_1A[model] for model in models]
                assert min(ratios) < frontier < max(ratios)
