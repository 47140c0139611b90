"""Commands about texts and models: what `--corpus` can be, and errors of options."""

from pathlib import Path

import pytest

from knowcap.cli import main

RECORD = """\
knowledge:
  {kind: bioD, num_people: 20, num_attributes: 2, num_chunks: 1, diversity: 8, chunk_length: 1,
   alphabet_size: 8, layout: compact, seed: 0}
tokenizer: word
"""


def run_command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    """Run a command; return its exit code, its output and its error output."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code, *capsys.readouterr()


@pytest.fixture(autouse=True)
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("corpus.yaml").write_text(RECORD)
    return tmp_path / "corpus.yaml"


def write(capsys: pytest.CaptureFixture[str], corpus: object, output: object) -> str:
    code, out, errors = run_command(
        capsys, "text", "--corpus", corpus, "--output", output, "--exposures", 2
    )
    assert code == 0, errors
    return out


def test_a_corpus_is_given_as_a_record_a_folder_or_by_its_name(capsys):
    assert write(capsys, "corpus.yaml", "first") == ("first: 40 biographies, 321 tokens of 11\n")
    Path("results/corpora").mkdir(parents=True)
    Path("first/corpus").rename("results/corpora/bioD-N20-0123456789ab")
    write(capsys, "results/corpora/bioD-N20-0123456789ab", "second")
    write(capsys, "bioD-N20-0123456789ab", "third")
    write(capsys, "bioD-N20", "fourth")
    texts = {(Path(name) / "biographies.jsonl").read_text() for name in ("second", "third")}
    assert texts == {Path("first/biographies.jsonl").read_text()}


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ("absent", "--corpus: absent: no such folder or file, and results/corpora has no corpus"),
        ("bioD", "--corpus: bioD: several corpora have this name: bioD-N1, bioD-N2"),
        ("notes.txt", "notes.txt"),
        ("bad.yaml", "num_people"),
        ("empty", "empty/DONE: missing, empty is incomplete"),
    ],
)
def test_another_corpus_is_one_line_and_nothing_is_written(capsys, corpus, message):
    for name in ("bioD-N1", "bioD-N2"):
        (Path("results/corpora") / name).mkdir(parents=True)
    Path("notes.txt").write_text("mine")
    Path("bad.yaml").write_text(RECORD.replace("20", "-3"))
    Path("empty").mkdir()
    code, _, errors = run_command(capsys, "text", "--corpus", corpus, "--output", "out")
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("option", "value"), [("--exposures", "0"), ("--exposures", "two"), ("--seed", "-1")]
)
def test_numbers_that_are_not_allowed_are_refused(capsys, option, value):
    code, _, errors = run_command(
        capsys, "text", "--corpus", "corpus.yaml", "--output", "out", option, value
    )
    assert code == 2
    assert option in errors
    assert not Path("out").exists()


def test_a_model_is_measured_on_a_folder_not_on_a_record(capsys):
    code, _, errors = run_command(
        capsys, "measure", "--model", ".", "--corpus", "corpus.yaml", "--output", "out"
    )
    assert code == 2
    assert errors == ("knowcap: --corpus: corpus.yaml: a folder of `knowcap text` is expected\n")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--figure", "x.svg"], "--figure: needs --study-table"),
        (["--figure", "x.bmp"], "--figure: x.bmp is not allowed; it ends in .svg, .png, .pdf"),
        (["--study-table", "capacity.nc"], "--exposures: missing"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_the_model_is_loaded(capsys, more, message):
    write(capsys, "corpus.yaml", "text")
    code, _, errors = run_command(
        capsys, "measure", "--model", ".", "--corpus", "text", "--output", "out", *more
    )
    assert code == 2
    assert message in errors
