"""Hardware that comes back under its old name: by an operator's word, once; history and order numbers go on."""

import asyncio
import contextlib

import aiomqtt
import pytest
from sqlalchemy import select, update

from fleet.refusals import JoinExpired, JoinSpent, Missing, NameRemoved, NameTaken
from fleet.removal import remove_device
from fleet.revocation import revoke
from fleet.tables import certificates, devices
from modules import canonical
from modules.names import DeviceId
from modules.protocol.enrollment import EnrollPending, JoinBundle
from tests.doubles.device import WAIT_S, Device, join
from tests.doubles.door import Door, new_key
from tests.doubles.publisher import checked
from tests.parts.pace import stretched

NAME = DeviceId("dev-a")


@pytest.fixture
def door(database):
    return Door(database)


def row(door):
    with door.database.read() as connection:
        return connection.execute(select(devices).where(devices.c.id == NAME)).one()


def serials(door):
    """Of all certificates of the device, whether each is revoked, oldest first."""
    with door.database.read() as connection:
        found = connection.execute(select(certificates.c.serial, certificates.c.revoked)).all()
    return {one.serial: one.revoked is not None for one in found}


def ordered(door, counter=7):
    with door.database.write() as connection:
        changed = {"order_counter": counter, "order_published": counter, "labels": {"site": "berlin"}}
        connection.execute(update(devices).values(**changed, epoch="0" * 16, report_number=9, last_seen=1.0))


def remove(door):
    with door.database.write() as connection:
        remove_device(connection, door.now, NAME, by="token 1 (admin)")


def test_a_removed_name_is_refused_to_every_ordinary_bundle(door):
    """The same key, too: who was taken out comes back by an operator's word alone."""
    key = new_key()
    door.ask(key, door.bundle(), NAME)
    remove(door)
    for one in (key, new_key()):
        with pytest.raises(NameRemoved, match="taken out of the fleet"):
            door.ask(one, door.bundle(), NAME)
    assert row(door).removed is not None
    assert all(serials(door).values())


@pytest.mark.parametrize("removed", [True, False])
def test_other_hardware_takes_the_name_once(door, removed):
    """Certificates of before are revoked, orders count on, what it said counts anew; the next key is refused."""
    door.ask(new_key(), door.bundle(), NAME)
    ordered(door)
    if removed:
        remove(door)
    before, (old,) = row(door), serials(door)
    token = door.bundle(name=NAME, readmit=True)
    assert row(door) == before  # nothing has happened yet
    key = new_key()
    taken = door.asked(key, token, NAME)
    assert taken.revoked
    after = row(door)
    assert serials(door).pop(old)
    assert sorted(serials(door).values()) == [False, True]
    assert (after.order_counter, after.removed, after.parting) == (7, None, True)
    assert (after.epoch, after.report_number, after.last_seen) == ("", 0, None)
    assert after.labels == ({} if removed else {"site": "berlin"})
    assert door.ask(key, token) == taken.answer
    with pytest.raises(JoinSpent):
        door.ask(new_key(), token)
    assert "enrolled" in {one["kind"] for one in door.events()}


def test_a_readmission_ends_and_opens_no_other_name(door):
    """After its time the name is as closed as before; a device that never was cannot come back."""
    door.ask(new_key(), door.bundle(), NAME)
    token = door.bundle(name=NAME, readmit=True)
    with pytest.raises(NameTaken):
        door.ask(new_key(), door.bundle(), NAME)
    door.now += 61
    with pytest.raises(JoinExpired):
        door.ask(new_key(), token, NAME)
    with pytest.raises(Missing):
        door.bundle(name=DeviceId("dev-none"), readmit=True)
    assert list(serials(door).values()) == [False]


def test_a_readmission_can_wait_for_approval_and_changes_nothing_before(door):
    """What has the name keeps it until the fingerprint is approved."""
    first = door.ask(new_key(), door.bundle(), NAME)
    key, token = new_key(), door.bundle(name=NAME, readmit=True, approve=True)
    waits = door.ask(key, token)
    assert isinstance(waits, EnrollPending)
    assert row(door).certificate == first.certificate
    assert list(serials(door).values()) == [False]
    assert door.approve(NAME, waits.fingerprint)
    assert door.ask(key, token).certificate != first.certificate
    assert sorted(serials(door).values()) == [False, True]


def test_a_certificate_that_is_revoked_is_not_given_again(door):
    """Not even to its own key, which gets another if it may join."""
    key, token = new_key(), door.bundle()
    first = door.ask(key, token, NAME)
    with door.database.write() as connection:
        revoke(connection, door.now, NAME)
    assert door.ask(key, token, NAME).certificate != first.certificate


async def connects(device):
    with contextlib.suppress(Exception):
        async with asyncio.timeout(stretched(5)), device.connected(will=False):
            return True
    return False


async def until(look):
    async with asyncio.timeout(WAIT_S):
        while not await look():  # noqa: ASYNC110 - what it waits for is another process
            await asyncio.sleep(0.1)


@pytest.mark.long
@pytest.mark.needs("mosquitto")
async def test_what_had_the_name_is_cut_off_within_seconds(fleet, tmp_path):
    """The running session ends, its certificate connects no more; the other hardware gets the order and is heard."""
    _, http, owner = fleet
    old = Device(tmp_path / "old", await asyncio.to_thread(join, http), "dev-rma")
    checked(await asyncio.to_thread(old.enrol))
    manifest = await asyncio.to_thread(owner.upload, "digits", {"model.onnx": b"a graph"})
    await asyncio.to_thread(owner.sign, manifest)
    ended = asyncio.Event()

    async def stay():
        with contextlib.suppress(aiomqtt.MqttError):
            async with old.connected():
                await old.send_facts()
                await old.acknowledgement(await old.report([], order=0))
                async for _ in old.client.messages:
                    pass
        ended.set()

    def shown():
        return checked(http.get("/api/v1/devices/dev-rma")).json()

    async with asyncio.TaskGroup() as group:
        group.create_task(stay())
        await until(lambda: asyncio.to_thread(lambda: shown()["report"]))
        wish = {"module": str(manifest.ref), "slot": "digits", "engine": "process", "devices": ["dev-rma"]}
        checked(await asyncio.to_thread(lambda: http.post("/api/v1/rollouts", json=wish)))
        await until(lambda: asyncio.to_thread(lambda: shown()["order"]["counter"]))
        answer = await asyncio.to_thread(http.post, "/api/v1/devices/dev-rma/readmit", json={"expires_s": 600})
        bundle = canonical.decode(checked(answer).content, JoinBundle, limit=1 << 20, what="join bundle")
        new = Device(tmp_path / "new", bundle, "dev-rma")
        assert not ended.is_set()
        checked(await asyncio.to_thread(new.enrol))
        async with asyncio.timeout(WAIT_S):
            await ended.wait()
    assert not await connects(old)
    await until(lambda: connects(new))
    async with new.connected(), asyncio.timeout(WAIT_S):
        order = await new.next_order(owner.director_keys)
        assert set(order.slots) == {"digits"}
        await new.send_facts()
        number = await new.report([], order=order.counter)
        await new.acknowledgement(number)
    said = (await asyncio.to_thread(shown))["report"]
    assert (said["number"], said["order"]) == (number, order.counter)
    kinds = [one["kind"] for one in checked(await asyncio.to_thread(http.get, "/api/v1/events")).json()]
    assert "readmission" in kinds
