"""``edgefleet telemetry``: what an operator reads of a device's figures, through a real server."""

import time

import msgspec
import pytest
from sqlalchemy import insert
from typer.testing import CliRunner

from fleet.client.cli import app
from fleet.client.screen import when
from fleet.db import Database
from fleet.tables import devices, telemetry, telemetry_history
from modules.names import DeviceId
from modules.protocol.telemetry import Sample, Telemetry

# An hour ago: the server forgets what is older than a week.
NOW = float(int(time.time()) - 3600)
SAMPLES = (
    Sample(at=NOW - 60, slot="digits", figures={"memory_mb": 61.5, "requests": 123456789.0}),
    Sample(at=NOW, slot="digits", figures={"memory_mb": 62.5, "requests": 123456789.0}),
    Sample(at=0.0, figures={"up": 1.0}),
)


@pytest.fixture(scope="module")
def server(server):
    """A device that has measured, and one that has not."""
    database = Database.at(server.data.database)
    blank = {"labels": {}, "certificate": "", "public_key": "", "enrolled": NOW - 9e5, "online": True, "boot": 1}
    blank |= {"facts_number": 0, "report_number": 0, "order_counter": 0, "order_published": 0}
    said = Telemetry(device=DeviceId("dev-1"), stream="modules", number=1, issued=NOW, dropped=7, samples=SAMPLES)
    row = {"device": "dev-1", "stream": "modules", "received": NOW, "document": msgspec.json.encode(said)}
    with database.write() as connection:
        connection.execute(insert(devices), [blank | {"id": name} for name in ("dev-1", "dev-2")])
        connection.execute(insert(telemetry).values(**row, number=1, day=0, day_bytes=0))
        connection.execute(insert(telemetry_history).values(**row))
    database.close()
    return server


@pytest.fixture
def shown(run):
    """The same command as a person sees it."""

    def look(*words):
        assert run("telemetry", *words)
        done = CliRunner().invoke(app, ["telemetry", *words], env={"COLUMNS": "200"})
        return " ".join(done.output.split())

    return look


def test_the_newest_figures_are_shown_in_words(shown):
    """The last sample of each slot, with the time it was taken, and what the device had no room for."""
    said = shown("dev-1")

    assert f"modules digits {when(NOW)} memory_mb 62.5, requests 123456789" in said
    assert f"before {when(NOW)} up 1" in said
    assert "61.5" not in said
    assert "modules: it had no room for 7 samples" in said


def test_a_history_has_all_samples(run, shown):
    """With --since all that came since; of a stream that it does not have, nothing."""
    assert "61.5" in shown("dev-1", "--since", "2h")
    assert len(run("telemetry", "dev-1", "--since", "2h")["history"]) == 3
    assert run("telemetry", "dev-1", "--since", "30m")["history"] == []
    assert run("telemetry", "dev-1", "--stream", "host")["streams"] == []


def test_a_device_without_telemetry_is_no_error(shown):
    """It has sent none yet."""
    assert "It has sent none yet." in shown("dev-2")


@pytest.mark.parametrize(
    "words", [("dev-none",), ("dev-1", "--since", "soon"), ("../x",), ("dev-1", "--stream", "x" * 99)]
)
def test_what_cannot_be_asked_is_refused(run, words):
    """No such device, no such time: said so."""
    assert run("telemetry", *words, code=1)["error"]["message"]
