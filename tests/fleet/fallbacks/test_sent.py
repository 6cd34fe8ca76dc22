"""How many requests the devices of a policy sent to the cloud today, by their own word, beside what they may."""

import pytest
from sqlalchemy import insert

from fleet.fallbacks import policies, sent
from fleet.tables import telemetry_history
from modules import canonical
from modules.protocol.telemetry import GATEWAY, Sample, Telemetry

MIDNIGHT = 1_796_083_200.0
EVERY = ("dev-a", "dev-b", "dev-c")


@pytest.fixture
def fleet(fleet):
    fleet.now = MIDNIGHT + 7200
    ref = fleet.module()
    fleet.endpoint(ref)
    fleet.start(ref, devices=EVERY)
    return fleet


def tell(fleet, device, *counts, at=None, received=None, stream=GATEWAY, slot="digits"):
    """The device says what its gateway sent to the cloud, one sample for each count."""
    at = fleet.now - 60 if at is None else at
    samples = tuple(Sample(at=at, slot=slot, figures={"requests": 50.0, "fallback": float(one)}) for one in counts)
    said = Telemetry(device=device, stream=stream, number=1, issued=fleet.now, samples=samples)
    received = received or at or fleet.now
    row = {"device": device, "stream": stream, "received": received, "document": canonical.encode(said)}
    with fleet.database.write() as connection:
        connection.execute(insert(telemetry_history).values(**row))


def today(fleet, group="*"):
    with fleet.database.read() as connection:
        return sent.today(connection, fleet.now, policies.one(connection, "acme", "digits", group))


def test_what_devices_told_today_is_added_up_by_policy(fleet):
    """Each device counts for the policy that holds for it; who has used up its requests is counted apart."""
    fleet.put(terms={"requests_a_day": 10})
    fleet.put("site=berlin", terms={"requests_a_day": 8})
    tell(fleet, "dev-a", 3, 2)
    tell(fleet, "dev-a", 3)
    tell(fleet, "dev-b", 1)
    tell(fleet, "dev-c", 4)
    found = today(fleet, "site=berlin")
    assert (found["devices"], found["slots"], found["told"], found["sent"]) == (2, 2, 2, 9)
    assert (found["a_day"], found["spent"], found["whole"], found["since"]) == (8, 1, True, MIDNIGHT)
    assert found["most"] == [
        {"device": "dev-a", "slot": "digits", "sent": 8},
        {"device": "dev-b", "slot": "digits", "sent": 1},
    ]
    assert (today(fleet)["sent"], today(fleet)["spent"]) == (4, 0)


def test_what_is_not_of_today_or_of_the_slot_is_not_counted(fleet):
    """Yesterday's, another stream's and another slot's are not; nor those of a device with no word are zero told."""
    fleet.put()
    tell(fleet, "dev-b", 9, at=MIDNIGHT - 60)
    tell(fleet, "dev-a", 9, at=MIDNIGHT - 60, received=MIDNIGHT + 60)
    tell(fleet, "dev-a", 9, slot="other")
    tell(fleet, "dev-b", 9, stream="host")
    tell(fleet, "dev-c", 1, at=0.0)  # its clock is not set: it came today
    found = today(fleet)
    assert (found["sent"], found["told"], found["devices"], found["a_day"], found["spent"]) == (1, 2, 3, 0, 0)
    assert [one["device"] for one in found["most"]] == ["dev-c"]


def test_more_than_is_read_is_told_as_the_least(fleet, monkeypatch):
    monkeypatch.setattr(sent, "MESSAGES", 2)
    fleet.put()
    for device in EVERY:
        tell(fleet, device, 5)
    assert (today(fleet)["sent"], today(fleet)["whole"]) == (10, False)
    monkeypatch.setattr(sent, "MESSAGES", 3)
    assert (today(fleet)["sent"], today(fleet)["whole"]) == (15, True)
