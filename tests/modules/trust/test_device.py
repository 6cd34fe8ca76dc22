"""A device against a hostile way to its server: what it goes on trusting, and what it refuses."""

import json
import shutil
import stat
from datetime import timedelta

import pytest
from tuf.api.metadata import Metadata, TargetFile
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet

from modules.digests import sha256
from modules.errors import BadSettings, Invalid, LinkLost, Untrusted
from modules.names import Slug, Version
from modules.trust import repository, roles
from modules.trust.device import RoleMark, Target, Trust
from tests.doubles.keys import ACME, NOW, OTHER, MemoryRoleVersions, Publisher, Responder, signer

PATH = "modules/acme/digits/1.json"
DIGITS = Slug("digits")


class Device:
    """A device's trust, with everything around it that a test wants to break."""

    def __init__(self, folder, publisher):
        self.folder = folder
        self.root = publisher.first_root
        self.responder = Responder(publisher)
        self.versions = MemoryRoleVersions()
        self.restart()

    def restart(self):
        """What a new process of the agent knows: the folder and the marks."""
        self.trust = Trust(
            self.folder,
            root=self.root,
            fetch=self.responder.fetch,
            read_target=self.responder.read_target,
            versions=self.versions,
        )

    def lose_cache(self):
        shutil.rmtree(self.folder)
        self.restart()

    def cut_off(self):
        def silence(name, _data):
            raise LinkLost("no answer", element=name)

        self.responder.tamper = silence


@pytest.fixture
def publisher():
    publisher = Publisher()
    publisher.release("acme/digits:1")
    return publisher


@pytest.fixture
def device(tmp_path, publisher):
    return Device(tmp_path / "trust", publisher)


@pytest.fixture
def settled(device):
    """A device that has seen the present metadata and asked for a release."""
    device.trust.refresh(NOW)
    device.trust.manifest_target(PATH)
    device.trust.director_keys()
    return device


def test_the_folders_are_the_agents_alone(settled):
    """Nobody else enters the folders with what the device believes."""
    assert {stat.S_IMODE(inside.stat().st_mode) for inside in settled.folder.iterdir() if inside.is_dir()} == {0o700}


class TestQuestions:
    def test_release(self, device, publisher):
        """A published release is known by the length and digest that its team signed."""
        data = publisher.release("acme/digits:2")
        device.trust.refresh(NOW)

        assert device.trust.manifest_target("modules/acme/digits/2.json") == Target(len(data), sha256(data))

    def test_unknown_release(self, settled):
        """A release that nobody published is unknown, also of a team that does not exist."""
        assert settled.trust.manifest_target("modules/acme/digits/99.json") is None
        assert settled.trust.manifest_target("modules/nobody/digits/1.json") is None

    def test_no_module(self, settled):
        """The director's list cannot be ordered as a module."""
        with pytest.raises(Invalid):
            settled.trust.manifest_target(roles.DIRECTOR_PATH)

    def test_other_teams_path(self, device, publisher):
        """What a stolen team key lists below another team's paths is never found."""
        from_other = publisher.teams[OTHER]
        publisher.teams[OTHER] = json.dumps(
            forged_listing(json.loads(from_other), PATH, publisher.team_signers[OTHER])
        ).encode()
        publisher.publish()
        device.trust.refresh(NOW)

        assert device.trust.manifest_target(PATH).length != 1
        assert device.trust.manifest_target("modules/acme/stolen/1.json") is None

    def test_floor(self, device, publisher):
        """A floor is known once the team has set it, without a second fetch."""
        device.trust.refresh(NOW)
        assert device.trust.floor(ACME, DIGITS) is None

        publisher.set_floor("acme/digits:1")
        device.trust.refresh(NOW)
        assert device.trust.floor(ACME, DIGITS) == Version("1")
        assert not any(name.startswith("floors") for name in device.responder.asked)

    def test_director_is_fetched_once(self, settled):
        """The director's list is fetched once and then read from the disk."""
        assert list(settled.trust.director_keys()) == list(settled.trust.director_keys())
        assert settled.responder.asked.count(roles.DIRECTOR_PATH) == 1

    def test_new_director(self, settled, publisher):
        """A revoked director key is no longer listed after the next refresh."""
        old = list(settled.trust.director_keys())
        new = publisher.replace_director()
        settled.trust.refresh(NOW)

        assert list(settled.trust.director_keys()) == [new.public_key.keyid] != old

    def test_before_the_first_contact(self, device):
        """A device that has never met its server says so, and can trust nothing yet."""
        with pytest.raises(LinkLost, match="no trust metadata"):
            device.trust.director_keys()
        with pytest.raises(LinkLost):
            device.trust.load_offline()

    def test_second_refresh_is_small(self, settled):
        """When nothing is new, only the next root and the timestamp are asked for."""
        settled.responder.asked.clear()
        settled.trust.refresh(NOW)
        assert settled.responder.asked == ["2.root.json", "timestamp.json"]


class TestOffline:
    def test_after_a_restart(self, settled):
        """A restarted device knows without network what it trusted before."""
        settled.restart()
        settled.cut_off()
        settled.trust.load_offline()

        assert settled.trust.manifest_target(PATH) is not None
        assert settled.trust.director_keys()

    def test_after_a_refresh_that_nobody_asked_about(self, settled, publisher):
        """A refresh also brings the known teams up to date, so that they are still known offline."""
        publisher.release("acme/digits:2")
        settled.trust.refresh(NOW)
        settled.restart()
        settled.cut_off()
        settled.trust.load_offline()

        assert settled.trust.manifest_target("modules/acme/digits/2.json") is not None

    def test_long_expired(self, settled):
        """After years offline old questions are answered, and nothing new is accepted."""
        settled.restart()
        settled.trust.load_offline()

        assert settled.trust.manifest_target(PATH) is not None
        assert settled.trust.floor(ACME, DIGITS) is None
        with pytest.raises(Untrusted, match=r"root: it expired"):
            settled.trust.require_current(NOW + timedelta(days=1000))

    def test_expiry(self, settled):
        """Nothing new is accepted from the moment the first role expires."""
        assert settled.trust.expires == NOW + timedelta(days=14)
        settled.trust.require_current(NOW + timedelta(days=14, seconds=-1), teams=[ACME])
        with pytest.raises(Untrusted, match="timestamp"):
            settled.trust.require_current(NOW + timedelta(days=14))

    def test_expired_team(self, settled, publisher):
        """An expired team role blocks that team's orders and no other's."""
        publisher.later(days=179)
        for change in (publisher.replace_director, publisher.replace_online_keys):
            change()
        settled.trust.refresh(publisher.now)
        settled.trust.require_current(publisher.now + timedelta(days=2))
        with pytest.raises(Untrusted, match="team-acme"):
            settled.trust.require_current(publisher.now + timedelta(days=2), teams=[ACME])

    def test_expired_team_does_not_stop_a_refresh(self, settled, publisher):
        """When a known team's role has expired, the others are refreshed, and asking for its release says why not."""
        publisher.later(days=181)
        publisher.replace_director()
        settled.trust.refresh(publisher.now)

        with pytest.raises(Untrusted, match="team-acme is expired"):
            settled.trust.manifest_target(PATH)

    def test_torn_cache(self, settled):
        """A cache torn by a power cut heals itself at the next contact."""
        for file in (settled.folder / "metadata").rglob("*.json"):
            if not file.is_symlink():
                file.write_bytes(file.read_bytes()[:40])
        (settled.folder / "director.json").write_bytes(b"{")
        settled.restart()
        settled.trust.refresh(NOW)

        assert settled.trust.manifest_target(PATH) is not None
        assert settled.trust.director_keys()

    def test_failed_refresh_keeps_what_was_trusted(self, settled):
        """A refresh that fails takes nothing away."""
        settled.cut_off()
        with pytest.raises(LinkLost):
            settled.trust.refresh(NOW)
        assert settled.trust.manifest_target(PATH) is not None


class TestAttacks:
    def test_freeze(self, settled, publisher):
        """Metadata that stays the same for ever is refused once it has expired."""
        later = NOW + timedelta(days=14)
        with pytest.raises(Untrusted, match=r"timestamp\.json is expired"):
            settled.trust.refresh(later)
        publisher.now = later
        publisher.publish()
        settled.trust.refresh(later)

    def test_judged_by_the_given_time(self, device, publisher):
        """Expiry is held against the time that the agent believes in, not against the system clock."""
        publisher.later(days=-4000)
        past = Publisher(now=publisher.now)
        device.root, device.responder.files = past.first_root, past.files
        device.restart()
        device.trust.refresh(past.now)

    def test_rollback(self, settled, publisher):
        """Older metadata is refused while the cache is there."""
        old = publisher.copy_files()
        publisher.release("acme/digits:2")
        settled.trust.refresh(NOW)
        settled.responder.files = old
        with pytest.raises(Untrusted):
            settled.trust.refresh(NOW)

    def test_rollback_after_the_cache_is_lost(self, settled, publisher):
        """Older metadata is refused even when python-tuf's cache is gone, and honest metadata is then accepted."""
        old = publisher.copy_files()
        publisher.release("acme/digits:2")
        settled.trust.refresh(NOW)
        settled.lose_cache()
        settled.responder.files = old
        with pytest.raises(Untrusted, match="timestamp: version 2 came after version 3"):
            settled.trust.refresh(NOW)
        settled.restart()
        with pytest.raises(Untrusted, match="timestamp: version 2 came after version 3"):
            settled.trust.load_offline()

        settled.responder.files = publisher.files
        settled.trust.refresh(NOW)
        assert settled.trust.manifest_target("modules/acme/digits/2.json") is not None

    def test_rollback_of_root(self, settled, publisher):
        """A server that hides newer roots is refused after the cache is lost."""
        old = publisher.copy_files()
        publisher.change_root({})
        settled.trust.refresh(NOW)
        settled.lose_cache()
        settled.responder.files = old
        with pytest.raises(Untrusted, match="root: version 1 came after version 2"):
            settled.trust.refresh(NOW)

    def test_rollback_of_root_to_a_withdrawn_key(self, settled, publisher):
        """A root key that was withdrawn may have been stolen: that it is gone is no reason to go back to its root."""
        old = publisher.copy_files()
        lost, *kept = publisher.root_signers
        new = signer()
        publisher.root_signers = [lost, *kept, new]
        publisher.change_root({roles.ROOT: [one.public_key for one in (*kept, new)]})
        settled.trust.refresh(NOW)
        settled.lose_cache()
        settled.responder.files = old
        with pytest.raises(Untrusted, match="root: version 1 came after version 2"):
            settled.trust.refresh(NOW)

    def test_rollback_of_a_team_with_stolen_online_keys(self, settled, publisher):
        """Whoever has the online keys can still not bring back a team's older list, nor lose its floor."""
        before = dict(publisher.teams), publisher.online
        publisher.set_floor("acme/digits:1")
        settled.trust.refresh(NOW)
        settled.trust.floor(ACME, DIGITS)
        settled.lose_cache()
        publisher.teams, publisher.online = before
        for _ in range(3):
            publisher.later(days=16)
            publisher.publish()
        settled.trust.refresh(publisher.now)
        with pytest.raises(Untrusted, match="team-acme: version 2 came after version 3"):
            settled.trust.floor(ACME, DIGITS)

    def test_added_key_is_no_way_back(self, settled, publisher):
        """That a team gets a second key is no reason to accept its older metadata."""
        first, second = publisher.team_signers[ACME], signer()
        settled.versions.kept["team-acme"] = RoleMark(9, (first.public_key.keyid,))
        publisher.targets_metadata = repository.delegate_team(
            publisher.targets_metadata,
            team=ACME,
            keys=[first.public_key, second.public_key],
            signers=[publisher.targets_signer],
            now=NOW,
        )
        publisher.publish()
        with pytest.raises(Untrusted, match="team-acme: version 2 came after version 9"):
            settled.trust.refresh(NOW)

    def test_fast_forward(self, settled, publisher):
        """After a thief signed huge versions, a new root that withdraws the keys lets the device go on."""
        honest = publisher.online
        for _ in range(5):
            publisher.publish()
        settled.trust.refresh(NOW)
        publisher.online = honest
        publisher.publish()
        with pytest.raises(Untrusted):
            settled.trust.refresh(NOW)
        publisher.online = honest
        publisher.replace_online_keys()
        settled.trust.refresh(NOW)

        assert settled.versions.kept["timestamp"].version < 7

    def test_mix_and_match(self, settled, publisher):
        """Files that were never published together do not verify together."""
        old = publisher.copy_files()
        publisher.release("acme/digits:2")
        settled.lose_cache()
        settled.responder.files = publisher.files | {"3.team-acme.json": old["2.team-acme.json"]}
        settled.trust.refresh(NOW)
        with pytest.raises(Untrusted):
            settled.trust.manifest_target(PATH)

    def test_new_root_chain(self, device, publisher):
        """A device that was away follows every root since its own."""
        for _ in range(3):
            publisher.replace_online_keys()
        new = [signer() for _ in range(3)]
        publisher.root_signers += new
        publisher.change_root({roles.ROOT: [key.public_key for key in new]})
        publisher.root_signers = new
        publisher.change_root({})
        device.trust.refresh(NOW)

        assert device.versions.kept["root"].version == 6

    def test_root_of_a_stranger(self, device, publisher):
        """A next root that the present keys did not sign is refused."""
        stranger = Publisher()
        stranger.change_root({})
        device.responder.files = publisher.files | {"2.root.json": stranger.files["2.root.json"]}
        with pytest.raises(Untrusted):
            device.trust.refresh(NOW)

    def test_another_fleet(self, device):
        """A whole other repository, correct in itself, is refused."""
        device.responder.files = Publisher().files
        with pytest.raises(Untrusted):
            device.trust.refresh(NOW)

    def test_bad_bootstrap(self, device):
        """A join bundle with a broken root is refused at once."""
        device.root = b"{}"
        device.restart()
        with pytest.raises(Untrusted):
            device.trust.refresh(NOW)

    @pytest.mark.parametrize("name", ["2.root.json", "timestamp.json", "2.snapshot.json", "1.targets.json"])
    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(b"x" * (2 << 20), id="endless data"),
            pytest.param(b"[" * 8000, id="deep nesting"),
            pytest.param(b"", id="nothing"),
            pytest.param(b'{"signed": {"_type": "root"}, "signatures": []}', id="half a file"),
        ],
    )
    def test_wrong_bytes(self, device, name, answer):
        """Whatever bytes come for a file, the device refuses them and nothing else happens."""
        device.responder.tamper = lambda asked, data: answer if asked == name else data
        with pytest.raises(Untrusted):
            device.trust.refresh(NOW)

    @pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "1.targets.json"])
    def test_nothing_there(self, device, name):
        """A server that lacks a file is asked again later."""
        device.responder.tamper = lambda asked, data: None if asked == name else data
        with pytest.raises(LinkLost, match=name):
            device.trust.refresh(NOW)

    @pytest.mark.parametrize("error", [TimeoutError("no answer"), ConnectionResetError(), LinkLost("no answer")])
    def test_silence(self, device, error):
        """A way that breaks is told from content that is wrong."""

        def breaks(_name, _data):
            raise error

        device.responder.tamper = breaks
        with pytest.raises(LinkLost):
            device.trust.refresh(NOW)

    def test_limits(self, device):
        """Every fetch is told how much it may bring at most."""
        limits = {}
        fetch = device.responder.fetch
        device.responder.fetch = lambda name, limit: limits.update({name: limit}) or fetch(name, limit)
        device.restart()
        device.trust.refresh(NOW)

        assert limits["2.root.json"] == roles.limit(roles.ROOT)
        assert limits["timestamp.json"] == roles.limit(roles.TIMESTAMP)
        assert limits["1.targets.json"] == len(device.responder.files["1.targets.json"])

    def test_forged_director(self, device):
        """Other bytes for the director's list are refused, and are not kept."""
        device.trust.refresh(NOW)
        device.responder.tamper = lambda name, data: data + b" " if name == roles.DIRECTOR_PATH else data
        with pytest.raises(Untrusted, match="other bytes"):
            device.trust.director_keys()
        device.responder.tamper = lambda _name, data: data
        assert device.trust.director_keys()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param(lambda targets: targets.clear(), "named no director", id="when there is none"),
            pytest.param(
                lambda targets: setattr(targets[roles.DIRECTOR_PATH], "length", 1 << 20),
                "more than a list of keys",
                id="when the list is huge",
            ),
            pytest.param(
                lambda targets: setattr(targets[roles.DIRECTOR_PATH], "hashes", {"md5": "0" * 32}),
                "without a sha256",
                id="when it is signed by a weak hash",
            ),
        ],
    )
    def test_no_usable_director(self, device, publisher, change, message):
        """Without a director's list that can be checked, nobody may give orders."""
        file = Metadata.from_bytes(publisher.targets_metadata)
        change(file.signed.targets)
        file.signed.version += 1
        file.sign(publisher.targets_signer)
        publisher.targets_metadata = file.to_bytes()
        publisher.publish()
        device.trust.refresh(NOW)
        with pytest.raises(Untrusted, match=message):
            device.trust.director_keys()


def test_moved_reference_time(tmp_path, publisher, monkeypatch):
    """A python-tuf that keeps its time elsewhere is refused, rather than checked against the wrong clock."""
    original = TrustedMetadataSet.__init__

    def without_time(self, *args):
        original(self, *args)
        del self.reference_time

    monkeypatch.setattr(TrustedMetadataSet, "__init__", without_time)
    with pytest.raises(BadSettings, match="reference time"):
        Device(tmp_path, publisher).trust.refresh(NOW)


def forged_listing(document, path, key):
    """A team's metadata with targets added that are not its own, signed with the team's key."""
    file = Metadata.from_dict(document)
    for listed in (path, "modules/acme/stolen/1.json"):
        file.signed.targets[listed] = TargetFile.from_data(listed, b"x", ["sha256"])
    file.signed.version += 1
    file.sign(key)
    return file.to_dict()
