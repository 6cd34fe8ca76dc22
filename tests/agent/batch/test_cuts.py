"""The agent is killed, or the power goes, before and after each of its writes: it ends as if nothing had been."""

import asyncio
import itertools

import pytest

from agent.batch import kept
from tests.agent.batch.site import DONE, INSTANCE, serving


class Cut(BaseException):
    """The power went, or the agent was killed."""


class Cuts:
    """Cuts at effect number ``at``, and knows which there were."""

    def __init__(self, patch, device, at):
        self.passed, self._at = [], at
        for owner, name in ((device.engine, "start"), (device.engine, "stop"), (kept, "put")):
            inner = getattr(owner, name)
            wrapped = self._awaited(name, inner) if asyncio.iscoroutinefunction(inner) else self._called(name, inner)
            patch.setattr(owner, name, wrapped)

    def _point(self, what):
        self.passed.append(what)
        if len(self.passed) - 1 == self._at:
            raise Cut

    def _awaited(self, name, inner):
        async def called(*arguments, **more):
            self._point(f"before {name}")
            found = await inner(*arguments, **more)
            self._point(f"after {name}")
            return found

        return called

    def _called(self, name, inner):
        def called(*arguments, **more):
            self._point(f"before {name}")
            found = inner(*arguments, **more)
            self._point(f"after {name}")
            return found

        return called


async def life(site, pauses):
    """Begun, paused by a request, killed by somebody, begun again, ended by itself; as far as it comes."""
    if not site.jobs:
        await site.duty.take(site.order)
    while not site.job.is_over:
        await site.quiet()
        if site.runs() and pauses:
            pauses.pop()(site)
            await site.turns()
        elif site.runs():
            site.ends(DONE)
            await site.turns()
    await site.turns()


def asks(site):
    site.requests += 1


def kills(site):
    site.ends("", code=137)


@pytest.mark.parametrize("way", ["killed", "power"])
async def test_cut_between_any_two_writes(folder, way, monkeypatch):
    """Whatever was cut, each job is done once, and none of its containers is left."""
    for number in itertools.count():
        (here := folder / str(number)).mkdir()
        async with serving(here) as site:
            with monkeypatch.context() as patch:
                cuts = Cuts(patch, site.device, number)
                try:
                    await life(site, [kills, asks])
                    cut = False
                except Cut:
                    cut = True
            if cut:
                if way == "power":
                    site.device.engine.power_cut()
                    site.device.clock.reboot()
                await site.device.kill()
                site.begin()
                await life(site, [])
            job = site.job
            assert (len(site.jobs), job.state, job.answered, job.set_aside) == (1, "done", 3, 1), cuts.passed
            assert INSTANCE not in site.device.engine._instances, cuts.passed
            if not cut:
                break
    assert number > 20
