import errno
import hashlib
import json
import math
import multiprocessing
import random
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from knowcap.artifacts import c_extension
from knowcap.artifacts.files import read_json
from knowcap.artifacts.lock import acquire
from knowcap.config import Run
from knowcap.data import token_stream
from knowcap.data.corpus import load_corpus
from knowcap.data.corpus_writer import write_corpus
from knowcap.engines.simd.support import is_supported
from knowcap.errors import UserError
from knowcap.training.divergence import likely_causes
from knowcap.training.run_dir import FILES
from knowcap.training.train import TrainingInterruptedError, train
from tests.golden.trace import TRACE, trace
from tests.support.tiny import tiny_run

RUN = tiny_run()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpora") / "bioD-N50"
    write_corpus(RUN.corpus, folder)
    return folder


@pytest.fixture(scope="module")
def published(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, trained without interruption."""
    folder = tmp_path_factory.mktemp("published")
    train(RUN, corpus, folder / "run", folder / "scratch")
    return folder / "run"


@pytest.fixture
def start(corpus: Path, tmp_path: Path) -> Callable[..., None]:
    """Start or resume a training in this test's folders."""

    def start(run: Run = RUN, **options: float | str) -> None:
        train(run, corpus, tmp_path / "run", tmp_path / "scratch", **options)

    return start


def test_every_metric_is_documented(published: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    documented = re.findall(r"^\| `(\w+)` \|", page.partition("## Metrics")[2], re.MULTILINE)
    line = (published / "metrics.jsonl").read_text().splitlines()[0]
    assert [name for name in documented if not name.endswith("_share")] == list(json.loads(line))


def weights(run_folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(run_folder / "model.pt", weights_only=True)


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_times(lines: list[dict]) -> list[dict]:
    times = ("elapsed_s", "tokens_per_s")
    return [{key: value for key, value in line.items() if key not in times} for line in lines]


def assert_same_training(run_folder: Path, other: Path) -> None:
    expected, found = weights(other), weights(run_folder)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert without_times(metrics(run_folder)) == without_times(metrics(other))


def checkpoints(scratch: Path) -> list[Path]:
    return sorted((scratch / "checkpoints").glob("[0-9]*.pt"))


def last_saved_step(scratch: Path) -> int:
    return max((int(path.stem) for path in checkpoints(scratch)), default=0)


def stop_after_one_step(start: Callable[..., None], **options: float | str) -> None:
    with pytest.raises(TrainingInterruptedError):
        start(time_budget_s=0.0, **options)


@pytest.fixture(scope="module")
def processes() -> multiprocessing.context.ForkServerContext:
    """Starts processes in which the slow imports are already done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["knowcap.training.train"])
    return context


def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(
    processes, corpus, published, tmp_path
):
    scratch, generator = tmp_path / "scratch", random.Random(0)
    num_killed = 0
    while not (tmp_path / "run" / "DONE").exists():
        interval_s = 0.0 if num_killed < 2 else generator.choice([0.0, 0.01])
        process = processes.Process(
            target=train,
            args=(RUN, corpus, tmp_path / "run", scratch),
            kwargs={"checkpoint_interval_s": interval_s},
        )
        process.start()
        goal = last_saved_step(scratch) + generator.randint(1, 60)
        while process.is_alive() and (num_killed == 5 or last_saved_step(scratch) < goal):
            time.sleep(0.001)
        process.kill()
        process.join()
        num_killed += process.exitcode != 0
    assert num_killed >= 2
    assert_same_training(tmp_path / "run", published)
    assert read_json(tmp_path / "run" / "timing.json")["num_resumed"] >= 2


def test_a_checkpoint_is_saved_when_the_time_budget_is_spent(start, tmp_path):
    stop_after_one_step(start)
    assert last_saved_step(tmp_path / "scratch") == 1
    assert not (tmp_path / "run").exists()


def test_every_attempt_makes_progress_however_small_its_budget(start, tmp_path):
    for num_attempts in (1, 2, 3):
        stop_after_one_step(start)
        assert last_saved_step(tmp_path / "scratch") == num_attempts


def test_a_training_resumes_after_its_time_budget(start, published, tmp_path):
    stop_after_one_step(start)
    start()
    assert_same_training(tmp_path / "run", published)


@pytest.mark.parametrize("attempts", [("cc", "none"), ("none", "cc")])
def test_a_training_resumes_on_a_machine_with_another_compiler(
    start, published, tmp_path, monkeypatch, attempts
):
    """Without a compiler the stacked engine goes on from a checkpoint of the C engine."""
    if not is_supported(RUN, 100, torch.device("cpu")):
        pytest.skip("no C compiler")
    for compiler in attempts:
        with monkeypatch.context() as patch:
            if compiler == "none":
                patch.setenv("CC", "no-such-compiler")
            c_extension.load_c_extension.cache_clear()
            try:
                start() if compiler == attempts[-1] else stop_after_one_step(start)
            finally:
                c_extension.load_c_extension.cache_clear()
    names = {"cc": "simd", "none": "stacked"}
    origin = read_json(tmp_path / "run" / "provenance.json")
    assert [each["name"] for each in origin["engines"]] == [names[each] for each in attempts]
    for name, value in weights(published).items():
        torch.testing.assert_close(weights(tmp_path / "run")[name], value, rtol=0, atol=1e-4)


def test_metrics_after_the_last_checkpoint_do_not_stop_a_later_resume(start, published, tmp_path):
    stop_after_one_step(start)
    with (tmp_path / "scratch" / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 2, "of": "an attempt that was killed after this step"}\n')
    stop_after_one_step(start)
    start()
    assert_same_training(tmp_path / "run", published)


def test_a_truncated_checkpoint_falls_back_to_the_one_before(start, published, tmp_path, caplog):
    stop_after_one_step(start)
    stop_after_one_step(start)
    newest = checkpoints(tmp_path / "scratch")[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    start()
    assert "damaged" in caplog.text
    assert read_json(tmp_path / "run" / "timing.json")["num_resumed"] == 1
    assert_same_training(tmp_path / "run", published)


def test_a_checkpoint_with_a_bad_sector_falls_back_to_the_one_before(start, published, tmp_path):
    stop_after_one_step(start)
    stop_after_one_step(start)
    newest = checkpoints(tmp_path / "scratch")[-1]
    content = bytearray(newest.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 512] = bytes(512)
    newest.write_bytes(content)
    start()
    assert_same_training(tmp_path / "run", published)


def test_a_training_without_a_whole_checkpoint_starts_again(start, published, tmp_path):
    stop_after_one_step(start)
    for path in checkpoints(tmp_path / "scratch"):
        path.write_bytes(b"")
    start()
    assert_same_training(tmp_path / "run", published)


def test_a_checkpoint_of_another_run_is_refused(start):
    stop_after_one_step(start)
    with pytest.raises(UserError, match="belongs to another run"):
        start(tiny_run(optimization__weight_decay=0.5))


def test_a_checkpoint_of_other_code_is_refused(start):
    stop_after_one_step(start, code_digest="before")
    with pytest.raises(UserError, match="another version of the code"):
        start(code_digest="after")


def test_missing_metrics_of_a_checkpoint_are_an_error(start, tmp_path):
    stop_after_one_step(start)
    (tmp_path / "scratch" / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="not as at the last checkpoint"):
        start()


def test_a_second_job_waits_for_the_first_until_its_time_budget_is_spent(start, tmp_path):
    spent = pytest.raises(TrainingInterruptedError, match="held by")
    with acquire(tmp_path / "scratch" / "lock"), spent:
        start(time_budget_s=0.01)
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == []


def test_a_second_job_keeps_the_run_that_the_first_has_published(start, published, tmp_path):
    with ThreadPoolExecutor(1) as pool, acquire(tmp_path / "scratch" / "lock"):
        second = pool.submit(start)
        shutil.copytree(published, tmp_path / "run")
    second.result(timeout=60)
    for path in published.iterdir():
        assert (tmp_path / "run" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["model.pt", "run.json", "DONE"])
def test_a_damaged_run_is_trained_again(start, published, tmp_path, name):
    shutil.copytree(published, tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(b"{")
    start()
    assert_same_training(tmp_path / "run", published)
    assert read_json(tmp_path / "run" / "DONE")["files"].keys() == set(FILES)


def test_another_run_in_the_folder_is_refused_and_kept(start, published, tmp_path):
    shutil.copytree(published, tmp_path / "run")
    with pytest.raises(UserError, match="contains another run; choose another output folder"):
        start(tiny_run(optimization__exposures=1))
    for path in published.iterdir():
        assert (tmp_path / "run" / path.name).read_bytes() == path.read_bytes()


def test_a_run_that_cannot_be_read_is_not_trained_over(start, published, tmp_path, monkeypatch):
    shutil.copytree(published, tmp_path / "run")
    opened = Path.open

    def fail(self: Path, *arguments: object, **options: object) -> object:
        if self.name == "model.pt":
            raise OSError(errno.EIO, "Input/output error", str(self))
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(UserError, match=r"model\.pt: Input/output error \(EIO\)"):
        start()
    assert (tmp_path / "run" / "DONE").exists()


def test_a_foreign_file_in_the_output_folder_is_refused_before_training(start, tmp_path):
    notes = tmp_path / "run" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("notes")
    with pytest.raises(UserError, match=re.escape(str(notes))):
        start()
    assert notes.read_text() == "notes"
    assert not (tmp_path / "scratch").exists()


def test_measurements_in_the_output_folder_are_kept(start, tmp_path):
    losses = tmp_path / "run" / "trained-0123456789ab" / "losses.nc"
    losses.parent.mkdir(parents=True)
    losses.write_text("losses")
    start()
    assert losses.read_text() == "losses"


def test_a_window_shorter_than_a_biography_is_refused(start, corpus):
    longest = load_corpus(corpus).longest_biography
    with pytest.raises(UserError, match=rf"seq_length: {longest - 1} .* has up to {longest}"):
        start(tiny_run(optimization__seq_length=longest - 1))


def test_a_window_as_long_as_a_biography_is_allowed(start, corpus, tmp_path):
    longest = load_corpus(corpus).longest_biography
    start(tiny_run(optimization__seq_length=longest, optimization__exposures=1))
    assert (tmp_path / "run" / "DONE").exists()


def test_the_corpus_of_another_run_is_refused(start):
    knowledge = {**RUN.model_dump()["corpus"]["knowledge"], "seed": 1}
    with pytest.raises(UserError, match="not the corpus of this run"):
        start(tiny_run(corpus__knowledge=knowledge))


DIVERGING = {"optimization__clip_grad": 1e30, "replicates__seeds": [0]}


def test_a_diverged_replicate_is_recorded_and_changes_no_other(start, corpus, tmp_path, caplog):
    start(tiny_run(replicates__lr=[1e-3, 1e30], **DIVERGING))
    (diverged,) = read_json(tmp_path / "run" / "run.json")["diverged"]
    assert (diverged["seed"], diverged["lr"]) == (0, 1e30)
    assert "lr 1e+30" in diverged["likely_causes"]
    lines = {line["iteration"]: line for line in metrics(tmp_path / "run")}
    assert None in (lines[diverged["iteration"]][name][1] for name in ("loss_nats", "grad_norm"))
    assert len(lines) == read_json(tmp_path / "run" / "run.json")["train_iters"]
    assert "the replicate of seed 0 and lr 1e+30 diverged" in caplog.text
    healthy = tiny_run(replicates__lr=[1e-3, 2e-3], **DIVERGING)
    train(healthy, corpus, tmp_path / "healthy", tmp_path / "healthy-scratch")
    assert read_json(tmp_path / "healthy" / "run.json")["diverged"] == []
    expected = weights(tmp_path / "healthy")
    for name, value in weights(tmp_path / "run").items():
        assert torch.equal(value[0], expected[name][0]), name


def test_a_training_ends_when_all_replicates_have_diverged(start, tmp_path):
    run = tiny_run(replicates__lr=[1e29, 1e30], **DIVERGING)
    stop_after_one_step(start, run=run)
    start(run)
    facts = read_json(tmp_path / "run" / "run.json")
    assert [each["lr"] for each in facts["diverged"]] == [1e29, 1e30]
    last = metrics(tmp_path / "run")[-1]["iteration"]
    assert last == max(each["iteration"] for each in facts["diverged"]) < facts["train_iters"]


@pytest.mark.parametrize(
    ("changes", "causes"),
    [
        ({"architecture__init_method_std": 1e30}, "init_method_std 1e+30"),
        (
            {"optimization__weight_decay": 1e6},
            "weight_decay 1e+06 (lr x weight_decay above 2)",
        ),
        ({"replicates__lr": [5.0], "optimization__clip_grad": 1e9}, "lr 5, clip_grad 1e+09"),
        ({}, "none stands out; lr 0.001 first"),
    ],
)
def test_likely_causes_of_a_divergence_are_the_unusual_settings(changes, causes):
    run = tiny_run(**changes)
    assert likely_causes(run, run.replicates.lr[0]) == causes


def test_the_manifest_has_the_size_and_digest_of_each_file(published):
    manifest = read_json(published / "DONE")["files"]
    assert manifest == {
        name: {
            "bytes": (published / name).stat().st_size,
            "sha256": hashlib.sha256((published / name).read_bytes()).hexdigest(),
        }
        for name in FILES
    }
    assert {path.name for path in published.iterdir()} == {*FILES, "DONE"}


def test_nothing_but_an_empty_folder_is_left_in_scratch(published):
    assert list((published.parent / "scratch").iterdir()) == []


def test_the_run_file_describes_the_run(published, corpus):
    facts = read_json(published / "run.json")
    assert Run.model_validate(facts["record"]) == RUN
    assert facts["corpus"] == corpus.name
    assert facts["num_params"]["total"] == sum(
        value[0].numel() for value in weights(published).values()
    )
    exact = [load_corpus(corpus).stream(20, seed).num_tokens() for seed, _ in RUN.replicates.pairs]
    assert facts["num_tokens"] == exact
    assert facts["train_iters"] == math.ceil((max(exact) - 1) / (16 * 4))


def test_metrics_are_json_lines_of_every_replicate(published):
    lines = metrics(published)
    train_iters = read_json(published / "run.json")["train_iters"]
    assert [line["iteration"] for line in lines] == list(range(1, train_iters + 1))
    for line in lines:
        assert all(len(line[name]) == 4 for name in ("loss_nats", "lr", "grad_norm"))
        assert line["tokens"] == 64 * line["iteration"]
    assert [line["elapsed_s"] for line in lines] == sorted(line["elapsed_s"] for line in lines)


def test_the_first_loss_is_that_of_a_uniform_guess(published, corpus):
    # Initial losses of this narrow model are within a few hundredths of a nat of it.
    uniform = math.log(load_corpus(corpus).vocab_size)
    np.testing.assert_allclose(metrics(published)[0]["loss_nats"], uniform, atol=0.05)


def test_training_lowers_every_loss(published):
    first, last = (np.array(metrics(published)[line]["loss_nats"]) for line in (0, -1))
    assert (last < first).all()


def test_replicates_of_one_seed_start_equal_and_differ_by_their_learning_rates(published):
    first, last = metrics(published)[0]["loss_nats"], metrics(published)[-1]["loss_nats"]
    (seed_0, _), _, (same_seed, _), _ = RUN.replicates.pairs
    assert seed_0 == same_seed
    assert first[0] == first[2]
    assert last[0] != last[2]


def test_provenance_names_code_libraries_and_machine(published):
    origin = read_json(published / "provenance.json")
    assert origin["libraries"]["torch"] == torch.__version__
    assert origin["start"] <= origin["end"]
    (engine,) = origin["engines"]
    is_simd = is_supported(RUN, 100, torch.device("cpu"))
    assert engine["name"] == ("simd" if is_simd else "stacked")
    assert origin["command"]


def test_a_stream_of_bounded_length_is_read_completely_and_ends_in_empty_steps(
    tmp_path, monkeypatch
):
    run = tiny_run(
        corpus__knowledge={"kind": "bioS", "num_people": 10, "seed": 0},
        corpus__tokenizer="GPT2",
        optimization__exposures=2,
        optimization__seq_length=256,
        optimization__global_batch_size=1,
    )
    write_corpus(run.corpus, tmp_path / "corpus")
    counted = load_corpus(tmp_path / "corpus").stream(2, 0).length(256).num_windows
    monkeypatch.setattr(token_stream, "MAX_COUNTED_DOCUMENTS", 0)
    train(run, tmp_path / "corpus", tmp_path / "run", tmp_path / "scratch")
    losses = np.array([line["loss_nats"] for line in metrics(tmp_path / "run")])
    assert len(losses) > counted
    assert (losses[: counted - 1] > 0).all()
    assert (losses[counted + 1 :] == 0).all()
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run").values())


def test_progress_is_written_to_the_scratch_folder(start, tmp_path):
    stop_after_one_step(start)
    progress = read_json(tmp_path / "scratch" / "progress.json")
    assert progress.keys() >= {"iteration", "train_iters", "loss_nats", "tokens_per_s"}


def test_twenty_steps_have_the_recorded_losses(tmp_path):
    """After an intended change of results: python -m tests.golden, and a changelog entry."""
    expected = [json.loads(line) for line in TRACE.read_text().splitlines()]
    found = [json.loads(line) for line in trace(tmp_path).splitlines()]
    assert len(found) == len(expected) == 20
    for name in ("loss_nats", "grad_norm", "lr"):
        np.testing.assert_allclose(
            [line[name] for line in found],
            [line[name] for line in expected],
            rtol=1e-6,  # A few float32 roundings: processors sum in different orders.
        )
