"""Measurements are kept on the server: of each kind of hardware the newest, for whoever may see the module."""

import pytest

from fleet.client.local import kept_profiles
from fleet.client.local.profile import Profile, Run
from modules.errors import EdgefleetError
from modules.names import ModuleRef


def measured(per_second=200.0):
    runs = (
        Run(cpu=2.0, mean_ms=5.0, p95_ms=6.0, per_second=per_second, peak_mb=80.0),
        Run(cpu=2.0, memory_mb=64, problem="out of memory"),
    )
    return Profile(cpu=2.0, memory_gb=0.2, runs=runs)


def test_the_newest_of_each_hardware_is_kept(run, draft, fleet):
    """In the words of who measured; a second time on the same replaces the first."""
    ref = ModuleRef.parse(draft("measured"))
    assert run("modules", "profiles", ref) == []
    for hardware, rate in (("board a", 100.0), ("board b", 50.0), ("board a", 120.0)):
        kept_profiles.send(fleet, ref, hardware, measured(rate))
    found = run("modules", "profiles", ref)
    assert [(one["hardware"], one["runs"][0]["per_second"]) for one in found] == [("board a", 120.0), ("board b", 50.0)]
    assert found[0]["runs"][1]["problem"] == "out of memory"
    assert (found[0]["cpu"], found[0]["memory_gb"]) == (2.0, 0.2)


def test_only_a_module_that_is_there_has_measurements(fleet, draft):
    with pytest.raises(EdgefleetError, match="no such module"):
        kept_profiles.send(fleet, ModuleRef.parse("acme/none:1"), "board", measured())
    with pytest.raises(EdgefleetError):
        kept_profiles.send(fleet, ModuleRef.parse(draft("bounded")), "x" * 101, measured())


def test_this_machine_has_a_name_that_the_server_takes():
    assert 1 <= len(kept_profiles.here()) <= 100
    assert "cores" in kept_profiles.here()
