"""Keys that wait for an operator: no certificate before the word, and the word is about a key, not about a name."""

import pytest
from cryptography.hazmat.primitives import serialization
from sqlalchemy import select, update

from fleet import joins, pending
from fleet.refusals import Conflict, JoinSpent, KeyRejected, Missing, NameTaken, TooMany
from fleet.tables import certificates, devices
from modules.errors import Invalid
from modules.fingerprint import fingerprint, heard, spoken
from modules.names import DeviceId
from modules.protocol.enrollment import EnrollAnswer, EnrollPending
from tests.doubles.door import Door, new_key

NAME = DeviceId("dev-a")


@pytest.fixture
def door(database):
    return Door(database)


def mark_of(key):
    der = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return fingerprint(key.public_key().public_bytes(*der))


def waiting(door):
    with door.database.read() as connection:
        return pending.view_all(connection, door.now)


def left(door):
    with door.database.read() as connection:
        return [one["uses_left"] for one in joins.view_all(connection)]


def reject(door, name=NAME, reason=""):
    with door.database.write() as connection:
        pending.reject(connection, pending.waiting(connection, door.now, name), by="token 1 (admin)", reason=reason)


def nobody_joined(door):
    with door.database.read() as connection:
        rows = [connection.execute(select(table)).all() for table in (devices, certificates)]
    return rows == [[], []]


def test_a_key_waits_with_the_fingerprint_that_the_device_shows(door):
    """It gets no certificate; the operator sees its fingerprint, the name it asked for, from where and since when."""
    key, token = new_key(), door.bundle(approve=True)
    answer = door.ask(key, token, NAME)
    assert isinstance(answer, EnrollPending)
    assert answer.fingerprint == mark_of(key)
    (one,) = waiting(door)
    assert (one["name"], one["fingerprint"], one["address"], one["since"]) == (
        NAME, mark_of(key), "192.0.2.1", pytest.approx(door.now),
    )  # fmt: skip
    assert nobody_joined(door)
    assert "enrolment-waits" in {one["kind"] for one in door.events()}


def test_an_approved_key_fetches_its_certificate_when_it_asks_again(door):
    """With the same bundle, even after the bundle's own time; it costs one use, and asking again costs none."""
    key, token = new_key(), door.bundle(approve=True, uses=2, labels={"site": "berlin"})
    door.ask(key, token, NAME)
    assert door.ask(key, token, NAME).fingerprint == mark_of(key)
    door.approve(NAME, mark_of(key))
    assert waiting(door) == []
    assert left(door) == [1]
    door.now += 120  # the bundle held for a minute
    answers = [door.ask(key, token, NAME) for _ in range(2)]
    assert isinstance(answers[0], EnrollAnswer)
    assert answers[0] == answers[1]
    with door.database.read() as connection:
        assert connection.scalar(select(devices.c.labels)) == {"site": "berlin"}
    assert ("enrolled", "token 1 (admin)") in {(one["kind"], one["by"]) for one in door.events()}


def test_another_fingerprint_approves_nothing(door):
    """Whoever compares is asked to be exact: one digit off, or half of it, and the key waits on."""
    key, token = new_key(), door.bundle(approve=True)
    door.ask(key, token, NAME)
    with pytest.raises(Conflict, match="another fingerprint"):
        door.approve(NAME, mark_of(new_key()))
    with pytest.raises(Missing):
        door.approve(DeviceId("dev-b"), mark_of(key))
    assert nobody_joined(door)
    assert len(waiting(door)) == 1


@pytest.mark.parametrize("text", ["", "ab12", "x" * 64, "0" * 63, "0" * 65])
def test_half_a_fingerprint_is_none(text):
    """A part of one could be made to match by trying keys."""
    with pytest.raises(Invalid, match="whole fingerprint"):
        heard(text)


def test_a_fingerprint_may_be_typed_as_it_is_read():
    """In groups, with colons, in capitals, on two lines."""
    mark = mark_of(new_key())
    colons = ":".join(mark[start : start + 2] for start in range(0, 64, 2)).upper()
    assert {heard(text) for text in (mark, spoken(mark), colons, f" {mark[:32]}\n{mark[32:]} ")} == {mark}


def test_a_rejected_key_stays_rejected(door):
    """With every bundle; it reads the reason. Its use comes back, and another key may have the name."""
    key, token = new_key(), door.bundle(approve=True)
    door.ask(key, token, NAME)
    assert left(door) == [0]
    reject(door, reason="not ours")
    assert left(door) == [1]
    for bundle in (token, door.bundle()):
        with pytest.raises(KeyRejected, match="not ours"):
            door.ask(key, bundle, NAME)
    door.now += 366 * 86400
    with pytest.raises(KeyRejected):
        door.ask(key, door.bundle(), DeviceId("dev-b"))
    assert nobody_joined(door)
    door.ask(new_key(), door.bundle(approve=True), NAME)


def test_no_more_wait_than_may_join(door, monkeypatch):
    """A waiting key keeps a use of its bundle; and there is a bound for all bundles together."""
    token = door.bundle(approve=True)
    door.ask(new_key(), token, NAME)
    with pytest.raises(JoinSpent):
        door.ask(new_key(), token, DeviceId("dev-b"))
    monkeypatch.setattr(pending, "MOST", 2)
    door.ask(new_key(), door.bundle(approve=True), DeviceId("dev-b"))
    with pytest.raises(TooMany, match="wait for approval already"):
        door.ask(new_key(), door.bundle(approve=True), DeviceId("dev-c"))
    assert [one["name"] for one in waiting(door)] == ["dev-a", "dev-b"]


def test_whoever_waits_too_long_waits_no_more(door):
    """Nobody can approve it then, its use comes back, and it may ask anew."""
    key, token = new_key(), door.bundle(approve=True, life_s=10**6)
    door.ask(key, token, NAME)
    door.now += 3601
    assert waiting(door) == []
    with pytest.raises(Missing):
        door.approve(NAME, mark_of(key))
    door.ask(new_key(), token, NAME)
    assert left(door) == [0]


def test_one_key_waits_under_a_name(door):
    """A second one is refused, so that an operator never has to tell two of the same name apart."""
    door.ask(new_key(), door.bundle(approve=True), NAME)
    with pytest.raises(NameTaken, match="waits for approval under this name"):
        door.ask(new_key(), door.bundle(approve=True), NAME)


def test_a_name_that_was_taken_meanwhile_is_not_approved(door):
    """Another device has joined under it: the one that waits is refused, and the other keeps its key."""
    key = new_key()
    door.ask(key, door.bundle(approve=True), NAME)
    other = door.ask(new_key(), door.bundle(), NAME)
    with pytest.raises(NameTaken):
        door.approve(NAME, mark_of(key))
    with door.database.read() as connection:
        assert connection.scalar(select(devices.c.certificate)) == other.certificate


def test_a_bundle_that_is_taken_back_takes_its_waiting_keys_along(door):
    """Whoever waits under it cannot be approved any more."""
    key, token = new_key(), door.bundle(approve=True)
    door.ask(key, token, NAME)
    with door.database.write() as connection:
        joins.revoke(connection, door.now, joins.view_all(connection)[0]["id"])
    with pytest.raises(Missing):
        door.approve(NAME, mark_of(key))
    assert nobody_joined(door)


def test_the_servers_setting_decides_where_a_bundle_says_nothing(database):
    """With approve_joins everybody waits, but whose bundle says otherwise."""
    door = Door(database, approve=True)
    assert isinstance(door.ask(new_key(), door.bundle()), EnrollPending)
    assert isinstance(door.ask(new_key(), door.bundle(approve=False)), EnrollAnswer)


def test_a_key_that_brings_another_bundle_waits_with_that_one(door):
    """For whatever name; the use of the first comes back, and an operator sees the key once."""
    key = new_key()
    door.ask(key, door.bundle(approve=True), NAME)
    answer = door.ask(key, door.bundle(approve=True), DeviceId("dev-b"))
    assert (answer.device, answer.fingerprint) == ("dev-b", mark_of(key))
    assert [one["name"] for one in waiting(door)] == ["dev-b"]
    assert left(door) == [0, 1]
    with pytest.raises(Missing):
        door.approve(NAME, mark_of(key))


def test_a_key_that_may_not_have_another_name_waits_as_before(door):
    """The name is another waiting key's: nothing that it had before is lost."""
    key, token = new_key(), door.bundle(approve=True)
    door.ask(key, token, NAME)
    door.ask(new_key(), door.bundle(approve=True), DeviceId("dev-b"))
    with pytest.raises(NameTaken):
        door.ask(key, door.bundle(approve=True), DeviceId("dev-b"))
    assert door.ask(key, token, NAME).device == NAME
    assert left(door) == [1, 0, 0]


def test_an_approved_key_may_wait_again_under_another_name(door):
    """Its device was removed meanwhile: with a new bundle it asks as any other key does."""
    key = new_key()
    door.ask(key, door.bundle(approve=True), NAME)
    door.approve(NAME, mark_of(key))
    with door.database.write() as connection:
        connection.execute(update(devices).where(devices.c.id == NAME).values(removed=door.now))
    door.ask(key, door.bundle(approve=True), DeviceId("dev-b"))
    assert [one["name"] for one in waiting(door)] == ["dev-b"]
    door.approve(DeviceId("dev-b"), mark_of(key))
