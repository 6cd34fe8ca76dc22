"""What this host is: the hardware's findings, with the engines that answer."""

from agent.host import Host
from tests.doubles.clock import VirtualClock
from tests.doubles.engine import SimulatedEngine


async def test_only_engines_that_answer_are_facts(tmp_path):
    """A dead engine is not among the facts, and is again when it answers."""
    up, down = SimulatedEngine(VirtualClock()), SimulatedEngine(VirtualClock(), "process")
    down.down = True
    host = Host({"docker": up, "process": down}, tmp_path)
    assert host.facts.platform == "unknown"

    assert [engine.name for engine in (await host.look()).engines] == ["docker"]
    assert host.facts.platform.startswith("linux/")
    down.down = False
    assert [engine.name for engine in (await host.look()).engines] == ["docker", "process"]
