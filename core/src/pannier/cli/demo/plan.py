"""The plan: which jobs the demo queues, and what has to become of each."""

from collections.abc import Iterator
from datetime import timedelta
from random import Random

from attrs import field, frozen

from pannier import Command, JobStatus
from pannier.cli.demo.work import Charge, Crawl, Deliver, Remind, Thumbnail, Transcode, size_of, thumbnail_of

CANCEL_AT_PAGE = 12
"""A crawl is cancelled once it has reported so many pages."""


@frozen(kw_only=True)
class Planned:
    """
    One job of the plan.

    Attributes:
        command: What is queued.
        label: What it is called on the screen.
        status: How it has to end.
        attempts: How many attempts that has to take.
        result: Its result as JSON, as it has to be stored; None: it has none.
        failures: How many errors have to be kept with it.
        delay: How long after it was queued it may start.
        priority: 0, or something else for once.
    """

    command: Command[object]
    label: str
    status: JobStatus
    attempts: int = 1
    result: object = None
    failures: int = 0
    delay: timedelta = field(default=timedelta())
    priority: int = 0

    @property
    def kind(self) -> type[Command[object]]:
        """Its command's class."""
        return type(self.command)


KINDS = {
    Thumbnail: "quick, in threads",
    Deliver: "fails, then succeeds",
    Charge: "fails for good",
    Remind: "set for later",
    Transcode: "slow, shows progress",
    Crawl: "cancelled while it runs",
}
"""The kinds of jobs, in the order of the screen."""


def make_plan(seed: int) -> list[Planned]:
    """Return a few dozen jobs in the order in which they are queued. The same *seed* gives the same."""
    random = Random(seed)
    plan = [
        *_thumbnails(random),
        *_transcodings(random),
        *_deliveries(random),
        *_charges(random),
        *_reminders(random),
        *_crawls(random),
    ]
    random.shuffle(plan)
    return plan


def _thumbnails(random: Random) -> Iterator[Planned]:
    for number in range(1, 17):
        photo = f"photo-{number:02}.jpg"
        yield Planned(
            command=Thumbnail(photo, seconds=round(random.uniform(0.05, 0.3), 3)),
            label=photo,
            status=JobStatus.SUCCEEDED,
            result=thumbnail_of(photo),
            priority=random.choice([0, 0, 0, 10]),
        )


def _transcodings(random: Random) -> Iterator[Planned]:
    for film in ("harbour.mov", "lighthouse.mov", "market.mov", "night-train.mov", "pass-road.mov"):
        command = Transcode(film, frames=random.randint(16, 30), seconds_a_frame=round(random.uniform(0.05, 0.08), 3))
        result = {
            "total_steps": command.frames,
            "current_step": command.frames,
            "current_status": "done",
            "result": size_of(command),
        }
        yield Planned(command=command, label=film, status=JobStatus.SUCCEEDED, result=result)


def _deliveries(random: Random) -> Iterator[Planned]:
    for host in ("anna.example", "bela.example", "cleo.example", "dora.example", "emil.example"):
        failures = random.randint(1, 3)
        yield Planned(
            command=Deliver(host, failures),
            label=host,
            status=JobStatus.SUCCEEDED,
            attempts=failures + 1,
            result=failures + 1,
            failures=failures,
        )


def _charges(random: Random) -> Iterator[Planned]:
    for _ in range(3):
        card = f"card {random.randint(0, 9999):04}"
        yield Planned(command=Charge(card), label=card, status=JobStatus.FAILED, attempts=2, failures=2)


def _reminders(random: Random) -> Iterator[Planned]:
    for whom in ("Ada", "Grace", "Mary", "Radia"):
        yield Planned(
            command=Remind(whom),
            label=whom,
            status=JobStatus.SUCCEEDED,
            result=f"it is time, {whom}",
            delay=timedelta(seconds=round(random.uniform(1, 3), 2)),
        )


def _crawls(random: Random) -> Iterator[Planned]:
    for site in ("north.example", "south.example"):
        yield Planned(
            command=Crawl(site, pages=random.randint(40, 60)), label=site, status=JobStatus.CANCELLED, attempts=1
        )
