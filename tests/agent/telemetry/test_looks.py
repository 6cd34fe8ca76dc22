"""The figures: what the machine, the gateway and the modules are asked, and what is made of their answers."""

import asyncio

import msgspec
import pytest

from agent.answering import Told
from agent.engines.contract import Usage
from agent.slots import Placed, Upkeep
from agent.telemetry import looks
from agent.telemetry.gateway import Gateway
from agent.telemetry.looks import Host, Modules
from hardware.system import System
from modules.errors import NoEngine
from modules.latencies import bin_of
from modules.protocol.report import Reason
from modules.protocol.telemetry import MAX_FIGURES, Telemetry
from tests.agent.telemetry.stand import DEVICE, PROC, machine
from tests.doubles.clock import VirtualClock
from tests.doubles.release import make
from tests.doubles.rows import slot_row

WANTED = make().wanted()


def test_the_host_tells_what_its_kernel_knows(tmp_path):
    """Processor since the last look, memory, disk, temperature, and what the agent itself takes."""
    host = Host(System(machine(tmp_path)), tmp_path, VirtualClock())
    first = host.look()[0].figures
    machine(tmp_path, **{"proc/stat": "cpu 160 0 140 900 0 0 0 0"})
    second = host.look()[0].figures

    assert "cpu_percent" not in first
    assert second["cpu_percent"] == 50.0
    assert (second["memory_available_mb"], second["memory_used_percent"]) == (1000.0, 75.0)
    assert (second["load_1m"], second["temperature_c"], second["uptime_s"]) == (0.25, 51.5, 1000.0)
    assert second["disk_free_mb"] > 0
    assert 0 <= second["disk_used_percent"] <= 100
    assert second["agent_memory_mb"] > 1


@pytest.mark.parametrize(
    "text", ["", "cpu", "cpu x y", "nan", "-1 -1 -1", "1e999", "MemTotal: 0 kB\nMemAvailable: 0 kB"]
)
def test_a_machine_that_says_nonsense_is_no_trouble(tmp_path, text):
    """What a kernel does not tell is left out; nothing that is no number gets into a document."""
    host = Host(System(machine(tmp_path, **dict.fromkeys(PROC, text))), tmp_path, VirtualClock())
    host.look()
    figures = host.look()[0].figures

    assert {"disk_free_mb", "uptime_s"} <= set(figures)
    document = {
        "device": DEVICE,
        "stream": "host",
        "number": 1,
        "issued": 1,
        "samples": [{"at": 1, "figures": figures}],
    }
    assert msgspec.convert(document, Telemetry)


def counted(requests, errors=0, ms=2.0):
    return {"seconds": 9.0, "requests": requests, "errors": errors, "latencies": [[bin_of(ms / 1000), requests]]}


async def gateway(*readings):
    """What is made of several readings of the gateway, a minute apart."""
    clock, waiting = VirtualClock(), list(readings)
    one = Gateway(lambda: asyncio.sleep(0, waiting.pop(0)), clock)
    found = []
    for _ in readings:
        clock.advance(60.0)
        found.append({seen.slot: seen.figures for seen in await one.look()})
    return found


def slot(name="digits", **more):
    return {"slot": name, "module": "acme/digits:1", "served_by": "local", **more}


async def test_the_gateway_tells_what_applications_saw_since_the_last_look():
    """Requests, errors, percentiles, and who else had to answer: counts of a window, of both instances of a slot."""
    first = Told(1, [slot(counts={"one": counted(100, 5)}, answered={"local": 100})])
    second = Told(
        2,
        [
            slot(
                counts={"one": counted(110, 6), "two": counted(30, ms=40.0)},
                answered={"local": 140, "fallback": 7, "nobody": 2},
                pressed={"overloaded": 5, "refused": 3},
            )
        ],
    )
    before, after = await gateway(first, second)

    assert before == {}
    seen = after["digits"]
    assert (seen["seconds"], seen["requests"], seen["errors"]) == (60.0, 40.0, 1.0)
    assert (seen["fallback"], seen["unanswered"]) == (7.0, 2.0)
    assert (seen["overloaded"], seen["refused"]) == (5.0, 3.0)
    assert seen["p50_ms"] == pytest.approx(40, rel=0.05)


async def test_a_gateway_that_is_gone_is_told_of_and_begins_anew():
    """Down is a figure; whoever starts again counts from zero, and no count is ever negative."""
    one = Told(1, [slot(counts={"one": counted(100)}, answered={"local": 100, "fallback": 50})])
    again = Told(1, [slot(counts={"one": counted(3)}, answered={"local": 3, "fallback": 1})])
    found = await gateway(one, None, one, again)

    assert found[:3] == [{}, {None: {"up": 0.0}}, {}]
    assert (found[3]["digits"]["requests"], found[3]["digits"]["fallback"]) == (3.0, 1.0)


async def test_what_is_no_gateway_is_left_out():
    """Anything may listen at its address: slots that are none and counts out of bounds are not passed on."""
    bad = [
        {"slot": "../x", "counts": {}},
        {"slot": "a", "counts": {"one": {"requests": 2**60}}},
        {"slot": "b", "answered": {"local": -1}},
        {},
        slot("good", answered={"local": 1}),
        *(slot(f"many-{n}") for n in range(500)),
    ]
    _, after = await gateway(Told(1, bad), Told(1, bad))

    assert "good" in after
    assert len(after) < 64
    assert not {"../x", "a", "b"} & set(after)


class Engine:
    """Says what its instances use; or that it is not there."""

    def __init__(self) -> None:
        self.used: Usage | None = Usage(memory_mb=61.234, cpu_s=100.0, tasks=4)

    async def usage(self, _instance):
        if self.used is None:
            raise NoEngine("it does not answer", element="docker")
        return self.used


def committed(**more):
    return slot_row(WANTED, phase="committed", current=Placed(wanted=WANTED, instance="one", socket="/none"), **more)


@pytest.fixture
def asked(monkeypatch):
    """What the module's server says of its answers."""
    said = {"answers": {"looked": 10, "nan": 0, "empty": 0}}

    class Answer:
        @property
        def body(self):
            return said["raw"] if "raw" in said else msgspec.json.encode({"ready": True, "answers": said["answers"]})

    async def ask(*_, **__):
        return Answer() if said["answers"] is not None else None

    monkeypatch.setattr(looks, "ask", ask)
    return said


async def test_a_module_is_told_of_by_its_engine_and_by_itself(asked):
    """Memory, processor, restarts, and what its answers were like since the last look."""
    clock, engine = VirtualClock(), Engine()
    modules = Modules({"docker": engine}, clock)
    await modules.look((committed(),))
    clock.advance(60.0)
    engine.used = Usage(memory_mb=80.0, cpu_s=130.0, tasks=5)
    asked["answers"] = {"looked": 30, "nan": 2, "empty": 1}
    ((name, figures, _),) = await modules.look((committed(),))

    assert name == "main"
    assert figures == {
        "up": 1.0,
        "restarts": 0.0,
        "memory_mb": 80.0,
        "processes": 5.0,
        "cpu_percent": 50.0,
        "answers": 20.0,
        "nan": 2.0,
        "empty": 1.0,
    }


@pytest.mark.parametrize("raw", [b"", b"[", b'{"answers": {"looked": -1}}', b'{"answers": 1e999}', b"[" * 5000])
async def test_a_module_that_is_down_or_lies_is_told_of_all_the_same(asked, raw):
    """Without an engine, and whatever its server says: what the agent itself knows of it is there."""
    engine = Engine()
    engine.used, asked["raw"] = None, raw
    modules = Modules({"docker": engine}, VirtualClock())
    down = committed(upkeep=Upkeep(restarts=7, trouble=Reason("not-ready", "it ended")))
    ((_, figures, _),) = await modules.look((down,))

    assert figures == {"up": 0.0, "restarts": 7.0}


async def test_a_count_that_went_back_is_no_count(asked):
    """A module that was started again counts from zero: that window is left out, and none is negative."""
    clock, engine = VirtualClock(), Engine()
    modules = Modules({"docker": engine}, clock)
    await modules.look((committed(),))
    clock.advance(60.0)
    engine.used = Usage(memory_mb=80.0, cpu_s=1.0, tasks=5)
    asked["answers"] = {"looked": 3, "nan": 0, "empty": 0}
    ((_, figures, _),) = await modules.look((committed(),))

    assert not {"answers", "cpu_percent"} & set(figures)


async def test_an_empty_device_says_nothing_of_modules(asked):
    """No slot, no sample, no message."""
    assert await Modules({}, VirtualClock()).look(()) == []
    assert await gateway(Told(1, []), Told(1, [])) == [{}, {}]
    assert asked
    assert MAX_FIGURES >= 12
