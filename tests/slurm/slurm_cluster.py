"""A Slurm of four nodes on this machine, for the tests of this folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).with_name("cluster.sh")


class Cluster:
    """The running cluster; see cluster.sh."""

    def __init__(self, state: Path) -> None:
        self.environment = {**os.environ, "CONVERTER_SLURM": str(state), "SLURM_CONF": str(state / "slurm.conf")}

    def control(self, *arguments: str) -> str:
        return self._run("bash", str(SCRIPT), *arguments)

    def jobs(self, states: str = "RUNNING") -> list[tuple[str, str]]:
        """(job, node) of the jobs in these states."""
        lines = self._run("squeue", "--noheader", "--states", states, "--format=%i %N").splitlines()
        return [(job, node) for job, _, node in (line.partition(" ") for line in lines)]

    def state(self, job: str) -> str:
        return self._run("squeue", "--noheader", "--states=all", "--jobs", job, "--format=%T").strip()

    def cancel(self, job: str) -> None:
        self._run("scancel", job)

    def _run(self, *command: str) -> str:
        run = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, f"{command}: {run.stdout}{run.stderr}"
        return run.stdout
