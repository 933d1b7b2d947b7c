"""What a run is to do."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

from attrs import field, frozen


class FaultKind(StrEnum):
    """What is done to the processes, or to their storage."""

    KILL = "kill"
    """SIGKILL to a worker, or to the process that queues; another takes its place."""
    FREEZE = "freeze"
    """SIGSTOP to all workers but one, until their leases have lapsed; then SIGCONT."""
    CLOCK = "clock"
    """One wall clock is stepped by an hour; those of half of the processes are 30 s off all the time."""
    NETWORK = "network"
    """Connections are reset, refused, slowed down or silent, or answers are lost, for a while."""
    SERVER = "server"
    """The storage's server is killed and started again."""
    DISK = "disk"
    """No file may grow for a while."""
    MEMORY = "memory"
    """One process can't have more memory for a while."""
    READ_ONLY = "readonly"
    """The storage's files can't be written for a while, not even by who has them open."""


class Server(Protocol):
    """A server that may be killed. Both methods may block."""

    def crash(self) -> None:
        """Kill it: what was not made durable is lost."""
        ...

    def start(self) -> None:
        """Start it on the same data and address, and return when it answers."""
        ...


@frozen(kw_only=True)
class Plan:
    """
    What a run does.

    Attributes:
        jobs: How many jobs are queued.
        faults: How many faults of each kind.
        seed: Decides everything random but the operating system.
        workers: How many worker processes race for the jobs; at least 2, or nobody takes a zombie's jobs over.
        lease_seconds: How long leases last.
        pause_seconds: How long the processes are let alone at least after each fault; 0 makes a storm of the faults.
        patience_seconds: How long nothing may move before the run counts as stuck.
        prelude: "package.module:name" of a function that each worker calls first: to try the rig on a broken worker.
    """

    jobs: int
    faults: Mapping[FaultKind, int] = field(factory=dict[FaultKind, int])
    seed: int = 0
    workers: int = 2
    lease_seconds: float = 3.0
    pause_seconds: float = 0.0
    patience_seconds: float = 120.0
    prelude: str = ""

    def __attrs_post_init__(self) -> None:
        if self.jobs < 1 or self.workers < 2 or self.lease_seconds <= 0:
            raise ValueError("a run needs a job, two workers and a lease that is longer than nothing")
        if self.pause_seconds < 0:
            raise ValueError("a pause can't be shorter than nothing")
        if any(count < 0 for count in self.faults.values()):
            raise ValueError("there can't be less than no faults of a kind")

    def has(self, kind: FaultKind) -> bool:
        """Whether there are faults of this kind."""
        return self.faults.get(kind, 0) > 0
