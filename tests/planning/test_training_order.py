"""Training order: which runs of a study start first."""

from pathlib import Path

from knowcap.config.study import Study, load_study
from knowcap.planning.cost import relative_time
from knowcap.planning.training_order import training_priorities

REPOSITORY = Path(__file__).parents[2]


def by_priority(study: Study) -> list[object]:
    priorities = training_priorities(study)
    return sorted(study.runs(), key=priorities.__getitem__, reverse=True)


def test_listed_runs_start_in_the_order_of_the_file() -> None:
    study = load_study(REPOSITORY / "config" / "desktop.yaml")
    assert study.training_order == "listed"
    assert by_priority(study) == list(study.runs())


def test_without_an_order_the_longest_run_starts_first() -> None:
    study = load_study(REPOSITORY / "config" / "paper-cells.yaml")
    assert study.training_order == "longest_first"
    times = [relative_time(run) for run in by_priority(study)]
    assert times == sorted(times, reverse=True)
    assert times != [relative_time(run) for run in study.runs()]
