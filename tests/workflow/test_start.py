"""Ways to start the workflow, and mistakes that it refuses in one line before any job."""

from __future__ import annotations

import base64
import fcntl
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from knowcap.artifacts import manifest
from knowcap.artifacts.identity import corpus_name, run_name
from knowcap.config.study import load_study
from tests.workflow.conftest import Checkout
from tests.workflow.test_plan import CORPUS, TABLE

pytestmark = pytest.mark.workflow


def test_another_study_is_chosen_by_its_file(checkout: Checkout) -> None:
    text = checkout.read("config/config.yaml").replace("study: tiny", "study: other")
    checkout.write("config/other.yaml", text[: text.index("  few:")])
    planned = checkout.planned("--configfile", "config/other.yaml")
    assert planned == TABLE + Counter(corpus=3, train=5, evaluate=5)


def test_each_mistake_in_the_study_is_one_line(checkout: Checkout) -> None:
    checkout.edit("config/config.yaml", "clip_grad: 1.0", "clip_grad: on")
    checkout.edit("config/config.yaml", "laws: [4]", "laws: [1:30]")
    done = checkout.snakemake("-n")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "config/config.yaml:35: experiments.many.run.optimization.clip_grad: "
        "'on' is not allowed: a number is required\n"
        "config/config.yaml:49: experiments.few.laws.0: "
        "'1:30' is not allowed: an integer is required\n"
    )


def test_a_folder_of_results_that_cannot_be_written_is_refused_before_any_job(
    checkout: Checkout,
) -> None:
    checkout.edit("config/config.yaml", "results: results", "results: /proc/kc")
    assert checkout.planned() == CORPUS
    done = checkout.snakemake("-c1")
    assert done.returncode == 2
    line = "/proc/kc: cannot be written: No such file or directory"
    assert done.stderr.splitlines()[-1] == line


def contained(checkout: Checkout, **files: str) -> None:
    """Let the checkout read the cgroup of a container with these files."""
    checkout.write("root/proc/self/cgroup", "0::/\n")
    for name, text in files.items():
        checkout.write(f"root/sys/fs/cgroup/{name.replace('_', '.')}", f"{text}\n")
    path = "src/knowcap/planning/machine_limits.py"
    checkout.edit(path, 'ROOT = Path("/")', f'ROOT = Path("{checkout.folder}/root")')


def test_the_cpu_quota_of_a_container_limits_the_cores(checkout: Checkout) -> None:
    contained(checkout, cpu_max="250000 100000")
    done = checkout.snakemake("-c8", "partial")  # there is no measurement yet
    assert "cores: 3 instead of 8, the CPU quota of this container" in done.stderr
    assert "Provided cores: 3" in done.stderr
    assert "Provided cores: 2" in checkout.snakemake("-c2", "partial").stderr


@pytest.mark.parametrize(
    ("options", "megabytes", "together"), [((), 1080, 2), (("--resources", "mem_mb=300"), 300, 1)]
)
def test_memory_limits_the_trainings_at_a_time(
    checkout: Checkout, options: tuple[str, ...], megabytes: int, together: int
) -> None:
    contained(checkout, memory_max="1200000000")
    runs = load_study(checkout.folder / "config" / "config.yaml").runs()[:2]
    targets = [f"results/runs/{run_name(run)}/DONE" for run in runs]
    done = checkout.snakemake("-c2", *options, "--", *targets)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed  # a training that needs more than the limit runs alone
    assert re.search(rf"Provided resources: mem_mb=.*\b{megabytes}\b", printed)
    # The corpus is made alone.
    assert ("Execute 2 jobs..." in printed) is (together == 2)


def test_a_training_that_is_longer_than_all_others_gets_all_cores(checkout: Checkout) -> None:
    long_run = "{optimization.exposures: 20000, optimization.global_batch_size: 256}"
    checkout.edit("config/config.yaml", "{optimization.exposures: 2}", long_run)

    def threads(*options: str) -> Counter[str]:
        printed = checkout.snakemake("-n", "--printshellcmds", *options).stdout
        return Counter(re.findall(r"--scratch \S+ --threads (\d+)", printed))

    assert threads("-c2") == {"1": 5, "2": 1}
    assert threads("-c2", "--set-threads", "train=1") == {"1": 6}


def test_a_dry_run_is_short(checkout: Checkout) -> None:
    checkout.copy("profiles/default/config.yaml")
    done = checkout.snakemake("-n")
    assert done.returncode == 0
    # A line for the time and a line for the job; no list of inputs.
    lines = done.stdout.splitlines()
    assert sum(bool(re.match(r"Job \d+: ", line)) for line in lines) == sum(CORPUS.values()) + 1
    assert "Job 0: results of the study are in results/tiny" in lines
    assert max(map(len, lines)) < 120
    assert "Reason:" not in done.stdout


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ("--config", "study=other"),
            "--config: study: not supported; edit the study file (--configfile)",
        ),
        (
            ("--configfile", "config/config.yaml", "config/other.yaml"),
            "--configfile: one study file is allowed, not several",
        ),
        (
            ("--configfile", "config/other.yaml", "--configfile", "config/config.yaml"),
            "--configfile: one study file is allowed, not several",
        ),
    ],
)
def test_options_that_the_study_ignores_are_refused(
    checkout: Checkout, options: tuple[str, ...], line: str
) -> None:
    checkout.write("config/other.yaml", checkout.read("config/config.yaml"))
    done = checkout.snakemake("-n", *options)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == line


def test_the_snakefile_runs_from_another_folder(
    checkout: Checkout, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    snakefile = str(checkout.folder / "Snakefile")
    assert checkout.planned("-s", snakefile, folder=elsewhere) == CORPUS


MODULE = """\
module knowcap:
    snakefile: "{snakefile}"
    config: {{"study_file": "mine.yaml"}}


use rule * from knowcap as knowcap_*


rule paper:
    default_target: True
    input:
        rules.knowcap_all.input,
    output:
        "paper.pdf",
    shell:
        "touch {{output}}"
"""


def test_another_workflow_includes_this_one_as_a_module(
    checkout: Checkout, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.move(checkout.folder / "config/config.yaml", elsewhere / "mine.yaml")
    text = MODULE.format(snakefile=checkout.folder / "Snakefile")
    (elsewhere / "Snakefile").write_text(text)
    planned = checkout.planned("--config", "title=Knowledge", folder=elsewhere)
    expected = {f"knowcap_{rule}": number for rule, number in CORPUS.items()}
    assert planned == Counter(expected, paper=1)


SNAKEDEPLOY = """\
from snakemake.utils import min_version


min_version("6.10.0")


configfile: "config/config.yaml"


# declare {repository} as a module
module knowcap:
    snakefile:
        "{snakefile}"
    config:
        config


# use all rules from {repository}
use rule * from knowcap
"""
"""The workflow/Snakefile that snakedeploy 0.17 writes."""


def test_snakedeploy_makes_a_workflow_of_a_git_repository(
    checkout: Checkout, tmp_path_factory: pytest.TempPathFactory
) -> None:
    repository = checkout.folder
    for command in (
        ("init", "-q"),
        ("add", "."),
        ("-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-qm", "first"),
        ("tag", "v1"),
    ):
        subprocess.run(["git", *command], cwd=repository, check=True)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(repository / "config", elsewhere / "config")
    (elsewhere / "workflow").mkdir()
    (elsewhere / "workflow" / "Snakefile").write_text(
        SNAKEDEPLOY.format(
            repository=repository, snakefile=f"git+file://{repository}/workflow/Snakefile@v1"
        )
    )
    assert checkout.planned(folder=elsewhere) == CORPUS
    text = checkout.read("config/config.yaml").replace("study: tiny", "study: other")
    (elsewhere / "config" / "other.yaml").write_text(text[: text.index("  few:")])
    planned = checkout.planned("--configfile", "config/other.yaml", folder=elsewhere)
    assert planned == TABLE + Counter(corpus=3, train=5, evaluate=5)
    assert not (elsewhere / "results").exists()


def test_another_workflow_uses_some_of_the_rules(
    checkout: Checkout, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.move(checkout.folder / "config/config.yaml", elsewhere / "mine.yaml")
    corpus = corpus_name(load_study(elsewhere / "mine.yaml").runs()[0].corpus)
    text = MODULE.format(snakefile=checkout.folder / "Snakefile")
    text = text.replace("use rule * from knowcap as knowcap_*", "use rule corpus from knowcap")
    target = f'"results/corpora/{corpus}/corpus.json"'
    (elsewhere / "Snakefile").write_text(text.replace("rules.knowcap_all.input", target))
    assert checkout.planned(folder=elsewhere) == Counter(corpus=1, paper=1)


def test_a_module_with_another_key_than_study_file_is_refused(
    checkout: Checkout, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    text = MODULE.format(snakefile=checkout.folder / "Snakefile")
    (elsewhere / "Snakefile").write_text(text.replace("study_file", "study"))
    done = checkout.snakemake("-n", folder=elsewhere)
    assert done.returncode == 2
    line = "config: study_file: missing; a module has no other key"
    assert done.stderr.splitlines()[-1] == line


def test_a_batch_is_a_part_of_the_runs(checkout: Checkout) -> None:
    planned = checkout.planned("table", "--batch", "table=1/2")
    assert 0 < planned["train"] < 6
    assert planned["table"] == 0


def test_jobs_run_in_the_python_of_snakemake(checkout: Checkout) -> None:
    done = checkout.snakemake("-n", "--printshellcmds", "--forceall")
    commands = [line for line in done.stdout.splitlines() if "-m knowcap" in line]
    assert len(commands) == sum(CORPUS.values())
    assert all(f"{sys.executable} -m knowcap" in line for line in commands)


def test_no_rule_has_retries(checkout: Checkout) -> None:
    # On a cluster every attempt of such a rule repeats all attempts inside one job.
    for path in checkout.folder.glob("rules/*.smk"):
        assert "retries:" not in path.read_text(), path


def test_partial_results_start_no_training_and_need_no_lock(checkout: Checkout) -> None:
    assert checkout.planned("partial") == Counter(partial=1)
    checkout.write(".snakemake/locks/0.output.lock", "results/tiny/.published-0\n")
    outputs = checkout.snakemake("--summary", "partial").stdout
    checkout.write(".snakemake/locks/1.output.lock", outputs)
    done = checkout.snakemake("-c1", "partial")
    assert done.returncode == 1
    log = checkout.read("results/logs/tiny/partial.log")
    assert log == "knowcap: results: no measurement of study 'tiny' exists yet\n"


@pytest.fixture
def path_without_slurm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with a shell and without Slurm."""
    folder = tmp_path_factory.mktemp("programs")
    for name in ("bash", "sh", "which"):
        program = shutil.which(name)
        assert program is not None
        (folder / name).symlink_to(program)
    return str(folder)


def test_the_slurm_profile_is_refused_where_there_is_no_slurm(
    checkout: Checkout, path_without_slurm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = Path("config/profiles/slurm")
    checkout.copy(f"{profile}/config.yaml")
    monkeypatch.setenv("PATH", path_without_slurm)
    done = checkout.snakemake("--profile", str(profile))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "executor: slurm, but there is no sbatch on this machine; "
        "start Snakemake where jobs are submitted"
    )
    assert not (checkout.folder / "results").exists()
    assert checkout.planned("--profile", str(profile)) == CORPUS


def lock_all_outputs(checkout: Checkout) -> str:
    """Write the lock of a Snakemake that makes every output; return the path of a corpus."""
    outputs = [line.split("\t")[0] for line in checkout.snakemake("--summary").stdout.splitlines()]
    checkout.write(".snakemake/locks/0.output.lock", "\n".join(outputs[1:]))
    return next(path for path in outputs if path.endswith("/corpus.json"))


def test_locks_of_a_killed_snakemake_do_not_stop_the_next_one(checkout: Checkout) -> None:
    corpus = lock_all_outputs(checkout)
    done = checkout.snakemake("-c1", corpus)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (checkout.folder / corpus).exists()


def test_locks_of_a_running_snakemake_are_kept(checkout: Checkout) -> None:
    corpus = lock_all_outputs(checkout)
    with (checkout.folder / ".snakemake" / "knowcap.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        done = checkout.snakemake("-c1", corpus)
    assert done.returncode == 1
    assert "Directory cannot be locked" in done.stdout + done.stderr


def test_outputs_of_a_killed_job_are_complete_and_not_made_again(finished: Checkout) -> None:
    for path in finished.folder.glob("results/runs/*/DONE"):
        name = base64.b64encode(str(path.relative_to(finished.folder)).encode()).decode()
        finished.write(f".snakemake/incomplete/{name}", "{}")
    assert finished.planned() == {}


@pytest.mark.parametrize(
    ("failure", "code"),
    [("__import__('os').kill(__import__('os').getpid(), 9)", 0), ("exit(3)", 1)],
)
def test_a_run_survives_a_failure_after_its_publication(
    checkout: Checkout, failure: str, code: int
) -> None:
    body = "    seconds = {}\n    for precision in precisions:\n"
    checkout.edit("src/knowcap/stages/after_training.py", body, f"    {failure}\n{body}")
    run = run_name(load_study(checkout.folder / "config/config.yaml").runs()[-1])
    done = checkout.snakemake("-c1", f"results/runs/{run}/DONE")
    assert done.returncode == code, done.stdout + done.stderr
    manifest.verify(checkout.folder / "results" / "runs" / run)
