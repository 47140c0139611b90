"""How many processes train is a profile's matter: it renames nothing, and is checked at once."""


def test_processes_change_no_name(finished):
    assert finished.planned("--set-resources", "train:processes=2") == {}


def test_a_layout_that_does_not_divide_a_model_is_refused_before_any_job(checkout):
    done = checkout.snakemake(
        "-n", "--set-resources", "train:processes=3", "train:tensor_parallel=3"
    )
    assert done.returncode == 2
    assert "train: --tensor-parallel: 3 does not divide 1 heads; allowed are 1\n" in done.stderr


def test_gpus_that_nodes_cannot_share_evenly_are_refused(checkout):
    done = checkout.snakemake("-n", "--set-resources", "train:nodes=2", "train:gpu=3")
    assert done.returncode == 2
    assert "train: --gpus: 3 cannot be divided evenly among 2 nodes" in done.stderr


def test_what_is_asked_reaches_the_command(checkout):
    shown = checkout.snakemake("-n", "-p", "--set-resources", "train:nodes=2", "train:gpu=4")
    assert shown.returncode == 0, shown.stderr
    assert "--nodes 2 --gpus 4 " in shown.stdout
