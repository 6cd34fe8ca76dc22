"""What a device measures while everything around it goes away: kept within bounds, all of it arrives, each once."""

import contextlib
import secrets
import sqlite3
import tempfile
import time
from pathlib import Path

import msgspec
import pytest

from agent.telemetry.kept import Taken
from modules import canonical
from modules.protocol.report import Ack
from tests.parts.on_device import OnDevice
from tests.parts.system import TEAM, System

EVERY_S = 0.2


@pytest.fixture(scope="module")
def fleet():
    """Broker, server and keys; without an engine, for nothing is started here."""
    with tempfile.TemporaryDirectory(prefix="eft-") as folder:
        made = System(Path(folder))
        try:
            made.cli("login", made.server.url, "--token", made.server.token, "--ca", made.data.ca)
            made.cli("keys", "init", made.folder / "keys", "--team", TEAM, "--insecure-demo-keys")
            yield made
        finally:
            made.close()


class Measuring(OnDevice):
    """A device that measures its machine all the time."""

    def __init__(self, fleet, **settings) -> None:
        given = {"telemetry_every_s": str(EVERY_S), "telemetry_send_s": "0.5", "telemetry_streams": "host"} | settings
        super().__init__(fleet, f"dev-{secrets.token_hex(3)}", engine="/nonexistent.sock", **given)
        self.enroll()
        self.start()

    def kept(self) -> list[float]:
        """When what is on the disk was measured, oldest first."""
        with self._file() as db:
            rows = db.execute("SELECT sample FROM samples ORDER BY id").fetchall()
        return [msgspec.json.decode(row[0], type=Taken).wall for row in rows]

    def under_way(self) -> list[int]:
        with self._file() as db:
            return [row[0] for row in db.execute("SELECT number FROM pending ORDER BY number")]

    @contextlib.contextmanager
    def _file(self):
        file = self.state / "telemetry.db"
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)) as db:
            yield db

    def arrived(self) -> list[float]:
        """When what the server has was measured, in the order in which it came."""
        found = self.system.api(f"devices/{self.name}/telemetry?stream=host&since=0")
        return [one["at"] for one in found["history"]]

    def has_arrived(self, measured: list[float], within_s: float = 60.0) -> None:
        """Each of these is with the server, once."""
        self.until(
            lambda: (there := self.arrived()) and there[-1] >= measured[-1] - 0.01, "all has come", within_s=within_s
        )
        there = self.arrived()
        for at in measured:
            assert len([one for one in there if abs(one - at) < 0.02]) == 1, (at, there)
        assert there == sorted(there)
        assert len(set(there)) == len(there)

    def close(self) -> None:
        with contextlib.ExitStack() as each:
            each.callback(self.agent.stop)
            each.callback(self.gateway.stop)


@pytest.fixture
def device(fleet):
    with contextlib.ExitStack() as stack:

        def make(**settings):
            made = Measuring(fleet, **settings)
            stack.callback(made.close)
            return made

        yield make


@pytest.mark.long
def test_an_outage_of_the_broker_loses_nothing(fleet, device):
    """Without a broker samples are kept, and all of them arrive when it is back, each once."""
    edge = device()
    edge.until(edge.arrived, "the first figures are there")
    assert fleet.cli("telemetry", edge.name)["streams"][0]["samples"][0]["figures"]["memory_used_percent"] > 0
    fleet.kill_broker()
    edge.until(lambda: len(edge.kept()) > 40, "samples are kept")
    measured = edge.kept()
    fleet.start_broker()
    edge.has_arrived(measured)
    edge.until(lambda: len(edge.kept()) < 20, "what has arrived is deleted")

    shown = fleet.cli("telemetry", edge.name, "--since", "1h")
    assert len(shown["history"]) >= len(measured)
    assert shown["streams"][0]["dropped"] == 0


@pytest.mark.long
def test_what_has_no_room_is_dropped_and_told_of(fleet, device):
    """With little room, the oldest go; the file stays small, and the operator reads how many were dropped."""
    edge = device(telemetry_bytes=str(64 << 10), telemetry_every_s="0.1")
    edge.until(edge.arrived, "the first figures are there")
    fleet.kill_broker()
    edge.until(lambda: len(edge.kept()) > 20, "samples are kept")
    first = edge.kept()[0]
    edge.until(lambda: edge.kept()[0] > first, "the oldest has gone", within_s=120)
    assert (edge.state / "telemetry.db").stat().st_size < 160 << 10
    measured = edge.kept()
    fleet.start_broker()
    # Both connect at once: each would wait for up to half a minute, in which the oldest go.
    fleet.stop_server()
    fleet.start_server()
    edge.agent.kill()
    edge.agent.start()
    edge.has_arrived(measured[len(measured) * 2 // 3 :])

    edge.until(lambda: fleet.cli("telemetry", edge.name)["streams"][0]["dropped"], "it is told of")


def test_a_server_that_dies_before_it_commits_loses_nothing(fleet, device):
    """SIGKILL for server and agent: what the broker took and lost arrives all the same, and only then is deleted."""
    edge = device()
    edge.until(edge.arrived, "the first figures are there")
    fleet.kill_server()
    number = edge.until(edge.under_way, "a message is under way")
    edge.until(lambda: len(edge.kept()) > 10, "samples wait behind it")
    time.sleep(2)  # the broker has had it long ago
    assert edge.under_way()
    number, measured = edge.under_way(), edge.kept()
    edge.agent.kill()
    edge.agent.start()
    time.sleep(1)
    assert edge.under_way() == number, "nothing is deleted before it is acknowledged"
    fleet.start_server()
    edge.agent.kill()
    edge.agent.start()
    edge.has_arrived(measured)
    edge.until(lambda: number[0] not in edge.under_way(), "it is deleted now")


@pytest.mark.long
def test_a_receipt_of_another_epoch_deletes_nothing(fleet, device):
    """A receipt that was meant for a database before this one, or for no telemetry, is none."""
    edge = device()
    edge.until(edge.arrived, "the first figures are there")
    fleet.kill_server()
    edge.until(edge.under_way, "a message is under way")
    edge.until(lambda: len(edge.kept()) > 10, "samples wait behind it")
    number, measured = edge.under_way(), edge.kept()
    with fleet.wiretap(edge.name) as tap:
        for ack in (Ack(report=10**6), Ack(report=0, telemetry=10**6, epoch="0" * 16)):
            tap.say("ack", canonical.encode(ack), retain=False)
        time.sleep(1)
    assert edge.under_way() == number
    fleet.start_server()
    edge.agent.kill()
    edge.agent.start()
    edge.has_arrived(measured)
