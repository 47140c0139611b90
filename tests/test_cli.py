import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from knowcap.artifacts import identity
from knowcap.cli import GROUPS, _parser, main
from knowcap.commands import option_types
from knowcap.config.study import load_study

COMMANDS = [command.name for commands in GROUPS.values() for command in commands]


def run_command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str]:
    """Run a command; return its exit code and its error output."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code, capsys.readouterr().err


@pytest.fixture
def corpus_record(study_file: Path) -> str:
    return identity.record_json(load_study(study_file).runs()[0].corpus)


@pytest.fixture
def run_record(study_file: Path) -> str:
    return identity.record_json(load_study(study_file).runs()[0])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_has_a_help_text(command: str) -> None:
    (subparsers,) = (each for each in _parser()._actions if isinstance(each.choices, dict))
    parser = subparsers.choices[command]
    assert parser.description
    assert all(action.help for action in parser._actions)


def test_help_lists_every_command_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    for group, commands in GROUPS.items():
        start = lines.index(f"commands {group}:") + 1
        listed = [line.split()[0] for line in lines[start : start + len(commands)]]
        assert listed == [command.name for command in commands]


def test_a_corpus_is_made_from_its_record(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, corpus_record: str
) -> None:
    code, _ = run_command(
        capsys, "corpus", "--record", corpus_record, "--output", tmp_path / "corpus"
    )
    assert code == 0
    facts = json.loads((tmp_path / "corpus" / "corpus.json").read_text())
    assert facts["num_people"] == 20


def test_an_unknown_family_is_one_line_before_training(tmp_path: Path, run_record: str) -> None:
    record = run_record.replace('"family":"GPT2"', '"family":"GPT3"')
    assert record != run_record
    folders = {name: tmp_path / name for name in ("corpus", "output", "scratch")}
    options = [str(text) for name, path in folders.items() for text in (f"--{name}", path)]
    command = [sys.executable, "-m", "knowcap", "train", "--record", record, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    message = "knowcap: --record: architecture.family: 'GPT3' is not one of GPT2,"
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert not any(path.exists() for path in folders.values())


def test_a_record_can_be_read_from_a_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, corpus_record: str
) -> None:
    (tmp_path / "record.json").write_text(corpus_record)
    record = f"@{tmp_path / 'record.json'}"
    code, _ = run_command(capsys, "corpus", "--record", record, "--output", tmp_path / "corpus")
    assert code == 0


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("{", "knowcap: --record: not JSON"),
        ("@absent.json", "knowcap: --record: absent.json: no such file"),
        ('{"tokenizer": "word"}', "knowcap: --record: knowledge: missing"),
        ('{"tokenizer": "word", "tokenizer": 1}', "knowcap: --record: not JSON (tokenizer: dupl"),
        ('{"tokenizer": NaN}', "knowcap: --record: not JSON (NaN is no number of JSON)"),
        ("[" * 100_000, "knowcap: --record: not JSON (nested too deep)"),
        ("1" * 5000, "knowcap: --record: not JSON (Exceeds the limit (4300 digits) for integer"),
        ("[]", "knowcap: --record: [] is not allowed: a mapping of fields is required"),
        ("@/", "knowcap: --record: /: cannot be read: Is a directory"),
        (
            '{"knowledge": {"kind": "bioS", "num_people": 9, "seed": 0}, "tokenizer": "BERT"}',
            "knowcap: --record: tokenizer: 'BERT' is not allowed: input should be 'GPT2',",
        ),
    ],
)
def test_a_bad_record_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, record: str, expected: str
) -> None:
    code, errors = run_command(
        capsys, "corpus", "--record", record, "--output", tmp_path / "corpus"
    )
    assert code == 2
    assert errors.startswith(expected)
    assert errors.count("\n") == 1
    assert not (tmp_path / "corpus").exists()


def test_a_bug_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "closed").open("w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
    with pytest.raises(ValueError, match="closed file"):
        main(["digests"])


@pytest.fixture
def training_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables for which a training would restart its process."""
    from knowcap.training.launch import MALLOC_SETTINGS

    for name, value in {**MALLOC_SETTINGS, "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--threads", "0", "is not an integer from 1 to 99999"),
        ("--threads", "-3", "is not an integer from 1 to 99999"),
        ("--threads", "1e3", "is not an integer from 1 to 99999"),
        ("--threads", "9" * 5000, "is not an integer from 1 to 99999"),
        ("--time-budget-s", "nan", "is not a finite number of at least 0"),
        ("--time-budget-s", "-5", "is not a finite number of at least 0"),
        ("--time-budget-s", "inf", "is not a finite number of at least 0"),
        ("--time-budget-s", "1\n2", "is not a finite number of at least 0"),
        ("--gpus", "-1", "is not an integer from 0 to 99999"),
        ("--gpu-slots", "0", "is not an integer from 1 to 99999"),
        ("--nodes", "0", "is not an integer from 1 to 99999"),
        ("--processes", "-2", "is not an integer from 1 to 99999"),
        ("--pipeline-parallel", "-1", "is not an integer from 0 to 99999"),
        ("--output", "", "'' is not a path"),
        ("--scratch", " ", "' ' is not a path"),
        ("--precisions", "int3", "invalid choice: 'int3' (choose from"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], option: str, value: str, allowed: str
) -> None:
    given = {"--record": "{}", "--corpus": "c", "--output": "o", "--scratch": "s"} | {option: value}
    code, errors = run_command(capsys, "train", *(f"{name}={text}" for name, text in given.items()))
    assert code == 2
    assert errors.startswith(f"knowcap train: argument {option}: ")
    assert allowed in errors
    assert errors.count("\n") == 1
    assert len(errors) < 400


def test_an_unknown_option_names_the_command_that_lists_its_options(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, errors = run_command(capsys, "runs", "config/smoke.yaml", "--study=x")
    assert code == 2
    hint = "(knowcap runs --help lists the options)"
    assert errors == f"knowcap runs: unrecognized arguments: --study=x {hint}\n"


def test_every_command_takes_its_study_as_the_first_argument_without_a_name() -> None:
    (subparsers,) = (each for each in _parser()._actions if isinstance(each.choices, dict))
    actions = {name: parser._actions for name, parser in subparsers.choices.items()}
    takes = {name for name, each in actions.items() if any(a.dest == "study" for a in each)}
    assert takes == {"plan", "runs", "progress", "crate", "readme", "ask", "table", "report"}
    for name in takes:
        first = next(each for each in actions[name] if not each.option_strings)
        assert (first.dest, first.metavar) == ("study", "STUDY"), name
    assert not any("--results" in a.option_strings for each in actions.values() for a in each)


def test_every_number_and_path_of_an_option_is_checked() -> None:
    (subparsers,) = (each for each in _parser()._actions if isinstance(each.choices, dict))
    for parser in subparsers.choices.values():
        for action in parser._actions:
            assert action.type not in (int, float, Path), action.dest
            wrong = (
                ()
                if action.type is None
                else ("",)
                if action.type in (option_types.path, option_types.names)
                else ("nan", "-1")
            )
            for text in wrong:
                with pytest.raises(argparse.ArgumentTypeError):
                    action.type(text)  # type: ignore[operator, misc]


BIOS_FIELDS = ("extra_attributes", "kind", "num_people", "seed")


def test_all_errors_of_a_record_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    record = '{"": [], "knowledge": {"kind": "bioS", "num_people": 0, "se\\ned": 0}}'
    code, errors = run_command(capsys, "corpus", "--record", record, "--output", "unused")
    assert code == 2
    assert errors.splitlines() == [
        "knowcap: --record: '': unknown, allowed are knowledge, mixture, tokenizer",
        f"knowcap: --record: knowledge.'se\\ned': unknown, allowed are {', '.join(BIOS_FIELDS)}",
        "knowcap: --record: knowledge.num_people: 0 is not allowed: at least 1 is required",
        "knowcap: --record: knowledge.seed: missing",
        "knowcap: --record: tokenizer: missing",
    ]


def test_a_run_that_cannot_be_trained_is_refused_before_its_corpus_is_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, run_record: str
) -> None:
    record = run_record.replace('"seq_length":16', '"seq_length":15')
    code, errors = run_command(
        capsys,
        *("train", "--record", record, "--corpus", tmp_path / "absent"),
        *("--output", tmp_path / "run", "--scratch", tmp_path / "scratch"),
    )
    assert code == 2
    assert errors == (
        "knowcap: --record: optimization.seq_length: 15 tokens are too few for the longest "
        "biography of this corpus, which has up to 16\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


@pytest.mark.usefixtures("training_environment")
def test_training_without_a_corpus_is_one_line_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, run_record: str
) -> None:
    code, errors = run_command(
        capsys,
        *("train", "--record", run_record, "--corpus", tmp_path / "absent"),
        *("--output", tmp_path / "run", "--scratch", tmp_path / "scratch"),
    )
    assert code == 2
    folder = tmp_path / "absent"
    assert errors == f"knowcap: {folder}/DONE: missing, {folder} is incomplete\n"
    assert not list(tmp_path.glob("run/*"))


@pytest.mark.usefixtures("training_environment")
def test_training_into_a_folder_with_a_foreign_file_is_refused_and_keeps_the_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, corpus_record: str, run_record: str
) -> None:
    run_command(capsys, "corpus", "--record", corpus_record, "--output", tmp_path / "corpus")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    code, errors = run_command(
        capsys,
        *("train", "--record", run_record, "--corpus", tmp_path / "corpus"),
        *("--output", tmp_path / "run", "--scratch", tmp_path / "scratch"),
    )
    assert code == 2
    assert "notes.txt: not a file of a run" in errors
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_a_truncated_table_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "capacity.nc").write_bytes(b"half")
    code, errors = run_command(
        capsys,
        *("laws", "--capacity", tmp_path / "capacity.nc"),
        *("--output", tmp_path / "laws.nc", "--markdown", tmp_path / "laws.md"),
    )
    assert code == 2
    assert "capacity.nc: damaged, the SHA-256 at its end is missing" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["capacity.nc"]


def test_a_stage_without_a_golden_trace_is_not_accepted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, errors = run_command(capsys, "accept", "report", "--since", "HEAD", "--reason", "none")
    assert code == 2
    assert "report: has no golden trace" in errors


def test_commands_start_without_torch(study_file: Path) -> None:
    program = (
        "import sys, knowcap.cli, knowcap.config.study, knowcap.artifacts.identity; "
        "sys.exit('torch' in sys.modules or 'xarray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], env=os.environ, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("module", ["laws", "figures", "report"])
def test_statsmodels_is_imported_only_where_a_law_is_fitted(module: str) -> None:
    program = f"import knowcap.capacity.{module}, sys; sys.exit('statsmodels' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
