"""How a module runs here is decided once: an accelerator that comes and goes changes nothing of it."""

import msgspec
import pytest

from agent.choose import choose
from modules.errors import Unfit
from modules.needs import Accelerator
from modules.protocol.phases import Phase
from tests.agent.workbench import FACTS
from tests.doubles.release import make

GPU = Accelerator(kind="intel-gpu", name="Iris", devices=("/dev/dri/renderD128",))
OTHER = Accelerator(kind="intel-gpu", name="Arc", devices=("/dev/dri/renderD129",))
MODULE = make("acme/digits:1", accelerators=("intel-gpu", "cpu"))


def has(device, *accelerators):
    device.host.facts = msgspec.structs.replace(FACTS, accelerators=accelerators)


def nodes(device):
    """The device nodes that the committed module was started with."""
    return device.engine.launch(device.row().current.instance).devices


async def test_it_runs_on_what_it_was_fitted_to(device):
    """An accelerator that is away when the candidate is to start is waited for: no other runtime, no verdict."""
    has(device, GPU)
    device.server.silent = True
    await device.order(main=MODULE)
    await device.phase(Phase.FETCHING)
    has(device)
    device.server.silent = False
    await device.until(lambda: device.row().reason is not None, flowing=61.0)
    assert device.row().phase is Phase.STAGED
    assert "the intel-gpu accelerator that it was fitted to is not there" in device.row().reason.message
    assert device.engine.starts == []

    has(device, GPU)
    await device.phase(Phase.PROBATION, flowing=30.0)
    assert device.row().candidate.chosen.access.devices == ("/dev/dri/renderD128",)
    assert device.store.failed(MODULE.digest) is None


async def test_a_committed_module_is_not_moved(device):
    """Started again, it gets what it had: neither the processor while its accelerator is away, nor a second one."""
    has(device, GPU)
    await device.committed(MODULE)
    has(device)
    device.clock.advance(61)
    await device.passes()
    device.engine.crash(device.row().current.instance)
    await device.until(lambda: (why := device.row().upkeep.trouble) is not None and "not there" in why.message)
    assert not device.served()

    has(device, GPU, OTHER)
    await device.until(device.served, flowing=61.0)
    assert nodes(device) == ("/dev/dri/renderD128",)


async def test_a_module_that_was_fitted_to_the_processor_stays_there(device):
    """An accelerator that appears later is for the next order."""
    await device.committed(MODULE)
    has(device, GPU)
    device.clock.advance(61)
    await device.passes()
    device.engine.crash(device.row().current.instance)
    await device.until(device.served, flowing=1.0)

    assert nodes(device) == ()


def test_what_fits_nowhere_is_refused_with_every_reason():
    """Before anything is fetched."""
    needs = make(accelerators=("intel-gpu",))
    with pytest.raises(Unfit, match="no accelerator of the kinds it runs on"):
        choose(needs.manifest, FACTS, needs.wanted())
