"""The trust metadata that the server keeps and signs, seen by a device's own verifier."""

import asyncio
import time
from datetime import UTC, datetime

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata as Envelope
from tuf.api.metadata import MetaFile

from fleet import events, metadata_files
from fleet.authority import Authority
from fleet.background import Background
from fleet.blobs import Blobs
from fleet.db import Database
from fleet.folder import Folder
from fleet.metadata import Metadata
from fleet.mishaps import Mishaps
from fleet.refusals import Conflict, Missing
from fleet.registry import Registry
from fleet.revocation import Revocations
from fleet.setup import initialise
from fleet.upkeep import Upkeep
from modules import manifest as manifests
from modules.digests import sha256
from modules.errors import Invalid, Untrusted
from modules.names import ModuleRef, Slug
from modules.trust import repository, roles, team_files
from modules.trust.device import Trust
from tests.doubles.keys import MemoryRoleVersions
from tests.doubles.publisher import Publisher, module
from tests.parts.pace import stretched

DAY_S = 86400


class Site:
    """The server's metadata on a data folder of its own, an owner, and a clock that tests move."""

    def __init__(self, folder):
        self.now = time.time()
        self.data = data = Folder(folder / "data")
        initialise(data, self.clock)
        self.database = Database.at(data.database)
        self.blobs = Blobs(data.blobs)
        self.registry = Registry(self.blobs)
        self.metadata = Metadata(self.database, self.blobs, self.registry, data, self.clock)
        self.owner = Publisher()
        self.owner.prepare(self.metadata.online_keys())

    def clock(self):
        return self.now

    def found(self, **parts):
        first = {name: getattr(self.owner.founded, name) for name in ("root", "targets", "director")}
        self.metadata.bootstrap(**first | parts, teams={self.owner.team: self.owner.metadata})

    def draft(self, data=b"graph"):
        self.blobs.put(data)
        manifest = module("acme", "digits", "1", {"model.onnx": data})
        with self.database.write() as connection:
            self.registry.draft(connection, self.now, manifest.ref, manifests.encode(manifest))
        return manifest

    def version(self, name):
        return msgspec.json.decode(self.metadata.file(name))["signed"]["version"]


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def trust(site, tmp_path):
    """A device that gets its metadata from the server, and asks as the agent does."""
    site.found()
    (tmp_path / "device").mkdir()

    def fetch(name, _limit):
        try:
            return site.metadata.file(name)
        except Missing:
            return None

    return Trust(
        tmp_path / "device",
        root=site.metadata.newest_root(),
        fetch=fetch,
        read_target=lambda _path, digest, _length: site.blobs.read(digest),
        versions=MemoryRoleVersions(),
    )


def test_a_device_finds_a_module_once_its_team_has_signed_it(site, trust):
    """What the server publishes verifies on a device: module, digest, and who may give orders."""
    manifest = site.draft()
    trust.refresh(datetime.fromtimestamp(site.now, UTC))
    assert trust.manifest_target(manifest.ref.target) is None

    assert site.metadata.update_team(site.owner.team, site.owner.signed_with(manifest)) == ["acme/digits:1"]
    trust.refresh(datetime.fromtimestamp(site.now, UTC))
    assert trust.manifest_target(manifest.ref.target).sha256 == sha256(manifests.encode(manifest))
    assert list(trust.director_keys()) == [site.metadata.director.public_key.keyid]


def test_the_online_metadata_is_signed_again_daily_and_the_snapshot_before_it_expires(site, trust):
    """A month without news, and a device still finds metadata that holds."""
    site.metadata.renew()
    assert site.version("timestamp.json") == 1
    site.now += DAY_S + 1
    site.metadata.renew()
    assert (site.version("timestamp.json"), site.version("snapshot.json")) == (2, 1)
    for _ in range(30):
        site.now += DAY_S
        site.metadata.renew()
    assert site.version("snapshot.json") > 1
    trust.refresh(datetime.fromtimestamp(site.now, UTC))


async def test_after_weeks_without_a_server_its_metadata_comes_before_its_orders(site, trust):
    """Both are due then; a device refuses an order for which it finds a timestamp that has expired."""
    site.now += 20 * DAY_S
    found = asyncio.Queue()

    class Engine:
        def tick(self):
            try:
                trust.refresh(datetime.fromtimestamp(site.now, UTC))  # as a device does that gets one of its orders
            except Untrusted as error:
                looping.call_soon_threadsafe(found.put_nowait, str(error))
            else:
                looping.call_soon_threadsafe(found.put_nowait, "it holds")
            return False

    looping, duties = asyncio.get_running_loop(), Background.__new__(Background)
    duties._metadata, duties._engine, duties._mishaps = site.metadata, Engine(), Mishaps(site.clock)
    duties._failing, duties._look, duties._send, duties._tick_s = set(), asyncio.Event(), asyncio.Event(), 60.0
    working = asyncio.create_task(duties._rolling_out())
    async with asyncio.timeout(stretched(10)):
        assert await found.get() == "it holds"
    working.cancel()
    await asyncio.wait([working])


def test_nobody_is_told_of_what_is_signed_when_the_server_is_back(site):
    """It was near its end while nobody could sign it, and is not any more."""
    site.found()
    site.now += 13 * DAY_S
    mishaps, authority = Mishaps(site.clock), Authority.load(site.data.ca, site.clock)
    Upkeep(
        database=site.database,
        folder=site.data,
        authority=authority,
        services=Authority.load(site.data.service_ca, site.clock),
        revocations=Revocations(authority, site.data),
        clock=site.clock,
        mishaps=mishaps,
        renew_metadata=site.metadata.renew,
    ).step()
    with site.database.read() as connection:
        told = [one["message"] for one in events.newest(connection, limit=100) if one["kind"] == "ends-soon"]
    assert (told, mishaps.warnings) == ([], [])


def test_old_versions_stay_a_while_and_roots_for_ever(site, trust):
    """A device in the middle of a refresh finds what its timestamp names; the table does not grow without end."""
    for _ in range(40):
        site.now += DAY_S + 1
        site.metadata.renew()
    assert site.version("timestamp.json") == 41
    assert site.metadata.file("40.timestamp.json")
    with pytest.raises(Missing):
        site.metadata.file("2.timestamp.json")
    assert site.metadata.file("1.root.json") == site.metadata.newest_root()


def test_a_new_fleet_has_no_root_and_renews_nothing(site):
    """Before the owner came, the server says what to do."""
    site.metadata.renew()
    with pytest.raises(Conflict, match="keys init"):
        site.metadata.newest_root()
    with pytest.raises(Conflict, match="keys init"):
        site.metadata.update_team(site.owner.team, site.owner.metadata)


def test_a_bootstrap_that_does_not_hold_together_leaves_nothing(site):
    """Foreign director bytes, metadata for another server's keys, and unsigned targets are refused whole."""
    foreign = Publisher()
    other_keys = {
        role: {"keyid": signer.public_key.keyid, **signer.public_key.to_dict()}
        for role, signer in zip(("snapshot", "timestamp", "director"), foreign.root_signers, strict=True)
    }
    foreign.prepare(other_keys)
    with pytest.raises(Invalid, match="not the bytes"):
        site.found(director=foreign.founded.director)
    with pytest.raises(Invalid, match="director key is not in it"):
        site.found(targets=foreign.founded.targets, director=foreign.founded.director)
    with pytest.raises(Invalid, match="another key"):
        site.found(root=foreign.founded.root)
    with pytest.raises(Invalid, match=r"not valid trust metadata"):
        site.found(root=b"{}")
    impostor = Publisher()
    impostor.prepare(site.metadata.online_keys())
    with pytest.raises(Untrusted):
        site.found(targets=impostor.founded.targets)
    with pytest.raises(Conflict):
        site.metadata.newest_root()
    site.found()


def test_metadata_that_lists_a_module_which_is_not_here_is_refused_whole(site):
    """Nothing is published of it, and the team's next metadata is still the next."""
    site.found()
    draft = site.draft()
    with pytest.raises(Invalid, match="no such draft"):
        site.metadata.update_team(
            site.owner.team, site.owner.signed_with(module("acme", "ghost", "1", {"model.onnx": b"x"}))
        )
    assert site.version("team-acme.json") == site.version("timestamp.json") == 1

    site.metadata.update_team(site.owner.team, site.owner.signed_with(draft))
    with site.database.read() as connection:
        assert site.registry.view(connection, ModuleRef.parse("acme/digits:1"))["state"] == "signed"


def released(site, manifest, present, **more):
    """The files of the team that change for one more module."""
    return team_files.release(
        present,
        team=site.owner.team,
        path=manifest.ref.target,
        data=manifests.encode(manifest),
        targets=site.metadata.file("targets.json"),
        signers=[site.owner.team_signer],
        now=datetime.fromtimestamp(int(site.now), UTC),
        **more,
    )


def test_a_large_team_moves_into_bins_at_once_or_not_at_all(site, trust):
    """Its role and 256 bins are one change; a device finds the module then, and the next one by one bin more."""
    draft, role, team = site.draft(), "team-acme", site.owner.team
    files = released(site, draft, {role: site.owner.metadata}, most=0)
    name = roles.bin_of(team, draft.ref.target)
    torn = {one: data for one, data in files.items() if one != name}
    with pytest.raises(Invalid, match="1 bins are missing"):
        site.metadata.update_team_files(team, torn)
    assert (site.version("team-acme.json"), site.version("timestamp.json")) == (1, 1)
    with pytest.raises(Missing):
        site.metadata.file("bins-acme-00.json")

    for signed in (["acme/digits:1"], []):  # the second time because an answer was lost
        assert site.metadata.update_team_files(team, files) == signed
    assert site.version("timestamp.json") == 2
    site.blobs.put(b"graph 2")
    second = module("acme", "digits", "2", {"model.onnx": b"graph 2"})
    with site.database.write() as connection:
        site.registry.draft(connection, site.now, second.ref, manifests.encode(second))
    name = roles.bin_of(team, second.ref.target)
    more = released(site, second, {role: files[role], name: files[name]})
    assert (list(more), site.metadata.update_team_files(team, more)) == ([name], ["acme/digits:2"])

    trust.refresh(datetime.fromtimestamp(site.now, UTC))
    for manifest in (draft, second):
        assert trust.manifest_target(manifest.ref.target).sha256 == sha256(manifests.encode(manifest))


@pytest.mark.parametrize(
    "name", ["", "root", "snapshot", "team-vision", "bins-vision-00", "bins-acme-0G", "a\0b", "x" * 5000]
)
def test_a_team_sends_no_file_of_another(site, name):
    """Whatever it is called; nothing is looked up under a name that is not the team's."""
    site.found()
    signed = site.owner.signed_with(site.draft())
    with pytest.raises(Invalid, match="no file of the team"):
        site.metadata.update_team_files(site.owner.team, {"team-acme": signed, name: signed})
    assert site.version("team-acme.json") == 1


def test_bins_leave_room_in_the_snapshot(site, monkeypatch):
    """A team that would make it nearly too long for devices is refused: all else can be published still."""
    site.found()
    draft, role, team = site.draft(), "team-acme", site.owner.team
    monkeypatch.setitem(roles._LIMIT, "snapshot", 12_000)
    with pytest.raises(Conflict, match="more than 9000 bytes"):
        site.metadata.update_team_files(team, released(site, draft, {role: site.owner.metadata}, most=0))
    with pytest.raises(Missing):
        site.metadata.file("bins-acme-00.json")

    monkeypatch.setitem(roles._LIMIT, "snapshot", 16_000)
    files = released(site, draft, {role: site.owner.metadata}, most=0)
    assert site.metadata.update_team_files(team, files) == ["acme/digits:1"]


VISION = Slug("vision")


class Second:
    """The metadata of a second team, as the owner and the team's own new key sign it."""

    def __init__(self, site):
        self.now = datetime.fromtimestamp(int(site.now), UTC)
        self.signer = CryptoSigner.generate_ed25519()
        self.owner = [site.owner.targets_signer]
        self.first = site.metadata.file("targets.json")
        self.data = repository.create_team(team=VISION, signers=[self.signer], now=self.now)
        self.targets = self.named()

    def named(self, *, after=None, signers=None, team=VISION):
        return repository.delegate_team(
            after or self.first,
            team=team,
            keys=[self.signer.public_key],
            signers=signers or self.owner,
            now=self.now,
        )


def test_a_team_is_added_once_and_told(site, trust):
    """Sent twice because an answer was lost, it is one new version and one event; devices go on."""
    second = Second(site)
    for _ in range(2):
        site.metadata.add_team(VISION, targets=second.targets, data=second.data)

    trust.refresh(datetime.fromtimestamp(site.now, UTC))
    assert (site.version("targets.json"), site.version("team-vision.json")) == (2, 1)
    with site.database.read() as connection:
        told = [(one["kind"], one["message"]) for one in events.newest(connection)]
    assert told.count(("team-added", "team-vision")) == 1


def test_targets_that_do_more_than_name_a_team_are_refused_whole(site):
    """Signed by another, of another version, with other director keys, or without a team: all is as before."""
    site.found()
    second = Second(site)
    stranger = [CryptoSigner.generate_ed25519()]
    alone = repository.create(
        root_signers=site.owner.root_signers,
        targets_signers=second.owner,
        online=repository.OnlineKeys(*(signer.public_key for signer in site.owner.root_signers)),
        teams={},
        now=second.now,
    ).targets
    other_director, _ = repository.set_director_keys(
        second.first, keys=[stranger[0].public_key], signers=second.owner, now=second.now
    )
    without_acme = Envelope.from_bytes(second.named())
    del without_acme.signed.delegations.roles["team-acme"]
    without_acme.signatures.clear()
    without_acme.sign(second.owner[0])
    for targets, why in (
        (second.named(signers=stranger), "signatures hold"),
        (second.first, "version 2 is next"),
        (second.named(after=second.targets), "version 2 is next"),
        (second.named(after=alone), "other director keys"),
        (other_director, "other director keys"),
        (without_acme.to_bytes(), "no longer names this team"),
        (second.named(team=site.owner.team), "no role delegates it"),
    ):
        with pytest.raises((Invalid, Untrusted), match=why):
            site.metadata.add_team(VISION, targets=targets, data=second.data)
    with pytest.raises(Untrusted, match="signatures hold"):
        site.metadata.add_team(
            VISION,
            targets=second.targets,
            data=repository.create_team(team=VISION, signers=[site.owner.team_signer], now=second.now),
        )
    assert site.version("targets.json") == 1

    site.metadata.add_team(VISION, targets=second.targets, data=second.data)


def test_a_team_of_a_fleet_without_a_root(site):
    """There is nothing yet that could name it."""
    with pytest.raises(Conflict, match="keys init"):
        site.metadata.add_team(VISION, targets=b"", data=b"")


def test_the_first_teams_key_signs_nothing_of_the_second(site, trust):
    """Even a server that ties such metadata together makes no device accept it."""
    second = Second(site)
    site.metadata.add_team(VISION, targets=second.targets, data=second.data)
    stolen = module("vision", "eyes", "1", {"model.onnx": b"x"})
    forged = repository.add_target(
        second.data,
        team=VISION,
        path=stolen.ref.target,
        data=manifests.encode(stolen),
        signers=[site.owner.team_signer],
        now=second.now,
    )
    with pytest.raises(Untrusted, match="signatures hold"):
        site.metadata.update_team(VISION, forged)

    with site.database.write() as connection:
        metadata_files.write(connection, "team-vision", forged)
        meta = Envelope.from_bytes(site.metadata.file("snapshot.json"))
        meta.signed.version += 1
        meta.signed.meta["team-vision.json"] = MetaFile.from_data(2, forged, ["sha256"])
        meta.signatures.clear()
        meta.sign(site.metadata._keys.present("snapshot"))
        metadata_files.write(connection, "snapshot", meta.to_bytes())
        stamp = Envelope.from_bytes(site.metadata.file("timestamp.json"))
        stamp.signed.version += 1
        stamp.signed.snapshot_meta = MetaFile.from_data(meta.signed.version, meta.to_bytes(), ["sha256"])
        stamp.signatures.clear()
        stamp.sign(site.metadata._keys.present("timestamp"))
        metadata_files.write(connection, "timestamp", stamp.to_bytes())
    trust.refresh(second.now)
    with pytest.raises(Untrusted, match="team-vision was signed by 0/1 keys"):
        trust.manifest_target(stolen.ref.target)
