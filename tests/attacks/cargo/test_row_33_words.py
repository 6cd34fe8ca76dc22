"""Row 33: what modules and devices say, meant for a terminal, a log or a page of figures."""

import json

import pytest
from msgspec.structs import replace

from modules import canonical
from modules.protocol.telemetry import Sample, Telemetry
from modules.signing import TELEMETRY_TYPE, sign, signer_from_pem
from tests.doubles.device import HOST_FACTS, Device, join
from tests.parts.programs import run

pytestmark = pytest.mark.long

WORDS = "\x1b[2J\x1b]0;title\x07\r\nWARNING agent.loop: all is well\r\n\u202egnp.exe\x00\x9b1m"
SLOT = "loud"
SCRIPT = f"""
import json, sys
WORDS = {WORDS!r}
def init():
    print(WORDS, flush=True)
    print("x" * 1_000_000, flush=True)
def run(data):
    asked = json.loads(data)
    if asked.get("x") == "loud":
        print(WORDS, flush=True)
        sys.stderr.write(WORDS)
        sys.stderr.flush()
        return {{"y": float("nan"), "words": WORDS, WORDS: [1e400]}}
    if asked.get("x") == "fail":
        raise ValueError(WORDS)
    return {{"y": 1.0}}
"""


def plain(text):
    """Lines that a person can read, none of which begins as another program's would."""
    return all(line.isprintable() and not line.startswith("WARNING agent.loop") for line in text.split("\n"))


@pytest.fixture(scope="module")
def loud(edge, hold):
    ref = hold.script("loud", SCRIPT)
    end = hold.brought(SLOT, ref)
    assert end.phase == "committed", end
    yield ref
    hold.empty(SLOT)


def test_row_33_a_modules_words_reach_no_terminal(edge, loud):
    """What it writes and answers is data: the logs of agent and gateway, the device's status and doctor, and the log
    that an operator asks for are printable lines of bounded length; the answer's NaN is the application's to judge, and
    nothing of it is in a figure."""
    device = edge.device
    for asked in ("loud", "fail"):
        got = device.score(SLOT, json.dumps({"x": asked}).encode())
        assert "\n" not in str(got.headers.get("x-edgefleet-module"))
    for program in (device.agent, device.gateway):
        assert plain(program.said()), program.said()
    assert plain(device.command("status"))

    said = edge.system.cli("devices", "logs", edge.name, SLOT)
    shown = run("fleet.client", "devices", "logs", edge.name, SLOT, environment=edge.system.home)
    assert "all is well" in json.dumps(said)
    assert all(line.isprintable() for line in shown.split("\n"))
    assert max(map(len, shown.splitlines())) <= 4100
    edge.holds()


def test_row_33_the_servers_figures_have_no_label_of_a_devices_making(edge, loud):
    """Whatever devices call themselves and their slots, the page of figures has the same series, and finite numbers."""
    with edge.system.server.client() as http:
        page = http.get("/metrics").raise_for_status().text
    assert plain(page)
    assert edge.name not in page
    assert SLOT not in page
    assert len(page.splitlines()) < 2000
    edge.holds()


async def test_row_33_a_devices_facts_and_telemetry_are_taken_as_data_or_not_at_all(edge, tmp_path):
    """Control characters, a thousand labels, NaN and numbers beyond all bounds: what the protocol does not allow is an
    event and changes nothing, what it allows is shown as one printable line."""
    system = edge.system
    with system.server.client() as http:
        rogue = Device(tmp_path / "rogue", join(http), "dev-loud")
        assert rogue.enrol().is_success
    async with rogue.connected():
        await rogue.send_facts(replace(HOST_FACTS, cpu_model=WORDS))
        figures = {f"label_{number}": 1.0 for number in range(1000)}
        for number, document in enumerate(
            (
                {"samples": [{"at": 0, "figures": figures}]},
                {"samples": [{"at": 0, "figures": {WORDS: 1.0}}]},
                {"samples": [{"at": 0, "figures": {"load": 1e308 * 10}}]},
                {"stream": WORDS, "samples": [{"at": 0, "figures": {"load": 1.0}}]},
            ),
            start=1,
        ):
            good = Telemetry(
                device=rogue.name,
                stream="host",
                number=number,
                issued=1.0,
                samples=(Sample(at=1.0, figures={"load": 1.0}),),
            )
            whole = json.loads(canonical.encode(good)) | document
            data = json.dumps(whole).encode()
            await rogue.client.publish(rogue.topics.telemetry(rogue.name, "host"), _signed(rogue, data), qos=1)
        await rogue.report((), order=0)
        await rogue.acknowledgement(rogue.number)
    events = [one for one in system.api("events") if one["device"] == rogue.name]
    assert all(one["message"].isprintable() for one in events)
    assert {"bad-message"} <= {one["kind"] for one in events}
    assert "figures" not in json.dumps(system.api(f"devices/{rogue.name}/telemetry"))
    device = system.api(f"devices/{rogue.name}")
    shown = run("fleet.client", "devices", "show", rogue.name, environment=system.home)
    listed = run("fleet.client", "events", environment=system.home)
    assert plain(shown)
    assert plain(listed)
    assert plain(system.server.log())
    assert "nan" not in json.dumps(device).lower()
    edge.holds()


def _signed(device, data):
    return sign(data, payload_type=TELEMETRY_TYPE, signers=[signer_from_pem(device.key_pem)])
