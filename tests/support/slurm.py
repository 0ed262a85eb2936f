"""A Slurm cluster on the loopback interface: a controller and two nodes on this machine for one test."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from support.workers import until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=1,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1
PartitionName=all Nodes=one,two Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Return why Slurm cannot be started here; "" if it can."""
    os.environ["PATH"] = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    lacking = [name for name in PROGRAMS if not shutil.which(name)]
    if lacking:
        return f"needs Slurm and munge: there is no {', '.join(lacking)}"
    return "" if hasattr(os, "geteuid") and os.geteuid() == 0 else "Slurm's daemons need root"


class Cluster:
    """Context manager for the daemons of a cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        self.folder.mkdir()
        (self.folder / "state").mkdir()
        config, key = self.folder / "slurm.conf", self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        config.write_text(CONFIG.format(host=platform.node(), folder=self.folder, ports=_free_ports(3)))
        os.environ["SLURM_CONF"] = str(config)
        names = [f"--{name}-file={self.folder / f'munge.{name}'}" for name in ("pid", "seed", "log")]
        self._start(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.socket", *names
        )
        until((self.folder / "munge.socket").exists)
        self._start("slurmctld", "-D", "-f", str(config))
        for name in ("one", "two"):
            self._start("slurmd", "-D", "-f", str(config), "-N", name)
        until(lambda: self.tell("sinfo", "-h", "-N", "-o", "%t").split() == ["idle", "idle"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tell("scancel", "--user=root")
        with suppress(TimeoutError):
            until(lambda: not self._steps())
        for step in self._steps():
            with suppress(ProcessLookupError):
                os.kill(step, signal.SIGKILL)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            daemon.wait()
        del os.environ["SLURM_CONF"]

    def _steps(self) -> list[int]:
        """Return the processes that supervise tasks: they outlive the daemon that started them."""
        found, mark = [], f"SLURM_CONF={self.folder / 'slurm.conf'}".encode()
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                ours = mark in (place / "environ").read_bytes().split(b"\0")
                if ours and (place / "comm").read_text() == "slurmstepd\n":
                    found.append(int(place.name))
        return found

    def _start(self, *command: str) -> None:
        with (self.folder / f"{command[0]}-{len(self._daemons)}.said").open("wb") as said:
            self._daemons.append(subprocess.Popen(command, stdout=said, stderr=said))

    def tell(self, *command: str) -> str:
        """Return the output of a program of Slurm."""
        return subprocess.run(command, capture_output=True, text=True).stdout

    def submit(self, script: str) -> str:
        """Submit a script; returns the number of the job."""
        return subprocess.run(
            ["sbatch", "--parsable", script], check=True, capture_output=True, text=True
        ).stdout.strip()

    def wait(self, job: str) -> None:
        """Wait until no task of a job is left; requeued tasks start without their delay of two minutes."""

        def over() -> bool:
            for task in self.tell("squeue", "-h", "-j", job, "-t", "PD", "-o", "%A").split():
                self.tell("scontrol", "update", f"JobId={task}", "StartTime=now")
            return not self.tell("squeue", "-h", "-j", job).strip()

        until(over, 600)

    def drain_in_the_middle(self, job: str, at_work: Callable[[], bool]) -> None:
        """Drain a node while a task of a job runs on it; the task is requeued."""
        until(at_work)
        self.tell("scontrol", "update", "NodeName=one", "State=DRAIN", "Reason=test")
        running = self.tell("squeue", "-h", "-j", job, "-w", "one", "-t", "R", "-o", "%A").split()
        assert running, self.tell("squeue", "-j", job)
        self.tell("scontrol", "requeue", running[0])


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
