"""What a candidate must show before any traffic: every answer, the provider it was started with, its usual speed."""

import msgspec
import pytest

from agent.health import Proved, ServerStatus, prove
from modules.errors import NotReady
from modules.manifest import Limits
from modules.needs import Accelerator
from modules.protocol.phases import Phase
from modules.samples import Sample, Samples
from tests.doubles.engine import Behaviour
from tests.doubles.release import WRONG, make

BODIES = tuple(b'{"x": [%d]}' % number for number in range(5))


@pytest.mark.parametrize("wrong", BODIES)
async def test_every_sample_must_be_answered_right(device, wrong):
    """One wrong answer among five is enough, whichever it is, and the reason names its sample."""
    release = make(bodies=BODIES)
    device.engine.behaviours[release.digest] = Behaviour(answers={wrong: WRONG})
    await device.order(main=release)
    await device.phase(Phase.REVERTED)

    assert device.row().reason.code == "wrong-answer"
    assert ("one", "two", "three", "four", "five")[BODIES.index(wrong)] in device.row().reason.message


@pytest.mark.parametrize(
    ("slow", "ends"),
    [
        pytest.param(2, Phase.PROBATION, id="two of five, as at a first request"),
        pytest.param(3, Phase.REVERTED, id="three of five, although two were quick"),
    ],
)
async def test_the_median_latency_is_what_counts(device, slow, ends):
    """Neither a few slow answers condemn a module, nor a few quick ones acquit it."""
    release = make(bodies=BODIES, limits=Limits(latency_ms=300.0))
    device.engine.behaviours[release.digest] = Behaviour(slow_for=dict.fromkeys(BODIES[:slow], 0.4))
    await device.order(main=release)
    await device.phase(ends)


async def test_a_silent_fall_back_to_the_processor_is_no_proof(device):
    """A module that was fitted to an accelerator and runs on the processor is reverted, right as its answers are."""
    release = make(accelerators=("cuda",), providers=("CUDAExecutionProvider", "CPUExecutionProvider"))
    gpu = Accelerator(
        kind="cuda", name="A2", devices=("/dev/nvidia0",), providers=("CUDAExecutionProvider", "CPUExecutionProvider")
    )
    device.host.facts = msgspec.structs.replace(device.host.facts, accelerators=(gpu,))
    await device.order(main=release)
    await device.phase(Phase.REVERTED)

    assert device.row().reason.code == "over-limit"
    assert "CPUExecutionProvider is in use instead of CUDAExecutionProvider" in device.row().reason.message


async def test_a_slow_start_is_waited_for(device):
    """As long as it runs and its time is not over it is neither condemned nor started again."""
    release = make(ready_within_s=60.0)
    device.engine.behaviours[release.digest] = Behaviour(hangs=True)
    began = device.clock.monotonic()
    await device.order(main=release)
    await device.until(lambda: device.clock.monotonic() - began > 3.0)
    assert device.row().phase is Phase.STARTING
    device.engine.behaviours.clear()

    await device.phase(Phase.PROBATION)
    assert len(device.engine.starts) == 1


async def test_an_end_while_starting_is_known_long_before_its_time_is_over(device):
    """Nobody waits ten minutes for a module that has ended."""
    release = make(ready_within_s=600.0)
    device.engine.behaviours[release.digest] = Behaviour(exits=True)
    began = device.clock.monotonic()
    await device.order(main=release)
    await device.phase(Phase.REVERTED)

    assert "it ended while starting: the log of main-" in device.row().reason.message
    assert device.clock.monotonic() - began < 10


async def test_an_end_is_the_reason_however_short_the_time_was(device):
    """Of a module that had too little memory nobody is told that it needs more time."""
    release = make(ready_within_s=0.2)
    device.engine.behaviours[release.digest] = Behaviour(exits=True, oom=True)
    await device.order(main=release)
    await device.phase(Phase.REVERTED)

    assert device.row().reason.code == "over-limit"


async def test_a_module_that_uses_more_memory_than_it_is_allowed_is_reverted(device):
    """By however little: right answers do not make up for it."""
    more = make(limits=Limits(memory_mb=64))
    device.engine.behaviours[more.digest] = Behaviour(memory_mb=64.5)
    await device.order(main=more)
    await device.phase(Phase.REVERTED)

    assert device.row().reason.code == "over-limit"
    assert "MiB of 64 allowed" in device.row().reason.message


async def test_where_nobody_knows_how_much_it_uses_memory_is_no_reason(device, monkeypatch):
    """An engine that cannot say it leaves the rest of the proof."""

    async def unknown(_):
        return None

    monkeypatch.setattr(device.engine, "usage", unknown)
    await device.order(main=make(limits=Limits(memory_mb=16)))
    await device.phase(Phase.PROBATION)


async def test_no_samples_take_no_time():
    """A module that is proved by nothing but being ready is within every latency."""
    manifest = make(limits=Limits(latency_ms=0.5)).manifest
    found = await prove(None, "main-1", "nowhere", manifest, None, (), ServerStatus(ready=True))

    assert found == Proved("", 0.0)


async def test_a_sample_that_gets_no_answer_is_named(tmp_path):
    """A module that dies at a request is not ready, and the reason says at which."""
    release = make(bodies=BODIES)
    sample = Sample(name="deadly", body=b"{}", answer=WRONG)
    with pytest.raises(NotReady, match="stopped answering") as caught:
        await prove(
            None, "main-1", str(tmp_path / "s"), release.manifest, Samples((sample,)), (), ServerStatus(ready=True)
        )

    assert caught.value.element == "deadly"
