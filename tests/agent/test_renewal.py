"""A device's certificate is renewed with a new key, and whatever goes wrong meanwhile leaves a device that connects."""

import asyncio
import datetime as dt
import secrets
import time

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent import identity as identities
from agent import sealing_key
from agent.certificate_dates import dates
from agent.identity import ASIDE, CERTIFICATE, KEY, NEXT, NEXT_KEY, PAIR
from fleet.authority import Authority
from modules import canonical
from modules.errors import EdgefleetError
from modules.protocol.enrollment import RenewAnswer
from modules.protocol.report import Reason
from tests.agent.renewing import DAY_S, Agent, Effects, enrolled, serial, site
from tests.doubles.bad_values import BAD, spoilt

pytestmark = [
    pytest.mark.needs("mosquitto"),
    # A killed agent closes nothing.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    with site(tmp_path_factory.mktemp("renewal")) as running:
        yield running


@pytest.fixture
def http(fleet):
    return fleet[1]


def of(http, name):
    return http.get(f"/api/v1/devices/{name}").raise_for_status().json()


def kinds(http, name):
    return [one["kind"] for one in http.get("/api/v1/events").json() if one["device"] == name]


@pytest.mark.long
async def test_a_renewed_device_speaks_with_its_new_key_and_the_old_certificate_is_revoked(http, fleet, tmp_path):
    """New key, new certificate, the same device: its report is taken, the old files are gone, the old number is on the
    broker's list."""
    folder = enrolled(tmp_path, http, "dev-plain")
    before, key = serial(folder / "identity"), (folder / "identity" / KEY).read_bytes()
    public, private = sealing_key.ensure(folder / "identity"), sealing_key.private(folder / "identity")
    async with Agent(folder) as agent:
        await agent.connected()
        await agent.outbox.report(())
        number = await agent.due.renew()

        assert agent.serial == number != before
        await agent.until(lambda: of(http, "dev-plain")["certificate"]["serial"] == number, "the confirmation")
        await agent.until(lambda: agent.acknowledged == 1, "the receipt")
        await agent.until(lambda: listed(fleet[0].data, before), "the next list", within_s=40)
    assert sorted(path.name for path in (folder / "identity").iterdir()) == sorted(
        ("ca.pem", "device.json", PAIR, "root.json", sealing_key.KEY, sealing_key.PUBLIC)
    )
    assert sealing_key.ensure(folder / "identity") == public, "its secrets open as before"
    assert sealing_key.private(folder / "identity") == private
    assert key not in (folder / "identity" / PAIR).read_bytes()
    assert "certificate-renewed" in kinds(http, "dev-plain")
    assert "forged-message" not in kinds(http, "dev-plain")


def listed(data, number):
    """Whether a certificate is revoked in the list that the server has written last."""
    return number in {f"{one.serial_number:x}" for one in x509.load_pem_x509_crl(data.revoked.read_bytes())}


async def struck(folder, patch, **how):
    """Renew once, struck there; what was done to the folder's files, and whether the renewal was done all the same."""
    with patch.context() as patched:
        effects = Effects(folder / "identity", patched, **how)
        async with Agent(folder) as agent:
            renewal = asyncio.create_task(renewed(agent))
            await asyncio.wait([renewal, agent.task], return_when=asyncio.FIRST_COMPLETED)
            done = renewal.done() and not renewal.exception()
            renewal.cancel()
    return effects.passed, done


async def renewed(agent):
    await agent.connected()
    await agent.outbox.report(())
    await agent.due.renew()


@pytest.fixture
async def passed(http, tmp_path, monkeypatch):
    """Every effect of a renewal on the files of the identity, in order."""
    monkeypatch.setattr("agent.renewal.SWITCH_S", 1.0)
    folder = enrolled(tmp_path / "whole", http, f"dev-whole-{secrets.token_hex(4)}")
    names, done = await struck(folder, monkeypatch)
    assert done
    return names


@pytest.mark.parametrize("way", ["dies", "full"])
@pytest.mark.long
async def test_at_every_write_a_kill_or_a_full_disk_leaves_a_device_that_connects(
    http, tmp_path, monkeypatch, passed, way
):
    """At each creation, sync, rename and removal, which is after each write, too: started again the device connects at
    once, nobody refuses what it says, and the renewal ends."""
    assert f"rename {NEXT} to {PAIR}" in passed
    assert {f"create {NEXT_KEY}.partial", f"create {NEXT}.partial", f"remove {KEY}"} <= set(passed)
    for at, name in enumerate(passed, start=1):
        device = f"dev-{way}-{at}"
        folder = enrolled(tmp_path / device, http, device)
        first = serial(folder / "identity")
        await struck(folder, monkeypatch, at=at, way=way)

        async with Agent(folder) as again:
            await again.connected()
            await again.outbox.report(())
            await again.until(lambda: again.acknowledged >= 1, f"{way} at {name}: a receipt")
            if again.serial == first:
                await again.due.renew()
            assert identities.present(again.identity).key.name == PAIR
            assert not (again.identity / NEXT).exists()
            await again.until(
                lambda: of(http, device)["certificate"]["serial"] == again.serial,  # noqa: B023
                f"{way} at {name}: the confirmation",
            )
        assert not {"forged-message", "renewal-refused", "bad-message"} & set(kinds(http, device)), (way, name)


async def test_a_lost_answer_costs_nothing(http, tmp_path, monkeypatch):
    """The same key asking again gets the same certificate, also from a device that was started anew."""
    monkeypatch.setattr("agent.renewal.ANSWER_S", 0.5)
    folder = enrolled(tmp_path, http, "dev-lost")
    async with Agent(folder) as agent:
        await agent.connected()
        agent.deaf = True
        with pytest.raises(EdgefleetError, match="did not answer"):
            await agent.due.renew()
        await agent.until(lambda: agent.answers, "an answer, too late")
    async with Agent(folder) as agent:
        await agent.connected()
        await agent.due.renew()
        assert len(agent.answers) == 1


async def test_a_certificate_that_cannot_be_used_is_given_up(http, tmp_path):
    """A damaged file of a renewal is taken away, and another certificate is asked for; the session holds meanwhile."""
    folder = enrolled(tmp_path, http, "dev-damaged")
    (folder / "identity" / NEXT).write_bytes(b"-----BEGIN")
    async with Agent(folder) as agent:
        await agent.connected()
        number = await agent.due.renew()
        assert agent.serial == number
    assert not (folder / "identity" / CERTIFICATE).exists()


def made_key():
    """A key, and its PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    return key, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


# What the certificate of the next pair is, whether this device made its key, and why it is not taken.
LYING = {
    "another device's": ("another device", True, "another key or another device"),
    "another key's": ("another key", True, "another key or another device"),
    "another fleet's": ("another fleet's CA", True, "not from the fleet's CA"),
    "over": ("over long ago", True, "does not hold now"),
    "over just now": ("over", True, "does not hold now"),
    "a copied disk's": ("right", False, "not the one that this device asked with"),
    "without its key": ("right", None, "not the one that this device asked with"),
}


@pytest.mark.parametrize("lying", LYING)
async def test_what_lies_there_as_the_next_pair_is_held_against_this_device_first(http, fleet, tmp_path, lying):
    """Another device's, key's or fleet's pair, though the broker would let it in, or one that is over: it is never
    used, but set aside and told of once; the device stays who it is, and another certificate is asked for."""
    certificate, own, why = LYING[lying]
    name = f"dev-lying-{secrets.token_hex(4)}"
    folder = enrolled(tmp_path, http, name)
    key, secret = made_key()
    if own is not None:
        (folder / "identity" / NEXT_KEY).write_bytes(secret if own else made_key()[1])
    (folder / "identity" / NEXT).write_bytes(secret + FORGED[certificate](fleet[0].data, key, name).encode())
    before = serial(folder / "identity")
    async with Agent(folder) as agent:
        await agent.connected()
        assert agent.serial == before
        assert (folder / "identity" / ASIDE).exists()
        assert len(agent.refused) == 1
        assert why in agent.refused[0]

        looking = asyncio.create_task(agent.due.run())
        await agent.until(lambda: agent.serial != before, "another certificate")
        await agent.until(lambda: not (folder / "identity" / ASIDE).exists(), "nothing left")
        looking.cancel()
        assert len(agent.refused) == 1
        pair = x509.load_pem_x509_certificate((folder / "identity" / PAIR).read_bytes())
        assert pair.subject.rfc4514_string() == f"CN={name}"


async def test_a_clock_that_jumps_renews_once(http, tmp_path):
    """Due by a clock that runs decades ahead: one renewal, and no other one before a quarter of a life has passed."""
    folder = enrolled(tmp_path, http, "dev-ahead")
    async with Agent(folder, ahead_s=10_000 * DAY_S) as agent:

        def due():
            return agent.due.is_due(dates(identities.present(agent.identity).certificate.read_bytes()))

        await agent.connected()
        assert due()
        await agent.due.renew()
        assert not due()
        agent.ahead_s += 23 * DAY_S
        assert due()  # nor is it missed: by this clock a quarter of a life has passed
        agent.ahead_s = 0.0
        assert not due()  # set right: it is not due by its dates
        agent.ahead_s = 70 * DAY_S
        assert due()
        agent.ahead_s = -20_000 * DAY_S
        assert not due()  # not set: it is not known
        agent.clock.advance(46 * DAY_S)
        assert due()  # but half a life of running is enough


def issued(authority, device, key, days=90):
    return authority.device(device, key.public_key(), dt.timedelta(days=days)).decode()


FORGED = {
    "another fleet's CA": lambda _, key, name: issued(Authority.create("other"), name, key),
    "another device": lambda data, key, _: issued(Authority.load(data.ca), "dev-other", key),
    "another key": lambda data, _, name: issued(Authority.load(data.ca), name, ec.generate_private_key(ec.SECP256R1())),
    "over long ago": lambda data, key, name: issued(
        Authority.load(data.ca, lambda: time.time() - 200 * DAY_S), name, key
    ),
    "over": lambda data, key, name: issued(
        Authority.load(data.ca, lambda: time.time() - 20 * 60), name, key, days=1 / 96
    ),
    "right": lambda data, key, name: issued(Authority.load(data.ca), name, key),
    "none": lambda *_: "-----BEGIN CERTIFICATE-----",
}


async def test_only_the_certificate_that_was_asked_for_is_taken(http, fleet, tmp_path):
    """Of another authority, device or key, without sense, or over: the broker may bring what it likes, and each bad
    value in an answer, and the device waits for the right one, with which it goes on."""
    folder = enrolled(tmp_path, http, "dev-forged")
    async with Agent(folder) as agent:
        await agent.connected()
        agent.deaf = True
        renewal = asyncio.create_task(agent.due.renew())
        await agent.until(lambda: agent.answers, "the server's answer")
        key = serialization.load_pem_private_key((folder / "identity" / NEXT_KEY).read_bytes(), None)
        true = canonical.decode(agent.answers[0], RenewAnswer, limit=1 << 16, what="answer")
        for forged in (made for name, made in FORGED.items() if name != "right"):
            pem = forged(fleet[0].data, key, "dev-forged")
            agent.due.on_answer(canonical.encode(RenewAnswer(csr=true.csr, certificate=pem)))
        for value in BAD.values():
            for payload in spoilt(msgspec.to_builtins(true), value):
                if b"BEGIN CERTIFICATE" not in payload:
                    agent.due.on_answer(payload)
        other = RenewAnswer(csr="sha256:" + "0" * 64, reason=Reason("untrusted", "of an older request"))
        agent.due.on_answer(canonical.encode(other))
        await asyncio.sleep(0.1)
        assert not renewal.done()
        assert not (folder / "identity" / NEXT).exists()
        agent.due.on_answer(agent.answers[0])
        assert await renewal == agent.serial


async def test_a_refusal_is_told_with_its_reason_and_changes_nothing(http, tmp_path):
    """The server's words, for whoever asked; the device stays who it is, and connected."""
    folder = enrolled(tmp_path, http, "dev-refused")
    async with Agent(folder) as agent:
        await agent.connected()
        before = agent.serial
        for _ in range(5):
            await agent.due.renew()
        last = agent.serial
        assert last != before
        with pytest.raises(EdgefleetError, match="certificates within a day"):
            await agent.due.renew()
        assert agent.serial == last
        assert agent.link.connected


async def test_a_certificate_is_given_up_only_where_the_session_held_without_it(http, tmp_path, monkeypatch):
    """After so many tries beside a session with the present one; tries in an outage say nothing of it."""
    monkeypatch.setattr("agent.renewal.SWITCH_S", 0.01)
    monkeypatch.setattr("agent.renewal.REFUSED", 2)
    folder = enrolled(tmp_path, http, f"dev-held-{secrets.token_hex(4)}")
    async with Agent(folder) as agent:
        await agent.connected()
        monkeypatch.setattr(agent.link, "turn", lambda: None)
        for answers in (1, 1, 2, 2, 3):
            await lacks_a_session(agent)
            assert len(agent.answers) == answers
    upcoming = (folder / "identity" / NEXT).read_bytes()
    offline = Agent(folder)
    for _ in range(4):
        await lacks_a_session(offline)
    offline.store.close()
    assert (folder / "identity" / NEXT).read_bytes() == upcoming


async def test_each_certificate_is_given_up_for_its_own_refusals(http, tmp_path, monkeypatch):
    """The next one after a renewal that came to its end is tried as often as any; an answer that is lost meanwhile has
    no other key made."""
    monkeypatch.setattr("agent.renewal.SWITCH_S", 0.01)
    monkeypatch.setattr("agent.renewal.REFUSED", 2)
    folder = enrolled(tmp_path, http, f"dev-own-{secrets.token_hex(4)}")
    async with Agent(folder) as agent:
        await agent.connected()
        turn = agent.link.turn
        monkeypatch.setattr(agent.link, "turn", lambda: None)
        await lacks_a_session(agent)
        monkeypatch.setattr(agent.link, "turn", turn)
        with monkeypatch.context() as patch:
            patch.setattr("agent.renewal.SWITCH_S", 20.0)
            await agent.due.renew()
        await agent.connected()
        monkeypatch.setattr(agent.link, "turn", lambda: None)
        for _ in range(2):
            await lacks_a_session(agent)
            assert len(agent.answers) == 2
        agent.deaf = True
        monkeypatch.setattr("agent.renewal.ANSWER_S", 0.05)
        keys = set()
        for _ in range(2):
            with pytest.raises(EdgefleetError, match="did not answer"):
                await agent.due.renew()
            keys.add((folder / "identity" / NEXT_KEY).read_bytes())
        assert len(keys) == 1


async def lacks_a_session(agent):
    """Renew, where the session with the new certificate does not come."""
    with pytest.raises(EdgefleetError, match="no session with the new certificate"):
        await agent.due.renew()


@pytest.mark.long
async def test_a_certificate_that_the_broker_refuses_is_given_up_for_another(http, fleet, tmp_path, monkeypatch):
    """The session goes on with the present one; after some tries another certificate is asked for, and used."""
    # The library waits for half a minute before it says that a session was refused.
    monkeypatch.setattr("agent.renewal.SWITCH_S", 40.0)
    monkeypatch.setattr("agent.renewal.REFUSED", 1)
    folder = enrolled(tmp_path, http, "dev-refuses")
    key, secret = made_key()
    early = Authority.load(fleet[0].data.ca, lambda: time.time() + 3600)  # the broker's clock is behind it
    (folder / "identity" / NEXT_KEY).write_bytes(secret)
    (folder / "identity" / NEXT).write_bytes(secret + issued(early, "dev-refuses", key).encode())
    async with Agent(folder) as agent:
        await agent.until(lambda: agent.link.connected, "a session with the present one", within_s=45)
        with pytest.raises(EdgefleetError, match="no session with the new certificate"):
            await agent.due.renew()
        assert agent.link.connected
        assert await agent.due.renew() == agent.serial
        assert not (folder / "identity" / NEXT).exists()
