"""Rows 1 to 6: packages and metadata that nobody signed, that are old, or that do not belong together."""

import json
import re
import shutil
import time
from datetime import UTC, datetime

import pytest
from securesystemslib.signer import CryptoSigner

from modules.names import Slug
from modules.trust import repository
from modules.trust.metadata import version
from modules.trust.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, file_name
from tests.attacks.forge import TEAM, changed, listing, tied
from tests.parts.pace import stretched

DUO = Slug("duo")
# As far as one order may raise the number, and far beyond what a server signs in its life.
FAR = 1_000_000
# How python-tuf says that a file is not the one that another vouches for.
MIXED = re.compile(r"^untrusted: .*([Hh]ash|[Ll]ength|[Vv]ersion)")


@pytest.fixture(scope="module")
def pair(scene):
    """The keys of a team whose releases two of its keys must sign, and its metadata."""
    owner, keys = scene.publisher, [CryptoSigner.generate_ed25519() for _ in range(2)]
    now = datetime.now(UTC)
    targets = repository.delegate_team(
        scene.file(TARGETS),
        team=DUO,
        keys=[one.public_key for one in keys],
        signers=[owner.targets_signer],
        now=now,
        threshold=2,
    )
    made = repository.create_team(team=DUO, signers=keys, now=now)
    scene.owner_says({TARGETS: targets, f"team-{DUO}": made})
    scene.release()
    return keys, made


def unsigned(data):
    return json.dumps(json.loads(data) | {"signatures": []}).encode()


def under_the_teams_id(data, team_key):
    """A stranger's signature under the id of the team's key."""
    document = json.loads(data)
    document["signatures"][0]["keyid"] = team_key.public_key.keyid
    return json.dumps(document).encode()


def twice(data):
    """One signature under the same id, two times."""
    document = json.loads(data)
    document["signatures"] *= 2
    return json.dumps(document).encode()


def test_row_01_arbitrary_package_by_the_wrong_key(scene):
    """Whoever has broker, server and every key that the server holds orders a module that its team never signed:
    without a signature, with a stranger's, and with a stranger's under the id of the team's key."""
    evil, stranger = scene.evil(), CryptoSigner.generate_ed25519()
    forged = changed(scene.file(TEAM), [stranger], listing(evil))
    for data in (forged, unsigned(forged), under_the_teams_id(forged, scene.publisher.team_signer)):
        scene.hostile.files = tied(scene, {TEAM: data})
        refusal = scene.given(scene.order(evil))
        assert refusal.startswith("untrusted"), refusal
        scene.unharmed(refusal.removeprefix("untrusted: "))
    scene.goes_on()


@pytest.mark.long
def test_row_01_arbitrary_package_below_the_threshold(scene, pair):
    """Of a team of which two keys must sign, one key signs alone, and then says so twice."""
    (one, _), empty = pair
    evil = scene.evil(team=DUO)
    alone = changed(empty, [one], listing(evil), step=0)
    for data in (alone, twice(alone)):
        scene.hostile.files = tied(scene, {f"team-{DUO}": data})
        refusal = scene.given(scene.order(evil))
        assert refusal.startswith(("untrusted", "invalid")), refusal
        scene.unharmed(refusal.partition(": ")[2])
    scene.goes_on()


@pytest.mark.parametrize("cache", ["kept", "lost"])
def test_row_02_metadata_rollback(scene, cache):
    """The broker answers with all that was published before, each file well signed: versions that were seen are not
    forgotten, not even with the cache of the metadata."""
    old = scene.published()
    scene.goes_on()
    if cache == "lost":
        scene.device.agent.stop()
        shutil.rmtree(scene.device.state / "trust" / "metadata")
        scene.device.agent.start()
    release = scene.release()
    scene.hostile.files = old
    order = scene.start(release)

    refusal = scene.verdict(order)
    assert "version" in refusal, refusal
    scene.unharmed(refusal.partition(": ")[2])

    scene.goes_on(release, again=order)


def test_row_03_module_rollback_by_order(scene):
    """An order for a version below the floor that its publisher set is refused, though the director has signed it; one
    back to the floor itself is followed, for a rollback is what operators need."""
    below, floor, above = (scene.release() for _ in range(3))
    scene.goes_on(above)
    owner = scene.publisher
    now, team = datetime.now(UTC), Slug(owner.team)
    scene.sends_team(
        repository.set_floor(
            owner.metadata, team=team, name=above.name, minimum=floor.ref.version, signers=[owner.team_signer], now=now
        )
    )

    assert "below-floor" in scene.given(scene.order(below))
    scene.unharmed("below-floor")

    scene.goes_on(floor)
    scene.unharmed()
    scene.goes_on()


@pytest.mark.long
def test_row_04_freeze(scene):
    """The broker answers with the metadata of one day for ever: once the timestamp has expired, nothing new is
    followed, and the server hears why. What runs goes on. (Seconds stand for the fourteen days: it is signed so.)"""
    life_s = stretched(6.0)
    known = scene.release()
    scene.hostile.files = tied(scene, {}, life_s=life_s)
    ends = time.time() + life_s
    assert scene.verdict(scene.start(known)) == ""
    scene.serves(known)
    news = scene.release()
    time.sleep(max(0.0, ends - time.time()) + 1.0)  # the clock of another process: there is nothing to await
    order = scene.start(news)

    refusal = scene.verdict(order)
    assert "expired" in refusal, refusal
    scene.unharmed("expired")

    scene.goes_on(news, again=order)


@pytest.mark.parametrize("role", [TEAM, SNAPSHOT])
@pytest.mark.long
def test_row_05_mix_and_match(scene, role):
    """One file of yesterday under the name of today's, the rest as published: all well signed, and not together. So a
    release that its team has withdrawn since would come back, though the device has seen no newer file of either."""
    withdrawn, floor = scene.release(), scene.release()
    scene.goes_on(floor)
    yesterday = {one: scene.file(one) for one in (TEAM, SNAPSHOT)}
    owner = scene.publisher
    now, team = datetime.now(UTC), Slug(owner.team)
    scene.sends_team(
        repository.set_floor(
            owner.metadata, team=team, name=floor.name, minimum=floor.ref.version, signers=[owner.team_signer], now=now
        )
    )
    today = version(scene.file(role), role)
    scene.hands_over(withdrawn)
    scene.hostile.files = {file_name(one, version(data, one)): data for one, data in yesterday.items()}
    scene.hostile.files[file_name(role, today)] = yesterday[role]

    refusal = scene.given(scene.order(withdrawn))
    assert MIXED.search(refusal), refusal
    scene.unharmed(refusal.partition(": ")[2])

    scene.hostile.files = {}
    assert "below-floor" in scene.given(scene.order(withdrawn))
    scene.unharmed("below-floor")
    scene.goes_on()


@pytest.mark.long
def test_row_06_fast_forward(scene):
    """A thief of the server's keys shows the device versions and an order's number far ahead, so that nothing honest
    comes after them; once the owner has named other keys, by root and by targets, both begin anew."""
    scene.hostile.files = tied(scene, {}, step=FAR)
    number = scene.counter() + FAR
    assert scene.given(scene.order(scene.current, counter=number)) == ""
    assert (scene.seen(TIMESTAMP) > FAR, scene.counter()) == (True, number)
    scene.hostile.honest()
    news = scene.release()
    refusal = scene.verdict(scene.start(news))
    assert "version" in refusal, refusal
    scene.unharmed(refusal.partition(": ")[2])

    owner, now = scene.publisher, datetime.now(UTC)
    keys = {role: CryptoSigner.generate_ed25519() for role in (SNAPSHOT, TIMESTAMP, "director")}
    online = {role: [keys[role].public_key] for role in (SNAPSHOT, TIMESTAMP)}
    root = repository.change_root(scene.file(ROOT), keys=online, signers=owner.root_signers, now=now)
    targets, director = repository.set_director_keys(
        scene.file(TARGETS), keys=[keys["director"].public_key], signers=[owner.targets_signer], now=now
    )
    scene.owner_says({ROOT: root, TARGETS: targets}, director=director, keys=keys)
    scene.goes_on(overtakes=False)
    scene.unharmed()
    assert scene.seen(TIMESTAMP) < FAR
    assert scene.counter() < FAR
