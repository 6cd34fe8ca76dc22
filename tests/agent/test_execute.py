"""The way of a module through the device, as its rows, its reports and the routing table tell it."""

from agent.phases import Phase
from tests.doubles.engine import Behaviour
from tests.doubles.release import WRONG, make

WHOLE = ["accepted", "fitted", "fetching", "verified", "staged", "starting", "probation", "committed"]


async def test_a_good_module_goes_the_whole_way(device):
    """An ordered module is fitted, fetched, staged, started, proved, put on probation and committed."""
    await device.committed(make())

    assert device.chain() == WHOLE
    assert device.serves() == "acme/digits:1"
    assert device.row().current.provider == "CPUExecutionProvider"


async def test_the_new_module_takes_over_only_when_proved(device):
    """A second version gets the traffic when its samples were answered right, and the first stops at the commit."""
    first, second = make("acme/digits:1"), make("acme/digits:2")
    await device.committed(first)
    await device.order(main=second)
    await device.phase(Phase.PROBATION)

    assert device.serves() == "acme/digits:2"
    assert device.route().previous.module == "acme/digits:1"
    assert device.engine.running() == {first.digest, second.digest}

    device.clock.advance(301)
    await device.phase(Phase.COMMITTED)
    await device.until(lambda: device.engine.running() == {second.digest})
    assert device.row().previous.wanted.digest == first.digest


async def test_a_wrong_answer_is_reverted_and_remembered(device):
    """A module that answers a sample wrong never gets traffic, and its content is remembered as failed."""
    first, bad = make("acme/digits:1"), make("acme/digits:2")
    await device.committed(first)
    device.engine.behaviours[bad.digest] = Behaviour(answer=WRONG)
    await device.order(main=bad)
    await device.phase(Phase.REVERTED)

    assert device.serves() == "acme/digits:1"
    assert device.row().reason.code == "wrong-answer"
    assert device.store.failed(bad.digest).code == "wrong-answer"
    await device.until(lambda: device.engine.running() == {first.digest})
