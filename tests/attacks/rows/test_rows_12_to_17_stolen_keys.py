"""Rows 12 to 17: what each key's thief gets, and what he does not. He has the broker in any case."""

import datetime as dt
import json
import ssl
import time
from datetime import UTC, datetime

import paho.mqtt.client as mqtt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.enums import CallbackAPIVersion
from securesystemslib.signer import CryptoSigner

from fleet.authority import Authority
from modules import canonical
from modules.digests import sha256
from modules.names import Slug
from modules.protocol.report import Report
from modules.protocol.topics import Topics
from modules.signing import REPORT_TYPE, sign
from modules.trust import repository
from modules.trust.metadata import version
from modules.trust.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP
from tests.attacks.forge import TEAM, changed, listing, tied
from tests.attacks.scene import EVIL, NAME
from tests.attacks.scene import scene as another_scene

pytestmark = pytest.mark.long

ACME = Slug("acme")


def stranger():
    return CryptoSigner.generate_ed25519()


def test_row_12_stolen_timestamp_and_snapshot(scene):
    """With both keys news can be kept back, for the old is signed as if it were the newest; with neither of them can
    anything be brought in."""
    old = scene.file(TEAM)
    news = scene.release()
    scene.hostile.files = tied(scene, {TEAM: old})
    order = scene.start(news)
    assert "no publisher has signed" in scene.verdict(order)
    scene.unharmed("no publisher has signed")

    evil, thief = scene.evil(), stranger()
    scene.hostile.files = tied(scene, {TEAM: changed(scene.file(TEAM), [thief], listing(evil))})
    refusal = scene.given(scene.order(evil, thief))
    assert "signatures hold" in refusal, refusal
    scene.unharmed("signatures hold")

    scene.goes_on(news, again=order)


def test_row_13_stolen_director(scene):
    """Its thief orders what publishers have signed, old versions from the floor on included, and nothing else: nothing
    unpublished, no other content under a published name, nothing below the floor. The owner names another director,
    and that is the end of it."""
    thief, owner, now = scene.stolen("director"), scene.publisher, datetime.now(UTC)
    below, floor = scene.release(), scene.release()
    scene.sends_team(
        repository.set_floor(
            owner.metadata, team=ACME, name=NAME, minimum=floor.ref.version, signers=[owner.team_signer], now=now
        )
    )
    scene.goes_on()
    evil = scene.evil()
    for order, reason in (
        (scene.order(evil, thief), "not-published"),
        (scene.order(evil, thief, path=scene.current.ref.target), "digest-mismatch"),
        (scene.order(below, thief), "below-floor"),
    ):
        assert reason in scene.given(order)
        scene.unharmed(reason)

    scene.hands_over(floor)  # he has the broker, too: from the server, nobody gets what it did not order
    assert scene.given(scene.order(floor, thief)) == ""
    scene.serves(floor)
    scene.unharmed()

    key = stranger()
    targets, director = repository.set_director_keys(
        scene.file(TARGETS), keys=[key.public_key], signers=[owner.targets_signer], now=now
    )
    scene.owner_says({TARGETS: targets}, director=director, keys={"director": key})
    older = scene.release()
    refusal = scene.given(scene.order(older, thief))
    assert "signatures hold" in refusal, refusal
    scene.unharmed("signatures hold")
    scene.goes_on()


def test_row_14_stolen_team_key(scene):
    """A team's thief signs a release of that team's, and no device runs it, for nobody has ordered it: an order of his
    own is refused. Once the owner has named another key, it is not even published, whoever else helps him."""
    owner, thief, now = scene.publisher, scene.publisher.team_signer, datetime.now(UTC)
    evil = scene.evil()
    signed = changed(scene.file(TEAM), [thief], listing(evil))
    scene.hostile.files = tied(scene, {TEAM: signed})
    refusal = scene.given(scene.order(evil, thief))
    assert "signatures hold" in refusal, refusal
    scene.unharmed("signatures hold")

    owner.team_signer = stranger()
    targets = repository.delegate_team(
        scene.file(TARGETS), team=ACME, keys=[owner.team_signer.public_key], signers=[owner.targets_signer], now=now
    )
    owner.metadata = repository.renew(owner.metadata, role=TEAM, signers=[owner.team_signer], now=now)
    scene.owner_says({TARGETS: targets, TEAM: owner.metadata})
    scene.goes_on()
    scene.evil()
    scene.hostile.files = tied(scene, {TEAM: changed(scene.file(TEAM), [thief], listing(evil))})
    refusal = scene.given(scene.order(evil))
    assert "signed by 0/1 keys" in refusal, refusal
    scene.unharmed("signed by 0/1 keys")
    scene.goes_on()


def coup(scene, roots):
    """Everything anew below a root that these keys sign: the thief's targets, team, director and online keys, and his
    module; returns the order for it."""
    thief, evil, now = stranger(), scene.evil(), datetime.now(UTC)
    by = {"signers": [thief], "now": now}

    def take_over(root):
        for role in (TARGETS, SNAPSHOT, TIMESTAMP):
            for keyid in list(root.roles[role].keyids):
                root.revoke_key(keyid, role)
            root.add_key(thief.public_key, role)

    root = changed(scene.file(ROOT), roots, take_over)
    targets, director = repository.set_director_keys(scene.file(TARGETS), keys=[thief.public_key], **by)
    targets = repository.delegate_team(targets, team=ACME, keys=[thief.public_key], **by)
    team = changed(scene.file(TEAM), [thief], listing(evil))
    scene.hostile.files = tied(scene, {TARGETS: targets, TEAM: team}, snapshot=[thief], timestamp=[thief])
    scene.hostile.files[f"{version(root, ROOT)}.root.json"] = root
    scene.hostile.blobs[sha256(director)] = director
    return scene.order(evil, thief)


def test_row_15_one_stolen_root_key(scene):
    """One of three root keys changes nothing: two must sign, and the same one twice is one."""
    order = coup(scene, scene.publisher.root_signers[:1])
    refusal = scene.given(order)
    assert "root was signed by 1/2 keys" in refusal, refusal
    scene.unharmed("root was signed by 1/2 keys")

    order = coup(scene, scene.publisher.root_signers[:1])
    name = next(one for one in scene.hostile.files if one.endswith(".root.json"))
    document = json.loads(scene.hostile.files[name])
    document["signatures"] *= 2
    scene.hostile.files[name] = json.dumps(document).encode()
    refusal = scene.given(order)
    assert refusal.startswith("untrusted"), refusal
    scene.unharmed(refusal.partition(": ")[2])
    scene.goes_on()


def test_row_17_stolen_device_ca(scene):
    """Its thief connects as the device and reads what is for it; what he reports in its name is refused and told, for
    the fleet knows the device's own key. Nor does his being the broker bring in code. (There is no way yet to let
    another CA take over: the devices of a fleet join a new one, as after row 16.)"""
    name, data = scene.device.name, scene.system.data
    before = scene.system.report(name)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = Authority.load(data.ca).device(scene.hostile.device, key.public_key(), dt.timedelta(days=1))
    mine, its = scene.system.folder / "thief.pem", scene.system.folder / "thief.key"
    mine.write_bytes(certificate)
    its.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    thief = CryptoSigner(key)
    said = Report(
        device=scene.hostile.device,
        number=before["number"] + 1000,
        issued=time.time(),
        order=before["order"],
        agent="0",
        epoch=before["epoch"],
    )
    envelope = sign(canonical.encode(said), payload_type=REPORT_TYPE, signers=[thief])
    context = ssl.create_default_context(cafile=str(data.ca))
    context.load_cert_chain(mine, its)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name)
    client.tls_set_context(context)
    client.connect(scene.system.broker.host, scene.system.broker.device_port)
    client.loop_start()
    try:
        client.publish(Topics().report(scene.hostile.device), envelope, qos=1).wait_for_publish(20)
    finally:
        client.disconnect()
        client.loop_stop()
    scene.until(lambda: "forged-message" in events(scene), "the operator is told")
    assert scene.system.report(name)["number"] < said.number
    evil = scene.evil()
    scene.until(lambda: scene.system.api(f"devices/{name}")["online"], "the device is back")

    assert "signatures hold" in scene.given(scene.order(evil, thief))
    scene.unharmed("signatures hold")
    scene.goes_on()


def events(scene):
    return [one["kind"] for one in scene.system.api("events?limit=100") if one["device"] == scene.device.name]


def test_row_16_two_stolen_root_keys(scene):
    """Two of three root keys are the fleet: the device follows them, and runs what the thief names. What is left is
    docs/operate.md's way, to join a new fleet with a new root: there the same thief, who is the broker here as well,
    is refused. (The last of this file: this fleet is lost.)"""
    order = coup(scene, scene.publisher.root_signers[:2])
    assert scene.given(order) == ""
    scene.until(lambda: scene.answer() == EVIL, "the thief's module answers")
    scene.until(lambda: scene.serving() == f"acme/{NAME}:999", "the device reports it")
    assert scene.unsigned() != []
    files, blobs = dict(scene.hostile.files), dict(scene.hostile.blobs)

    with another_scene() as founded:
        founded.hostile.files, founded.hostile.blobs = files, blobs
        refusal = founded.given(order)
        assert "root was signed by 0/2 keys" in refusal, refusal
        founded.unharmed("root was signed by 0/2 keys")
        founded.goes_on()
