"""
The line-step sweep: a call is killed at lines of the provider, and what stands afterwards is judged (R49, R87).

Longer profiles try every line. The quick one looks for the line at which the call takes effect by halving: if the state
goes from "before" to "after" by way of anything else, the halving must come upon it.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from attrs import define

from pannier.storage import JobStorageProvider
from pannier_testing.processes import Stepped, Stepper
from pannier_testing.scenes import Scene, scene_of
from pannier_testing.trial import Trial

Judge = Callable[[JobStorageProvider, Scene, int], Awaitable[bool]]
"""Looks at a scene that was killed at a line; says whether the call was made, and breaks the rule where it was half."""


async def prepared(trial: Trial, names: Iterable[str], url: str | None = None) -> list[Scene]:
    """Prepare scenes with an instance that is closed again: other processes play them."""
    storage = await trial.open(url)
    scenes = [await scene_of(trial, storage, name) for name in names]
    await storage.close()
    return scenes


async def stepped(
    trial: Trial, stepper: Stepper, scene: Scene, die_at: int | str | None, url: str | None = None
) -> Stepped:
    """Play *scene* in a fork; an error there breaks the rule: what a killed process left stops nobody."""
    return await trial.check.answers(
        stepper.call(url or trial.url, scene.act.verb, die_at=die_at, **scene.act.arguments),
        f"{scene.name}, in a process of its own, after others were killed",
    )


async def sweep_lines(trial: Trial, names: Sequence[str], judge: Judge) -> None:
    """Kill the calls of the scenes called *names* at lines of the provider, and let *judge* look at each."""
    stepper = await trial.open_stepper()
    searches = await _count_lines(trial, stepper, names)
    trial.sizes["lines"] = sum(search.lines for search in searches)
    if trial.is_thorough:
        for line in range(max(search.lines for search in searches)):
            await _try(trial, stepper, names, {s: line for s in searches if line < s.lines}, judge)
    while unsettled := [search for search in searches if search.is_open]:
        await _try(trial, stepper, names, {search: search.next_line(trial) for search in unsettled}, judge)


async def _count_lines(trial: Trial, stepper: Stepper, names: Sequence[str]) -> list["Search"]:
    async with trial.another_place() as url:
        scenes = await prepared(trial, names, url)
        return [Search(s.name, (await stepped(trial, stepper, s, None, url)).lines or 0) for s in scenes]


@define(eq=False)
class Search:
    """
    The search for the line at which a call takes effect.

    Attributes:
        name: Of the scene.
        lines: How many lines the call took once; it may take a few more, where more is stored by now.
        before: A kill at this line was too early.
        after: A kill at this line was too late.
    """

    name: str
    lines: int
    before: int = -1
    after: int = -1

    def __attrs_post_init__(self) -> None:
        self.after = self.lines + self.lines // 2 + 10

    @property
    def is_open(self) -> bool:
        """Whether lines are left between the two."""
        return self.after - self.before > 1

    def next_line(self, trial: Trial) -> int:
        """Choose a line about halfway, by the trial's seed."""
        quarter = (self.after - self.before) // 4
        return trial.rng.randint(self.before + max(1, quarter), self.after - max(1, quarter))

    def learn(self, line: int, *, is_done: bool) -> None:
        """Take in what stood after a kill at *line*."""
        if is_done:
            self.after = min(self.after, line)
        else:
            self.before = max(self.before, line)


async def _try(
    trial: Trial, stepper: Stepper, names: Sequence[str], lines: Mapping["Search", int], judge: Judge
) -> None:
    """Kill each search's scene at its line, in a new place where all scenes are: a line is always the same one."""
    async with trial.another_place() as url:
        scenes = dict(zip(names, await prepared(trial, names, url), strict=True))
        for search, line in lines.items():
            await stepped(trial, stepper, scenes[search.name], line, url)
        storage = await trial.open(url)
        for search, line in lines.items():
            search.learn(line, is_done=await judge(storage, scenes[search.name], line))
        await storage.close()
    trial.sizes["lines tried"] = trial.sizes.get("lines tried", 0) + len(lines)
