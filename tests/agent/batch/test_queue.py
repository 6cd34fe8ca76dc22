"""Several jobs on a device: what holds one of them up holds up no other, and each says its own reason."""

import msgspec
import pytest

from modules.errors import NotReady
from modules.manifest import SecretFile
from tests.agent.batch.site import DONE, INSTANCE, serving
from tests.doubles.release import make

WITH_SECRET = make("acme/digits:1", secrets=(SecretFile(name="token"),))
SECOND = "1e" * 8
BEHIND = f"batch.{SECOND}"


@pytest.fixture
async def site(folder):
    async with serving(folder) as made:
        yield made


async def two(site, **changed):
    """The first job, whose places are its own, and one behind it."""
    for name in ("others", "elsewhere"):
        (site.here / name).mkdir(exist_ok=True)
    site.settings = msgspec.structs.replace(
        site.settings,
        batch_inputs=(*site.settings.batch_inputs, f"others={site.here}/others"),
        batch_outputs=(*site.settings.batch_outputs, f"elsewhere={site.here}/elsewhere"),
    )
    site.begin()
    await site.duty.take(site.order)
    second = {"mark": SECOND, "name": "morning", "inputs": "others", "outputs": "elsewhere"} | changed
    await site.duty.take(msgspec.structs.replace(site.order, **second))


def job(site, name):
    return next(one for one in site.jobs if one.order.name == name)


@pytest.mark.parametrize("place", ["pictures", "answers"])
async def test_a_folder_that_is_gone_holds_up_its_own_job_alone(site, place):
    """It waits, says which, and begins once the folder is back and nobody else is at work."""
    await two(site)
    (site.here / place).rename(site.here / "away")
    await site.quiet()
    assert (job(site, "night").state, site.runs(), site.runs(BEHIND)) == ("paused", False, True)
    assert "its folder cannot be used: No such file or directory" in job(site, "night").why
    (site.here / "away").rename(site.here / place)
    await site.turns(2)
    assert (site.runs(), site.runs(BEHIND)) == (False, True)
    site.device.engine.said[BEHIND] = DONE
    site.device.engine.crash(BEHIND, code=0)
    await site.turns()
    await site.quiet()
    assert (job(site, "morning").state, site.runs()) == ("done", True)


async def test_a_folder_that_goes_while_it_runs(site):
    """The one that is at work pauses, and the one behind it has its turn."""
    await two(site)
    await site.quiet()
    assert site.runs()
    (site.here / "pictures").rename(site.here / "away")
    await site.turns(2)
    assert (site.runs(), site.runs(BEHIND)) == (False, True)


async def test_one_that_can_never_run_ends_by_itself(site):
    """And the one behind it begins at the same look."""
    await two(site)
    site.settings = msgspec.structs.replace(site.settings, batch_inputs=site.settings.batch_inputs[1:])
    site.begin()
    await site.quiet()
    assert (job(site, "night").state, site.runs(BEHIND)) == ("failed", True)
    assert "given no folder this name" in job(site, "night").why


async def test_one_that_cannot_be_started_holds_up_no_other(site):
    """Whatever the engine says of it; both say why they are where they are."""
    await two(site)
    await site.turns()
    site.device.clock.advance(61)
    site.device.engine.start_errors = [NotReady("the engine could not start it")]
    await site.turns()
    assert (site.runs(), site.runs(BEHIND)) == (False, True)
    assert "could not start it" in job(site, "night").why


async def test_the_next_one_says_that_it_waits_for_its_turn(site):
    """While the device is not idle the first one says so, and nobody begins."""
    await two(site)
    await site.turns(2)
    assert "applications have asked" in job(site, "night").why
    assert job(site, "morning").why == "it waits for its turn"
    assert (site.runs(), site.runs(BEHIND)) == (False, False)


async def test_it_has_the_secrets_of_the_slot_beside_which_it_runs(folder):
    """The very files that the module beside it has; when these change, it begins anew with those of then."""
    async with serving(folder, module=WITH_SECRET, token=b"one") as site:
        await site.duty.take(site.order)
        await site.quiet()
        launch = site.device.engine.launch(INSTANCE)
        current = site.device.row().current
        assert launch.secrets_dir == site.device.engine.launch(current.instance).secrets_dir != ""
        await site.turns(2)
        assert site.runs()
        row = site.device.row()
        other = msgspec.structs.replace(row.current, given={"token": 2})
        site.device.store.save(row.with_(current=other))
        await site.turns()
        assert (site.job.state, site.runs()) == ("paused", False)
        assert "with the secrets of now" in site.job.why
        await site.quiet()
        assert site.runs()
