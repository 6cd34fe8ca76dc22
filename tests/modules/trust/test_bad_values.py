"""Signed metadata with a bad value at any place: refused or harmless, and nothing but our own errors comes of it."""

import contextlib
import json

import pytest
from securesystemslib.exceptions import FormatError
from securesystemslib.formats import encode_canonical
from tuf.api.metadata import Metadata, MetaFile, Timestamp

from modules.errors import EdgefleetError, Invalid
from modules.signing import decode_keys, encode_keys
from modules.trust import roles
from tests.doubles.bad_values import BAD, MARK, places, put
from tests.doubles.keys import ACME, NOW, Publisher, signer
from tests.modules.trust.test_device import PATH, Device

TEAM = roles.team_role(ACME)
BIN = roles.bin_of(ACME, PATH)
MORE = {
    "the year 10000": '"10000-01-01T00:00:00Z"',
    "no month": '"2026-13-41T00:00:00Z"',
    "a path": '"../../etc/passwd"',
    "a version's file": '"1000000000.targets.json"',
}
VALUES = {name: BAD[name] for name in BAD if name not in {"0", "2^64", "true", "a list", "a map"}} | MORE


@pytest.fixture(scope="module")
def publisher():
    one = Publisher()
    one.release("acme/digits:1")
    one.set_floor("acme/digits:1")
    return one


@pytest.fixture(scope="module")
def large():
    """A publisher whose team has bins."""
    one = Publisher(most=0)
    one.release("acme/digits:1")
    one.set_floor("acme/digits:1")
    return one


def signed_anew(document, key):
    """The file's bytes, signed by whoever has the role's key; where no signature is possible, with the old one."""
    with contextlib.suppress(FormatError, RecursionError, UnicodeEncodeError, ValueError):
        signed = json.loads(document)["signed"]
        signature = key.sign(encode_canonical(signed).encode())
        return document.replace(f'"{MARK}s"', json.dumps([signature.to_dict()]))
    return document.replace(f'"{MARK}s"', "[]")


def tied(publisher, role, data):
    """The published files with ``data`` as this role's, and honest ones around it that lead to it."""
    files = dict(publisher.files)
    if role == roles.TIMESTAMP:
        return files | {"timestamp.json": data}
    snapshot = Metadata.from_bytes(publisher.online.snapshot)
    if role == roles.SNAPSHOT:
        bad = data
    else:
        number = snapshot.signed.meta[f"{role}.json"].version
        files[f"{number}.{role}.json"] = data
        snapshot.signed.meta[f"{role}.json"] = MetaFile.from_data(number, data, ["sha256"])
        snapshot.sign(publisher.snapshot_signer)
        bad = snapshot.to_bytes()
    files[f"{snapshot.signed.version}.snapshot.json"] = bad
    timestamp = Metadata(Timestamp(99, expires=NOW + roles.life(roles.TIMESTAMP)))
    timestamp.signed.snapshot_meta = MetaFile.from_data(snapshot.signed.version, bad, ["sha256"])
    timestamp.sign(publisher.timestamp_signer)
    return files | {"timestamp.json": timestamp.to_bytes()}


def asked_everything(device):
    """What an order makes the agent ask; only our own errors may come of it."""
    device.trust.refresh(NOW)
    device.trust.director_keys()
    device.trust.manifest_target(PATH)
    device.trust.floor(ACME, "digits")
    device.trust.require_current(NOW, teams=[ACME])


@pytest.mark.parametrize("bad", VALUES)
@pytest.mark.parametrize(
    "role",
    [*(pytest.param(one, marks=pytest.mark.long) for one in (roles.TIMESTAMP, roles.SNAPSHOT)), roles.TARGETS, TEAM],
)
def test_metadata(tmp_path, publisher, role, bad):
    """Whoever has a role's key cannot end the agent with what he signs: the metadata is refused, or is harmless."""
    key, honest = {
        roles.TIMESTAMP: (publisher.timestamp_signer, publisher.online.timestamp),
        roles.SNAPSHOT: (publisher.snapshot_signer, publisher.online.snapshot),
        roles.TARGETS: (publisher.targets_signer, publisher.targets_metadata),
        TEAM: (publisher.team_signers[ACME], publisher.teams[ACME]),
    }[role]
    try_all(tmp_path, publisher, role, honest, key, bad)


@pytest.mark.long
@pytest.mark.parametrize("bad", VALUES)
@pytest.mark.parametrize("role", [TEAM, BIN])
def test_large_team(tmp_path, large, role, bad):
    """Nor can whoever has a large team's key, by what its role says of its bins, or by a bin."""
    honest = large.team_files(ACME)[role]
    try_all(tmp_path, large, role, honest, large.team_signers[ACME], bad)


def try_all(tmp_path, publisher, role, honest, key, bad):
    """The file with this value at each of its places."""
    honest = json.loads(honest)
    for number, path in enumerate(places(honest["signed"])):
        document = json.dumps({"signatures": MARK + "s", "signed": put(honest["signed"], path, MARK)})
        data = signed_anew(document.replace(f'"{MARK}"', VALUES[bad]), key).encode()
        device = Device(tmp_path / str(number), publisher)
        device.responder.files = tied(publisher, role, data)
        for _ in range(2):  # as it comes, and as it lies in the cache of an agent that was restarted
            with contextlib.suppress(EdgefleetError):
                asked_everything(device)
            device.restart()


@pytest.mark.parametrize("bad", BAD)
def test_key_list(bad):
    """So it is with the list of the director's keys."""
    honest = json.loads(encode_keys([signer().public_key]))
    for path in places(honest):
        data = json.dumps(put(honest, path, MARK)).replace(f'"{MARK}"', BAD[bad])
        with contextlib.suppress(Invalid):
            decode_keys(data.encode())


def test_huge_versions_are_refused(tmp_path, publisher):
    """A version that no database holds is refused by name, as it comes and from the cache."""
    device = Device(tmp_path, publisher)
    timestamp = Metadata.from_bytes(publisher.online.timestamp)
    timestamp.signed.version = 2**63
    timestamp.sign(publisher.timestamp_signer)
    device.responder.files = publisher.files | {"timestamp.json": timestamp.to_bytes()}
    for _ in range(2):
        with pytest.raises(EdgefleetError, match="timestamp: a version of 19 digits is out of bounds"):
            device.trust.refresh(NOW)
        device.restart()

    assert device.versions.kept == {}
