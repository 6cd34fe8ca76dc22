"""Secrets on the server: sealed the moment they come, in a device's order, and never to be read again."""

import base64

import pytest
from sqlalchemy import select

from fleet import removal, sealed_secrets
from fleet.refusals import Conflict, Missing
from fleet.sealed_secrets import AGAIN, NO_KEY, NOT_SET, SET, Place
from fleet.tables import events
from modules.errors import Invalid, Unfit
from modules.manifest import SecretFile
from modules.names import DeviceId, Slug
from modules.protocol.facts import Facts
from modules.protocol.order import MAX_SECRETS
from modules.sealing import LONGEST, new_key, open_sealed, public_half
from modules.signing import FACTS_TYPE
from tests.doubles.device import HOST_FACTS, Device, join

TOKEN = Place(Slug("digits"), "token")
VALUE = b"planted-e3b0c44298fc1c14"


class Vault:
    """A small fleet whose devices have keys for secrets."""

    def __init__(self, fleet):
        self.fleet = fleet
        self.keys = {}
        # As the server makes them.
        fleet.orders._declared = fleet.registry.declared

    def add(self, name, *, key=True):
        self.fleet.add_device(name)
        if key:
            self.says(name)
        return DeviceId(name)

    def says(self, name):
        """The device says that it has a key, a new one."""
        self.keys[name] = new_key()
        number = self.fleet.numbers[name] = self.fleet.numbers.get(name, 1) + 1
        more = {"issued": 0.0, "agent": "0", "host": HOST_FACTS, "sealing": public_half(self.keys[name])}
        facts = Facts(device=DeviceId(name), number=number, **more)
        self.fleet.ingest.commit([self.fleet.said(name, "facts", facts, FACTS_TYPE)])

    def module(self, name="digits", *declared):
        return self.fleet.add_module(name, secrets=declared or (SecretFile(name="token"),))

    def set(self, value=VALUE, *, place=TOKEN, selector="*", only=None):
        given = {"selector": selector, "only": only, "by": "somebody"}
        with self.fleet.database.write() as connection:
            done = sealed_secrets.set_secret(connection, self.fleet.now, place, value, **given)
        self.fleet.tick()
        return done

    def remove(self, *, place=TOKEN, selector="*", only=None):
        given = {"selector": selector, "only": only, "by": "somebody"}
        with self.fleet.database.write() as connection:
            done = sealed_secrets.remove(connection, self.fleet.now, self.fleet.registry, place, **given)
        self.fleet.tick()
        return done

    def states(self):
        with self.fleet.database.read() as connection:
            shown = sealed_secrets.view(connection)
        return {one["device"]: one["state"] for wish in shown for one in wish["devices"]}

    def held(self, name, slot="digits"):
        """What the device's order gives, opened with its key."""
        given = self.fleet.order(name).slots[slot].secrets or {}
        found = {}
        for one, secret in given.items():
            where = {"device": DeviceId(name), "slot": slot, "name": one, "version": secret.version}
            found[one] = (secret.version, open_sealed(secret.sealed, self.keys[name], **where))
        return found


@pytest.fixture
def vault(small_fleet):
    return Vault(small_fleet)


def test_a_devices_order_gives_what_its_module_declares_and_only_it_can_open_that(vault):
    """Sealed to each device by itself; a secret that the module does not declare stays on the server."""
    for name in ("dev-a", "dev-b"):
        vault.add(name)
    assert vault.set()["set"] == ["dev-a", "dev-b"]
    vault.set(b"undeclared", place=Place(Slug("digits"), "other"))
    vault.fleet.start(vault.module())
    for name in ("dev-a", "dev-b"):
        assert vault.held(name) == {"token": (1, VALUE)}
        assert vault.fleet.order(name).must_understand == ("slot.secrets",)
    sealed = {vault.fleet.order(name).slots["digits"].secrets["token"].sealed for name in ("dev-a", "dev-b")}
    assert len(sealed) == 2


def test_a_new_value_goes_out_with_the_next_order_by_itself(vault):
    """A higher version, in an order with a higher number; other devices' orders stay as they are."""
    for name in ("dev-a", "dev-b"):
        vault.add(name)
    vault.set()
    vault.fleet.start(vault.module())
    before = {name: vault.fleet.order(name).counter for name in ("dev-a", "dev-b")}
    assert vault.set(b"rotated", only=["dev-a"])["version"] == 2
    assert vault.held("dev-a") == {"token": (2, b"rotated")}
    assert vault.fleet.order("dev-a").counter > before["dev-a"]
    assert vault.fleet.order("dev-b").counter == before["dev-b"]


def test_a_device_that_cannot_have_a_required_secret_is_a_misfit_before_any_order(vault):
    """Not set, set for an older key, or no key at all; each says what to do. What is not required is no reason."""
    for name in ("dev-set", "dev-late", "dev-again"):
        vault.add(name)
    vault.add("dev-old", key=False)
    vault.set(only=["dev-set", "dev-again"])
    vault.says("dev-again")
    rollout = vault.fleet.start(vault.module())
    misfits = {one["device"]: one["reasons"] for one in vault.fleet.view(rollout)["misfits"]}
    assert misfits == {
        "dev-late": ["secret token is not set: edgefleet secrets set"],
        "dev-again": ["secret token must be set again: edgefleet secrets set"],
        "dev-old": ["it has no key for secrets: update its agent, or enrol it again if it was revoked"],
    }
    assert vault.fleet.order("dev-late") is None
    free = vault.module("free", SecretFile(name="token", required=False))
    vault.fleet.start(free, devices=["dev-late"])
    assert vault.held("dev-late") == {}
    with pytest.raises(Unfit, match="update its agent"):
        vault.fleet.start(free, devices=["dev-old"])


def test_the_list_says_where_a_secret_is_missing(vault):
    """On a device that joined later, that has a new key, or none; and never a value."""
    vault.add("dev-set")
    vault.add("dev-again")
    vault.add("dev-old", key=False)
    assert vault.set()["without_key"] == ["dev-old"]
    vault.says("dev-again")
    vault.add("dev-late")
    assert vault.states() == {"dev-set": SET, "dev-again": AGAIN, "dev-old": NO_KEY, "dev-late": NOT_SET}
    vault.set()
    assert vault.states() == {"dev-set": SET, "dev-again": SET, "dev-old": NO_KEY, "dev-late": SET}


def test_a_secret_that_a_module_requires_is_not_taken_away_under_it(vault):
    """A conflict that names the device; once the slot is empty it goes, and is then neither held nor listed."""
    vault.add("dev-a")
    vault.set()
    vault.fleet.start(vault.module())
    with pytest.raises(Conflict, match="slot digits of dev-a requires it"):
        vault.remove()
    with vault.fleet.database.write() as connection:
        removal.revisions.empty(connection, vault.fleet.now, "somebody", "dev-a", "digits")
    assert vault.remove()["removed"] == ["dev-a"]
    assert vault.states() == {}
    with pytest.raises(Missing):
        vault.remove()
    vault.set()  # versions go on, so that nothing old comes back as new
    with vault.fleet.database.read() as connection:
        assert sealed_secrets.given(connection, ["dev-a"])["dev-a"]["digits"]["token"].version == 2


def test_a_device_that_is_removed_takes_its_secrets_along(vault):
    """Nothing of them stays in the tables."""
    vault.add("dev-a")
    vault.set(only=["dev-a"])
    with vault.fleet.database.write() as connection:
        removal.remove_device(connection, vault.fleet.now, "dev-a")
    with vault.fleet.database.read() as connection:
        assert sealed_secrets.given(connection, ["dev-a"]) == {}
        assert sealed_secrets.view(connection) == []


def test_nothing_is_sealed_to_a_key_that_was_taken_back(vault):
    """The keys of a revoked device are in wrong hands: it is as one without, until it comes back with another."""
    vault.add("dev-a")
    vault.set()
    with vault.fleet.database.write() as connection:
        removal.revoke_device(connection, vault.fleet.now, "dev-a")
    assert vault.set()["without_key"] == ["dev-a"]
    assert vault.states() == {"dev-a": NO_KEY}
    with vault.fleet.database.read() as connection:
        assert sealed_secrets.given(connection, ["dev-a"]) == {}


@pytest.mark.parametrize("value", [b"", b"x" * (LONGEST + 1)])
def test_a_value_out_of_bounds_changes_nothing(vault, value):
    """And nothing of it is in the message."""
    vault.add("dev-a")
    with pytest.raises(Invalid) as caught:
        vault.set(value)
    assert "xxx" not in str(caught.value)
    assert vault.states() == {}


def test_a_slot_has_so_many_secrets_and_no_more(vault):
    """So that an order stays one that its device reads."""
    vault.add("dev-a")
    for number in range(MAX_SECRETS):
        vault.set(place=Place(Slug("digits"), f"s{number}"))
    with pytest.raises(Invalid, match="more than 16 secrets"):
        vault.set(place=Place(Slug("digits"), "one-more"))


def test_the_value_is_in_no_table_and_no_event(vault, tmp_path):
    """The database's files, after everything that can happen to a secret; who did what is told."""
    vault.add("dev-a")
    vault.set()
    vault.fleet.start(vault.module("free", SecretFile(name="token", required=False)))
    vault.set(VALUE + b"-rotated")
    vault.remove()
    assert [path for path in tmp_path.rglob("*") if path.is_file() and VALUE in path.read_bytes()] == []
    with vault.fleet.database.read() as connection:
        told = connection.execute(select(events.c.kind, events.c.by).where(events.c.kind.like("secret-%"))).all()
    assert [tuple(row) for row in told] == [
        ("secret-set", "somebody"),
        ("secret-set", "somebody"),
        ("secret-removed", "somebody"),
    ]


@pytest.mark.needs("mosquitto")
@pytest.mark.parametrize(
    "spoilt",
    [
        {"value": "planted-not base64!"},
        {"value": ["planted-list"]},
        {"value": {"planted": "planted-inner"}},
        {"value": base64.b64encode(b"planted-long" * 1000).decode()},
        {"value": "cGxhbnRlZA==", "name": "../planted"},
        {"value": "cGxhbnRlZA==", "slot": "score"},
        {"value": "cGxhbnRlZA==", "selector": "site=nowhere"},
        {"value": "cGxhbnRlZA==", "devices": ["dev-nobody"]},
    ],
    ids=["no base64", "a list", "an object", "too long", "name", "slot", "selector", "device"],
)
def test_a_refused_value_is_in_no_answer_and_no_log(fleet, spoilt):
    """Whatever is wrong with the request, nothing of the value comes back or is kept."""
    server, http, _ = fleet
    answer = http.post("/api/v1/secrets", json={"name": "token", "slot": "camera", "selector": "*"} | spoilt)
    assert answer.status_code in {404, 422}
    assert answer.json()["code"] in {"invalid", "missing"}
    kept = server.log() + "".join(http.get(f"/api/v1/{what}").text for what in ("events", "secrets", "audit"))
    for word in ("planted-", "cGxhbnRlZ"):
        assert word not in answer.text + kept


@pytest.mark.needs("mosquitto")
def test_the_audit_log_says_who_set_a_secret_and_never_what_it_is(fleet, tmp_path):
    """Action and path alone: neither the value nor its base64, and not in the rows that are exported."""
    server, http, _ = fleet
    Device(tmp_path, join(http), "dev-audited").enrol()
    body = {"name": "token", "slot": "camera", "devices": ["dev-audited"], "value": "cGxhbnRlZC1hdWRpdA=="}
    assert http.post("/api/v1/secrets", json=body).raise_for_status().json()["without_key"] == ["dev-audited"]
    newest = http.get("/api/v1/audit").raise_for_status().json()[0]
    assert (newest["action"], newest["target"], newest["outcome"]) == ("POST /api/v1/secrets", "/api/v1/secrets", 200)
    kept = server.log() + http.get("/api/v1/audit").text + http.get("/api/v1/audit/rows").text
    for word in ("cGxhbnRlZC1", "planted-audit"):
        assert word not in kept
