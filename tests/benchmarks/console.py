"""``make bench NAME=console``: what the web console costs a server that has a large fleet and much to do.

100 000 devices as rows of SQLite's, 1 000 reports a second through a real mosquitto, signed and acknowledged as ever,
and 20 pages of the console open as tabs of one Chromium, each live. First every page of the console is opened with
nothing else to do; then the load alone, then the same load with the tabs open, then while every page is opened in a
second Chromium and timed until it is drawn and a click would be answered, then alone again. The first Chromium stands
back behind all other programs (nice 19): people look on machines of their own. What an opening takes is told apart by
its stages (tests/parts/page_stages.py), and what CPU it costs. ``ingest_slowdown`` is of the reports that are
acknowledged within the phase. ``--devices``, ``--rate``, ``--browsers`` and ``--seconds`` make it smaller. The last
line of the output is one JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives import serialization
from playwright.sync_api import Browser, BrowserContext
from sqlalchemy import select

from fleet.tables import devices
from tests.benchmarks.steady_load import Plan
from tests.fleet.console.conftest import PASSWORD, person
from tests.parts import page_stages
from tests.parts.browser import browser, log_in
from tests.parts.fleet_server import FleetServer, fleet_server, initialise
from tests.parts.large_fleet import SITES, Grown, grow
from tests.parts.mosquitto import Broker, broker
from tests.parts.page_stages import Stages
from tests.parts.presence import program
from tests.parts.warm import ROOT
from tests.screenshots.__main__ import Sight, sights
from tests.screenshots.showcase import Named

TARGETS: Final = {"slowest_page_s": 1.5, "ingest_slowdown": 0.15, "lost_reports": 0}
_TICK: Final = os.sysconf("SC_CLK_TCK")
# What people have open all day, so many of each; of more browsers than these the same again.
_OPEN: Final = ("/", "/devices", "/rollouts/{rollout}", "/devices/{device}", "/", "/devices?state=offline", "/rollouts")
# How often each page is timed: the middle one of them counts.
_TIMES: Final = 5
# How much longer than without browsers the load lasts while pages are timed, so that each is opened so often.
_TIMED: Final = 5
# There is no such thing in this fleet; and who has logged in sees no form for it.
_LEFT_OUT: Final = frozenset({"endpoints-name", "uploads-team-digest", "login"})
_SETTLES_S: Final = 180.0
_LOOK_S: Final = 2.0
# Of a core: what a server that has nothing to do takes at most.
_QUIET: Final = 0.15
_PAGE_MS: Final = 30_000


Load = Callable[["Phase", float], AbstractContextManager[None]]
# What was found each time, by the page's name.
Timed = dict[str, list[Stages]]


class Phase(msgspec.Struct):
    """What was found while a load lasted: as it says itself, and the server's share of a core."""

    name: str
    load: dict[str, Any] = {}
    cores: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench NAME=console", description=__doc__)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--browsers", type=int, default=20)
    parser.add_argument("--rate", type=int, default=1000, help="reports a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the load lasts without browsers")
    given = parser.parse_args()
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="edgefleet-bench-")))
        data = initialise(folder / "data")
        person(data, "admin", "admin")
        grown = grow(data, given.devices)
        plan = _plan(grown, data.root, given.rate)
        named = Named(
            device=grown.names[0], rollout=str(grown.rollout), endpoint="", team=grown.new.team, name=grown.new.name,
            version=grown.new.version, to=grown.old.version, digest="",
        )  # fmt: skip
        grown.rows.database.close()
        running = parts.enter_context(broker(folder / "broker", data, connections=100, memory_mb=1024))
        server = parts.enter_context(fleet_server(data, running, console="true", session_idle_s="3600"))
        _say(f"{given.devices} devices are in the database, {running.process.pid} is the broker")
        _settled(server)
        loaded = partial(_loaded, folder, plan, running, server)
        trusting = page_stages.trusting(data.server)
        chromium = parts.enter_context(browser(trusting))
        wanted = [one for one in sights(named) if one.name not in _LEFT_OUT]
        quiet, timed = Timed(), Timed()
        spent, began = _cpu(server.process.pid), time.monotonic()
        with _profile(chromium, server) as one_person:
            _open_each(one_person, wanted, quiet, _TIMES)
        openings = sum(map(len, quiet.values()))
        server_cpu = (_cpu(server.process.pid) - spent) / openings
        _say(f"nothing else to do: {openings} pages opened in {time.monotonic() - began:.0f} s")
        phases = [_lasting(loaded, "alone", given.seconds)]
        # Who looks has a machine of their own: here theirs get what the server and the broker leave over.
        polite = chromium.browser_type.launch(executable_path=_polite(folder), args=["--no-sandbox", trusting])
        made = parts.enter_context(_profile(polite, server))
        for at in range(given.browsers):
            _open(made, _OPEN[at % len(_OPEN)].format_map(named._asdict()))
        _say(f"{given.browsers} pages are open")
        phases.append(_lasting(loaded, "with pages open", given.seconds))
        with _profile(chromium, server) as other:
            phases.append(_timing(loaded, other, wanted, timed, _TIMED * given.seconds))
        polite.close()
        phases.append(_lasting(loaded, "alone", given.seconds))
    return _end(given, phases, timed, quiet, server_cpu)


def _plan(grown: Grown, data: Path, rate: int) -> Plan:
    """What each kind of device said last, and its key."""
    keys, reports = [], []
    for site in SITES:
        key = grown.rows.keys[f"first-{site}"]
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        keys.append(key.private_bytes(*form).decode())
        with grown.rows.database.read() as connection:
            asked = select(devices.c.report).where(devices.c.id == f"first-{site}")
            reports.append(bytes(connection.scalars(asked).one()))
    return Plan(
        port=0, data=str(data), rate=rate, seconds=0.0, number=int(time.time() * 1000), names=tuple(grown.names),
        keys=tuple(keys), reports=tuple(reports),
    )  # fmt: skip


@contextmanager
def _profile(chromium: Browser, server: FleetServer) -> Iterator[BrowserContext]:
    """Somebody who has logged in, with as many tabs as they like."""
    made = chromium.new_context(base_url=server.url, viewport={"width": 1440, "height": 900})
    made.set_default_timeout(_PAGE_MS)
    page = made.new_page()
    log_in(page, "admin", PASSWORD)
    page.close()
    yield made
    made.close()


def _open(made: BrowserContext, address: str, *, leave: bool = False) -> Stages:
    """An address in a tab of its own."""
    page = made.new_page()
    page_stages.watch(page)
    found = page_stages.visit(page, address)
    if leave:
        page.close()
    return found


def _open_each(made: BrowserContext, wanted: list[Sight], found: Timed, times: int, ends: float = float("inf")) -> None:
    """Every page so many times, or until then, though each once."""
    for _ in range(times):
        for one in wanted:
            if time.monotonic() < ends or one.name not in found:
                found.setdefault(one.name, []).append(_open(made, one.address, leave=True))


@contextmanager
def _loaded(
    folder: Path, plan: Plan, running: Broker, server: FleetServer, phase: Phase, seconds: float
) -> Iterator[None]:
    """The load, for so long; what it found stands in the phase afterwards."""
    file = folder / "plan.json"
    told = msgspec.structs.replace(plan, port=running.service_port, seconds=seconds, number=int(time.time() * 1000))
    file.write_bytes(msgspec.json.encode(told))
    command = [sys.executable, "-m", "tests.benchmarks.steady_load", str(file)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        assert load.stdin
        assert load.stdout
        assert load.stdout.readline().strip() == "ready"
        began, spent = time.monotonic(), _cpu(server.process.pid)
        load.stdin.write("go\n")
        load.stdin.flush()
        yield
        said = load.stdout.readline()
        phase.cores = round((_cpu(server.process.pid) - spent) / (time.monotonic() - began), 3)
        phase.load = json.loads(said)
    _say(f"{phase.name}: {phase.load}, the server's process takes {phase.cores} of a core")


def _lasting(loaded: Load, name: str, seconds: float) -> Phase:
    phase = Phase(name)
    with loaded(phase, seconds):
        pass
    return phase


def _timing(loaded: Load, made: BrowserContext, wanted: list[Sight], timed: Timed, seconds: float) -> Phase:
    """Every page is opened some times, as long as the load lasts."""
    phase = Phase("with pages open, and more being opened")
    with loaded(phase, seconds):
        _open_each(made, wanted, timed, _TIMES, time.monotonic() + seconds)
    return phase


def _polite(folder: Path) -> Path:
    """The same browser, which stands back behind every other program.

    It has a session of its own, and Linux shares CPU among sessions first (autogroup, sched(7)): the session is put
    back as well, for ``nice`` orders only the programs within one.
    """
    script = folder / "chromium"
    back = "[ ! -w /proc/self/autogroup ] || echo 19 >/proc/self/autogroup"
    script.write_text(f'#!/bin/sh\n{back}\nexec nice -n 19 {program("chromium")} "$@"\n')
    script.chmod(0o700)
    return script


def _settled(server: FleetServer) -> None:
    """A new broker is given every order first: that is no part of what is measured."""
    ends, spent = time.monotonic() + _SETTLES_S, _cpu(server.process.pid)
    while time.monotonic() < ends:
        time.sleep(_LOOK_S)
        now = _cpu(server.process.pid)
        if now - spent < _QUIET * _LOOK_S:
            return
        spent = now
    raise AssertionError("the server does not come to rest")


def _end(given: argparse.Namespace, phases: list[Phase], timed: Timed, quiet: Timed, server_cpu: float) -> int:
    busy, calm = ({name: page_stages.middle(took) for name, took in found.items()} for found in (timed, quiet))
    _table("under load, with the other pages open", busy)
    _table("with nothing else to do", calm)
    alone = [one for one in phases if one.name == "alone"]
    browsed = phases[1]
    figures = {
        "slowest_page_s": max(one.whole_s for one in busy.values()),
        f"devices_page_s_{given.devices}": busy["devices"].whole_s,
        "slowest_page_s_quiet": max(one.whole_s for one in calm.values()),
        "devices_page_s_quiet": calm["devices"].whole_s,
        **_shares(busy, ""),
        **_shares(calm, "_quiet"),
        "server_cpu_s_of_a_page": round(server_cpu, 3),
        "browser_cpu_s_of_a_page": _typical(calm, "cpu_s"),
        "ingest_slowdown": round(max(0.0, 1 - browsed.load["per_s"] / _mean(alone, "per_s")), 3),
        "lost_reports": sum(one.load["lost"] for one in phases),
        "lag_p50_s_alone": _mean(alone, "lag_p50_s"),
        "lag_p50_s_browsers": browsed.load["lag_p50_s"],
        "server_cores_alone": round(statistics.mean(one.cores for one in alone), 3),
        "server_cores_browsers": browsed.cores,
    }
    targets = {name: {"at_most": most, "met": figures[name] <= most} for name, most in TARGETS.items()}
    for name, found in targets.items():
        print(f"  {'met' if found['met'] else 'MISSED'}: {name} {figures[name]}, at most {found['at_most']}")
    print(json.dumps({"benchmark": "console", "figures": figures, "targets": targets}))
    return 0 if all(one["met"] for one in targets.values()) else 1


def _shares(found: dict[str, Stages], when: str) -> dict[str, float]:
    """Of the middle page: what it waits for the server, and what the browser does."""
    return {
        f"server_share_s{when}": round(statistics.median(one.server for one in found.values()), 3),
        f"browser_share_s{when}": round(statistics.median(one.browser for one in found.values()), 3),
    }


def _typical(found: dict[str, Stages], stage: str) -> float:
    return round(statistics.median(getattr(one, stage) for one in found.values()), 3)


def _table(when: str, found: dict[str, Stages]) -> None:
    print(f"\nseconds until a page can be used, {when}:")
    print(f"  {'':32} {'whole':>7} {'server':>7} {'browser':>7}   {' '.join(f'{one:>9}' for one in page_stages.SHOWN)}")
    for name, one in sorted(found.items(), key=lambda item: -item[1].whole_s):
        stages = " ".join(f"{getattr(one, stage):9.3f}" for stage in page_stages.SHOWN)
        print(f"  {name:32} {one.whole_s:7.3f} {one.server:7.3f} {one.browser:7.3f}   {stages}")


def _mean(phases: list[Phase], figure: str) -> float:
    return round(statistics.mean(one.load[figure] for one in phases), 3)


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has had, its own and the kernel's for it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
