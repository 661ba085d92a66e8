"""A zoo on a real Slurm: a node that dies, a job that is cancelled, one that needs more memory; every file verified."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Project
from slurm_cluster import Cluster
from small_models import write_graph
from text_graphs import linear

pytestmark = pytest.mark.slurm

MODELS = 20
TARGETS = ("onnx", "tflite")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        found.control("start", "4")
        yield found
    finally:
        found.control("stop")


def write_models(folder: Path) -> list[str]:
    """Sources of three formats, all different; their names."""
    import keras

    rng = np.random.default_rng(0)
    names = [f"model{index:02}" for index in range(MODELS)]
    for index, name in enumerate(names):
        if index % 4 == 0:
            keras.utils.set_random_seed(index)
            keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, "tanh")]).save(folder / f"{name}.keras")
        elif index % 4 == 1:
            write_graph(folder / f"{name}.pb", seed=index)
        else:
            (folder / f"{name}.pbtxt").write_text(linear(rng.normal(size=4)))
    return names


def start(project: Project, cluster: Cluster, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), *arguments]
    command += ["--workflow-profile", str(ROOT / "profiles" / "slurm")]
    output = open(project.folder / "run.log", "w")  # noqa: SIM115 - the process owns it
    return subprocess.Popen(command, cwd=project.folder, env=cluster.environment, stdout=output, stderr=output)


def running(cluster: Cluster, run: subprocess.Popen, but: str = "", seconds: float = 300) -> tuple[str, str]:
    """A job of the run that a node works on, not of node `but`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and run.poll() is None:
        for job, node in cluster.jobs():
            if node and node != but:
                return job, node
        time.sleep(0.5)
    raise AssertionError(f"no job ran (exit status of the run: {run.poll()})")


def wait_for_state(cluster: Cluster, job: str, state: str) -> None:
    for _ in range(60):
        if cluster.state(job) == state:
            return
        time.sleep(0.5)
    raise AssertionError(f"job {job} is {cluster.state(job)}, not {state}")


def test_every_file_is_verified_though_a_node_dies_and_a_job_is_cancelled(project: Project, cluster: Cluster, capsys):
    began = time.monotonic()

    def say(text: str) -> None:
        with capsys.disabled():
            print(f"[{time.monotonic() - began:6.1f} s] {text}", flush=True)

    names = write_models(project.folder / "models")
    targets = [f"{name}.{extension}" for name in names for extension in TARGETS]
    print()
    say(f"{len(names)} models, {len(targets)} targets, 4 nodes")
    run = start(project, cluster, *(f"converted/{target}" for target in targets))
    try:
        hubs = project.folder / "intermediate"
        while len(list(hubs.glob("*/hub.json"))) < 6:
            assert run.poll() is None, (project.folder / "run.log").read_text()
            time.sleep(0.5)
        lost, dead = running(cluster, run)
        cluster.control("kill-node", dead)
        wait_for_state(cluster, lost, "NODE_FAIL")
        say(f"node {dead} killed: its job {lost} is lost")
        while len(project.converted()) < 5:
            assert run.poll() is None, (project.folder / "run.log").read_text()
            time.sleep(0.5)
        cancelled, node = running(cluster, run, but=dead)
        cluster.cancel(cancelled)
        wait_for_state(cluster, cancelled, "CANCELLED")
        say(f"job {cancelled} on {node} cancelled, {len(project.converted())} files published so far")
        assert run.wait(timeout=3000) == 0, (project.folder / "run.log").read_text()
    finally:
        run.kill()
    log = (project.folder / "run.log").read_text()
    submitted = log.count("has been submitted with SLURM jobid")
    say(f"done: {submitted} jobs submitted for {MODELS * (1 + len(TARGETS))} steps")
    assert submitted >= MODELS * (1 + len(TARGETS)) + 2  # the lost and the cancelled one ran again
    assert project.converted() == sorted(targets)
    reports = [project.report(target) for target in targets]
    assert [report["status"] for report in reports] == ["verified"] * len(targets)
    assert len({report["source"]["sha256"] for report in reports}) == MODELS
    worst = max(output["max_abs_diff"] for report in reports for output in report["verification"]["outputs"])
    say(f"{len(reports)} files verified, largest difference {worst:.1e}")


def test_a_job_that_was_killed_for_memory_runs_again_with_more(project: Project, cluster: Cluster):
    (project.folder / "models" / "m.pbtxt").write_text(linear())
    run = start(project, cluster, "converted/m.onnx", "--set-resources", "import_protobuf:mem_mb=1600*attempt-1200")
    assert run.wait(timeout=600) == 0, (project.folder / "run.log").read_text()
    assert project.report("m.onnx")["status"] == "verified"
    logs = [path.read_text() for path in project.folder.glob(".snakemake/slurm_logs/rule_import_protobuf/**/*.log")]
    assert any("Exceeded job memory limit" in log for log in logs)
