"""Every kind of artefact, damaged in every way: an error that names it, and never a result."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from knowcap.artifacts import c_extension, files, manifest
from knowcap.capacity.figures import write_figures
from knowcap.capacity.laws import write_laws
from knowcap.capacity.measurement_files import MeasurementFiles, read_measurement
from knowcap.capacity.report import write_report
from knowcap.capacity.table import ExperimentLabel, write_table
from knowcap.config import Evaluation
from knowcap.data.corpus import load_corpus
from knowcap.data.corpus_writer import write_corpus
from knowcap.errors import UserError
from knowcap.evaluation.evaluate import evaluate, trained_weights
from knowcap.training import checkpoint
from knowcap.training.run_dir import FILES
from knowcap.training.train import train
from tests.campaign import number
from tests.support.tiny import tiny_run

NUM_TRIES = number(quick=12, full=500)
RUN = tiny_run(optimization__exposures=100)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One artefact of every kind, to copy and not to edit."""
    folder = tmp_path_factory.mktemp("artefacts")
    write_corpus(RUN.corpus, folder / "corpus")
    train(RUN, folder / "corpus", folder / "run", folder / "scratch")
    losses = folder / "run" / "trained-0123456789ab" / "losses.nc"
    evaluation = Evaluation(num_people=9, seed=0)
    evaluate(
        folder / "run",
        folder / "corpus",
        "trained",
        evaluation,
        losses,
        backend=trained_weights,
    )
    measurement = measurement_in(folder)
    table, laws = folder / "study" / "capacity.nc", folder / "study" / "laws.nc"
    labels = {"base": ExperimentLabel(laws=(1,), scale="tiny")}
    write_table([measurement], labels, table, table.with_name("index.csv"))
    write_laws(table, laws, laws.with_suffix(".md"))
    write_figures(table, laws, folder / "figures")
    for iteration in (1, 2):
        state = {"identity": "x", "iteration": iteration, "engine": {"flat": torch.arange(99.0)}}
        checkpoint.save(state, folder / "checkpoints")
    return folder


def measurement_in(folder: Path) -> MeasurementFiles:
    losses = folder / "run" / "trained-0123456789ab" / "losses.nc"
    return MeasurementFiles(folder / "run", losses, folder / "corpus", ("base",))


def read_report(folder: Path) -> None:
    study = folder / "study"
    paths = (study / "capacity.nc", study / "laws.nc", folder / "figures")
    write_report(*paths, {}, folder / "report.html")


def read_checkpoint(folder: Path) -> None:
    state = checkpoint.load("x", folder / "checkpoints", CPU)
    assert state is not None
    assert torch.equal(state["engine"]["flat"], torch.arange(99.0))
    if state["iteration"] == 1:
        raise UserError("000000000002.pt: the older one is used")


READERS: dict[str, Callable[[Path], object]] = {
    "corpus/corpus.json": lambda folder: load_corpus(folder / "corpus"),
    "corpus/tokenizer.json": lambda folder: load_corpus(folder / "corpus"),
    "corpus/DONE": lambda folder: load_corpus(folder / "corpus"),
    **{f"run/{name}": lambda folder: manifest.verify(folder / "run") for name in (*FILES, "DONE")},
    "run/trained-0123456789ab/losses.nc": lambda folder: read_measurement(measurement_in(folder)),
    "study/capacity.nc": read_report,
    "study/laws.nc": read_report,
    "figures/figures.json": read_report,
    "figures/DONE": read_report,
    "checkpoints/000000000002.pt": read_checkpoint,
}
"""The function that reads an artefact, by path."""


def damage(content: bytes, generator: random.Random) -> tuple[str, bytes]:
    """Return a kind of damage and the damaged content."""
    kind = generator.choice(("flipped", "flipped", "truncated", "emptied", "overwritten", "longer"))
    position = generator.randrange(len(content))
    if kind == "flipped":
        flipped = content[position] ^ 1 << generator.randrange(8)
        return kind, content[:position] + bytes([flipped]) + content[position + 1 :]
    if kind == "truncated":
        return kind, content[:position]
    if kind == "overwritten":
        block = bytes(min(512, len(content) - position))
        return kind, content[:position] + block + content[position + len(block) :]
    return kind, b"" if kind == "emptied" else content + bytes(generator.randrange(1, 99))


def message_of(read: Callable[[Path], object], folder: Path) -> str:
    """Return the message with which a reader refuses a file; empty if it accepts it."""
    try:
        read(folder)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", READERS)
def test_damage_is_noticed_or_changes_nothing(artefacts: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "artefacts"
    shutil.copytree(artefacts, folder)
    path, generator, outcomes = folder / name, random.Random(name), Counter[str]()
    content = path.read_bytes()
    for _ in range(NUM_TRIES):
        kind, damaged = damage(content, generator)
        if damaged == content:
            continue
        path.write_bytes(damaged)
        message = message_of(READERS[name], folder)
        if message:
            assert path.name in message, (kind, message)
            assert "\n" not in message
            outcomes[f"{kind}: named"] += 1
        else:
            # White space in a manifest, for example. Its digests are then the same.
            assert path.name == "DONE", f"{kind}: used"
            assert files.read_json(path) == files.read_json(artefacts / name)
            outcomes[f"{kind}: harmless"] += 1
        path.write_bytes(content)
    print(f"{name}: {dict(sorted(outcomes.items()))}")


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("corpus/tokenizer.json", "corpus/corpus.json"),
        ("run/model.pt", "checkpoints/000000000002.pt"),
        ("run/run.json", "run/timing.json"),
        ("study/capacity.nc", "study/laws.nc"),
        ("run/trained-0123456789ab/losses.nc", "study/laws.nc"),
    ],
)
def test_a_swapped_file_is_noticed(artefacts: Path, tmp_path: Path, name: str, other: str) -> None:
    folder = tmp_path / "artefacts"
    shutil.copytree(artefacts, folder)
    shutil.copy(artefacts / other, folder / name)
    assert Path(name).name in message_of(READERS[name], folder)


def test_a_damaged_library_is_never_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = tmp_path / "sum.c"
    source.write_text("int sum(int x) { return x + 1; }")
    generator = random.Random(0)
    for _ in range(number(quick=3, full=100)):
        c_extension.load_c_extension.cache_clear()
        loaded = c_extension.load_c_extension(source)
        assert loaded is not None
        assert loaded.sum(3) == 4
        (library,) = tmp_path.glob("knowcap/*.so")
        _, damaged = damage(library.read_bytes(), generator)
        library.unlink()  # this process has loaded the old file
        library.write_bytes(damaged)
    c_extension.load_c_extension.cache_clear()
