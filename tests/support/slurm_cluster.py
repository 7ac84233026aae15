"""A real Slurm on one machine: munged, slurmctld and several slurmd, in a folder of their own.

`python tests/support/slurm_cluster.py COMMAND...` starts one, runs a command with it, and stops it.
Nothing of a Slurm that the machine may have is read or touched: the configuration, the key, the
socket and every file lie in the folder, the ports are free ones, and the daemons are ended by
their process ids. Root is needed, as slurmd starts jobs as other users.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
NODES = ("n1", "n2", "n3")
NODE_MEMORY = 6000
"""MB that a node claims. Together more than a small machine has; the jobs need less."""

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
# Without cgroups, because a container may not create them.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
# Memory is allocated like cores. A job that takes more is killed at the next check.
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
KillWait=5
# How long a command waits for a controller that is away; a busy machine is slow.
MessageTimeout=60
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
    "CPUs=1 RealMemory={memory} Gres=gpu:1"
)


def missing() -> str | None:
    """Why a cluster cannot run here; None if it can."""
    if os.geteuid() != 0:
        return "only root can start a Slurm"
    absent = [name for name in (*DAEMONS, *CLIENTS) if shutil.which(name) is None]
    if absent:
        return (
            f"no {', '.join(absent)}: apt-get install --no-install-recommends "
            "slurmctld slurmd slurm-client munge"
        )
    return None


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Poll until a condition holds; fail if it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.25)


@dataclass
class Cluster:
    """A running cluster.

    Attributes:
        folder: everything that belongs to it.
        daemons: its processes, by name: munged, slurmctld, and a slurmd for each node.
    """

    folder: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that make Slurm's commands find this cluster."""
        path = os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]])
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": path}

    def command(self, *command: str) -> str:
        """Run a Slurm command and return what it prints."""
        done = subprocess.run(
            command,
            env=os.environ | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}")
        return done.stdout

    def jobs(self, state: str, node: str | None = None) -> list[str]:
        """Ids of the jobs in a state (`running`, `pending`, `all`), on one node or all."""
        where = ("--nodelist", node) if node else ()
        listed = self.command("squeue", "--noheader", "--format=%i", f"--states={state}", *where)
        return listed.split()

    def start(self, name: str, *command: str) -> None:
        """Start a daemon in the foreground, so that it is a child of this process."""
        with open(self.folder / f"{name}.out", "ab") as output:
            self.daemons[name] = subprocess.Popen(
                command,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, name: str) -> None:
        """Stop a daemon by its process id."""
        daemon = self.daemons.pop(name)
        daemon.terminate()
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def start_controller(self) -> None:
        """Start slurmctld from the state that an earlier one saved, and wait until it answers."""
        self.start("slurmctld", "slurmctld", "-D")
        wait_until(self._controller_answers, "slurmctld")

    def idle_nodes(self) -> int:
        """Nodes that are up and accept jobs."""
        states = self.command("sinfo", "--noheader", "--Node", "--format=%t").split()
        return sum(state in ("idle", "mix", "alloc") for state in states)

    def _controller_answers(self) -> bool:
        try:
            return "UP" in self.command("scontrol", "ping")
        except RuntimeError:
            return False


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster of three nodes with one core and one simulated GPU each; stopped at the end."""
    ports, host = _free_ports(1 + len(NODES)), socket.gethostname().partition(".")[0]
    nodes = [
        NODE.format(name=name, host=host, port=port, memory=NODE_MEMORY)
        for name, port in zip(NODES, ports[1:], strict=True)
    ]
    (folder / "state").mkdir(parents=True)
    configuration = CONFIGURATION.format(
        host=host, port=ports[0], folder=folder, nodes="\n".join(nodes)
    )
    (folder / "slurm.conf").write_text(configuration)
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")
    # Snakemake's jobs remove Slurm's variables before they call srun.
    srun = folder / "bin/srun"
    srun.parent.mkdir()
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
    srun.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    running = Cluster(folder)
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        stack.callback(lambda: [running.stop(name) for name in reversed([*running.daemons])])
        running.start(
            "munged",
            *("munged", "--foreground", "--force", f"--key-file={key}"),
            *(f"--{kind}={folder}/munge.{kind}" for kind in ("socket", "pid-file", "log-file")),
            f"--seed-file={folder}/munge.seed",
        )
        wait_until((folder / "munge.socket").exists, "munged")
        running.start_controller()
        for number, name in enumerate(NODES):
            # Jobs on a node see one core, in place of a cgroup.
            core = str(cores[number % len(cores)])
            running.start(name, "taskset", "--cpu-list", core, "slurmd", "-D", "-N", name)
        wait_until(lambda: running.idle_nodes() == len(NODES), "slurmd")
        stack.callback(_cancel_all, running)
        yield running


def _cancel_all(running: Cluster) -> None:
    """Cancel all queued and running jobs, so that no step outlives its slurmd."""
    if "slurmctld" not in running.daemons:
        running.start_controller()
    running.command("scancel", "--user=root")
    wait_until(lambda: not running.jobs("running,completing"), "scancel")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def main(command: Sequence[str]) -> int:
    """Run a command with a cluster and return its exit status."""
    if reason := missing():
        sys.exit(reason)
    # The path of a socket must be short, so the folder is directly in the temporary folder.
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, cluster(Path(folder)) as running:
        environment = os.environ | running.environment
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
