"""A team with more releases than its role may list: what devices find, and what a hostile server or team gets."""

import shutil
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tuf.api.metadata import Metadata, Snapshot, TargetFile, Targets
from tuf.ngclient import Updater, UpdaterConfig

from modules.errors import BadSettings, Invalid, LinkLost, Untrusted
from modules.names import ModuleRef, Slug, Version
from modules.trust import metadata, repository, roles, team_files
from modules.trust.client import Fetcher
from modules.trust.device import Target
from tests.doubles.keys import ACME, NOW, Publisher, release, signer
from tests.modules.trust.test_device import Device

REF = "acme/digits:1"
PATH = "modules/acme/digits/1.json"
BIN = roles.bin_of(ACME, PATH)
ROLE = roles.team_role(ACME)


@pytest.fixture
def publisher():
    publisher = Publisher(most=0)
    publisher.release(REF)
    return publisher


@pytest.fixture
def device(tmp_path, publisher):
    return Device(tmp_path / "trust", publisher)


@pytest.fixture
def settled(device):
    device.trust.refresh(NOW)
    device.trust.manifest_target(PATH)
    device.trust.director_keys()
    return device


def read(data):
    return Metadata[Targets].from_bytes(data)


def changed(data, change, *keys, bump=1):
    """The file after any change, signed by these keys: what a thief of them can make."""
    file = read(data)
    change(file.signed)
    file.signed.version += bump
    file.signatures.clear()
    for key in keys:
        file.sign(key, append=True)
    return file.to_bytes()


def listing(path, data=b"x"):
    return lambda signed: signed.targets.update({path: TargetFile.from_data(path, data, ["sha256"])})


def delegating(delegations):
    return lambda signed: setattr(signed, "delegations", delegations)


def test_whose_role_it_is():
    """A team's role and its bins are the team's; the others are nobody's."""
    assert [roles.team_of(name) for name in (roles.team_role(ACME), *roles.bins(ACME)[:2])] == [ACME] * 3
    assert [roles.team_of(name) for name in ("root", "timestamp", "acme")] == [None] * 3


class TestPublishing:
    def test_the_role_itself_lists_the_first(self):
        """Up to the bound nothing is different; the release that is one too many moves all, and floors stay."""
        publisher = Publisher(most=2)
        for ref in ("acme/digits:1", "acme/digits:2"):
            publisher.release(ref)
        publisher.set_floor("acme/digits:1")
        assert publisher.bins == {}
        before = read(publisher.teams[ACME]).signed

        publisher.release("acme/digits:3")
        after = read(publisher.teams[ACME]).signed
        assert list(after.targets) == ["floors/acme/digits.json"]
        assert (before.version, after.version) == (4, 5)
        assert sorted(publisher.bins) == list(roles.bins(ACME))
        listed = {name: list(read(data).signed.targets) for name, data in publisher.bins.items()}
        assert sorted(path for paths in listed.values() for path in paths) == [
            f"modules/acme/digits/{number}.json" for number in (1, 2, 3)
        ]
        assert all(roles.bin_of(ACME, path) == name for name, paths in listed.items() for path in paths)

    def test_one_more_release_is_one_small_file(self, publisher):
        """Of a large team one bin is signed again, and nothing else; the same bytes once more change nothing."""
        part = {
            "team": ACME,
            "path": "modules/acme/digits/2.json",
            "data": release("acme/digits:2"),
            "targets": publisher.targets_metadata,
            "signers": [publisher.team_signers[ACME]],
            "now": NOW,
        }
        name = roles.bin_of(ACME, part["path"])
        wanted = {ROLE: publisher.teams[ACME], name: publisher.bins[name]}
        signed = team_files.release(wanted, **part)

        assert list(signed) == [name]
        assert team_files.release(wanted | signed, **part) == {}
        with pytest.raises(Invalid, match="other content"):
            team_files.release(wanted | signed, **part | {"data": release("acme/digits:2", description="changed")})

    def test_the_snapshot_says_versions_of_bins_alone(self, publisher):
        """With hashes it would be four times as long, for every device at each release."""
        meta = Metadata[Snapshot].from_bytes(publisher.online.snapshot).signed.meta
        assert all(
            (meta[f"{name}.json"].hashes, meta[f"{name}.json"].length) == (None, None) for name in publisher.bins
        )
        assert meta[f"{ROLE}.json"].hashes
        assert len(publisher.online.snapshot) < 12_000

    def test_the_role_is_renewed_with_a_release_when_half_its_life_is_over(self, publisher):
        """A team that publishes does not expire, though its role changes no more; its bins live as long as that."""
        publisher.later(days=80)
        publisher.release("acme/digits:2")
        assert read(publisher.teams[ACME]).signed.expires == NOW + timedelta(days=180)
        publisher.later(days=20)
        publisher.release("acme/digits:3")
        assert read(publisher.teams[ACME]).signed.expires == publisher.now + timedelta(days=180)
        assert read(publisher.bins[BIN]).signed.expires > publisher.now + timedelta(days=3000)

    def test_a_floor_needs_a_published_version(self, publisher):
        """It is looked for in all bins."""
        with pytest.raises(Invalid, match="no published version of digits is 2"):
            publisher.set_floor("acme/digits:2")
        publisher.release("acme/digits:2")
        publisher.set_floor("acme/digits:2")
        assert list(read(publisher.teams[ACME]).signed.targets) == ["floors/acme/digits.json"]

    def test_a_bin_has_a_bound(self, publisher):
        """A bin is one block on its way to a device, and is never signed larger."""
        full = changed(
            publisher.bins[BIN],
            lambda signed: [listing(f"modules/acme/digits/{number}.json")(signed) for number in range(1000)],
            publisher.team_signers[ACME],
        )
        with pytest.raises(Invalid, match="more than the 65536 that devices accept"):
            metadata.read(full, Targets, BIN)

    def test_tools_of_before_do_not_put_a_release_into_the_role(self, publisher):
        """Where the role delegates to bins, it lists floors alone."""
        with pytest.raises(Invalid, match="stand in bins"):
            repository.add_target(
                publisher.teams[ACME],
                team=ACME,
                path="modules/acme/digits/2.json",
                data=release("acme/digits:2"),
                signers=[publisher.team_signers[ACME]],
                now=NOW,
            )


class TestKeys:
    def test_a_teams_new_key_signs_all_of_it(self, settled, publisher):
        """After the owner named another key, devices follow the team's files of that key, and those of no other."""
        old = publisher.team_signers[ACME]
        publisher.replace_team_key(ACME)
        publisher.release("acme/digits:2")
        settled.trust.refresh(NOW)
        assert settled.trust.manifest_target("modules/acme/digits/2.json") is not None
        assert settled.trust.manifest_target(PATH) is not None

        publisher.bins[BIN] = changed(publisher.bins[BIN], listing("modules/acme/digits/3.json"), old)
        publisher.publish()
        settled.trust.refresh(NOW)
        with pytest.raises(Untrusted, match=f"{BIN} was signed by 0/1 keys"):
            settled.trust.manifest_target(PATH)

    def test_a_role_alone_is_not_signed_by_a_key_that_may_not_sign_its_bins(self, publisher):
        """Devices would refuse every release of the team."""
        with pytest.raises(BadSettings, match="bins are signed by other keys"):
            repository.renew(publisher.teams[ACME], role=ROLE, signers=[signer()], now=NOW)

    def test_a_renewal_is_the_role_alone(self, publisher):
        """With the keys as they are, 256 files need no new signature."""
        part = {"team": ACME, "targets": publisher.targets_metadata, "signers": [publisher.team_signers[ACME]]}
        again = team_files.renew(publisher.team_files(ACME), now=NOW, **part)
        assert list(again) == [ROLE]
        publisher.take(ACME, again)

    def test_an_added_key_needs_no_haste(self, settled, publisher):
        """What the team signed before the owner named one more key for it holds on."""
        first = publisher.team_signers[ACME]
        publisher.targets_metadata = repository.delegate_team(
            publisher.targets_metadata,
            team=ACME,
            keys=[first.public_key, signer().public_key],
            signers=[publisher.targets_signer],
            now=NOW,
        )
        publisher.publish()
        settled.trust.refresh(NOW)
        assert settled.trust.manifest_target(PATH) is not None

    def test_a_withdrawn_key_signs_no_bins(self, settled, publisher):
        """Until the team has signed all of its files anew, none of its releases is believed, as with a flat role."""
        first, second = publisher.team_signers[ACME], signer()
        for keys in ([first, second], [second]):
            publisher.targets_metadata = repository.delegate_team(
                publisher.targets_metadata,
                team=ACME,
                keys=[key.public_key for key in keys],
                signers=[publisher.targets_signer],
                now=NOW,
            )
            publisher.teams[ACME] = changed(publisher.teams[ACME], lambda _: None, *keys)
            publisher.publish()
        settled.trust.refresh(NOW)
        with pytest.raises(Untrusted, match="other keys may sign its bins"):
            settled.trust.manifest_target(PATH)

    def test_a_thief_of_a_bin_with_a_huge_version(self, settled, publisher):
        """A key that is withdrawn takes along what it made devices remember of a bin."""
        honest, thief = publisher.bins[BIN], publisher.team_signers[ACME]
        publisher.bins[BIN] = changed(honest, lambda _: None, thief, bump=10**8)
        publisher.publish()
        settled.trust.refresh(NOW)
        settled.trust.manifest_target(PATH)
        assert settled.versions.kept[BIN].version > 10**8
        publisher.bins[BIN] = changed(honest, lambda _: None, thief)
        publisher.online = None
        publisher.replace_online_keys()
        settled.lose_cache()
        settled.trust.refresh(NOW)
        with pytest.raises(Untrusted, match=f"{BIN}: version 2 came after version"):
            settled.trust.manifest_target(PATH)
        publisher.replace_team_key(ACME)
        settled.trust.refresh(NOW)
        assert settled.trust.manifest_target(PATH) is not None


class TestDevice:
    def test_one_bin_is_fetched(self, device, publisher):
        """A device asks for the bin of what it was ordered, for no other and not for the floor's."""
        device.trust.refresh(NOW)
        device.responder.asked.clear()
        assert device.trust.manifest_target(PATH) is not None
        assert device.trust.floor(ACME, Slug("digits")) is None
        assert device.responder.asked == [f"{read(publisher.teams[ACME]).signed.version}.{ROLE}.json", f"1.{BIN}.json"]
        assert [role for role in device.versions.kept if roles.is_bin(role)] == [BIN]

    def test_a_bin_that_did_not_change_is_not_fetched_again(self, settled, publisher):
        """Of a new release in another bin a device fetches that, and what ties it together."""
        ref = next(f"acme/digits:{n}" for n in range(2, 99) if roles.bin_of(ACME, path_of(f"acme/digits:{n}")) != BIN)
        publisher.release(ref)
        settled.responder.asked.clear()
        settled.trust.refresh(NOW)
        assert settled.trust.manifest_target(PATH) is not None
        assert settled.trust.manifest_target(path_of(ref)) is not None
        assert [name.split(".", 1)[1] for name in settled.responder.asked] == [
            "root.json",
            "json",
            "snapshot.json",
            f"{roles.bin_of(ACME, path_of(ref))}.json",
        ]

    def test_offline(self, settled):
        """What a device asked for before is known without network; what it never fetched needs its server."""
        settled.restart()
        settled.cut_off()
        settled.trust.load_offline()
        assert settled.trust.manifest_target(PATH) is not None
        with pytest.raises(LinkLost):
            settled.trust.manifest_target("modules/acme/other/1.json")

    def test_the_cache_stays_small(self, settled, publisher):
        """Of the bins that orders named over the years, the newest lie on the disk."""
        for number in range(100):
            settled.trust.manifest_target(f"modules/acme/model-{number}/1.json")
        folder = settled.folder / "metadata"
        assert len(list(folder.glob("bins-*.json"))) > 64
        settled.trust.refresh(NOW)
        assert len(list(folder.glob("bins-*.json"))) == 64

    def test_expired_role(self, settled, publisher):
        """The role's life is the bins': when it is over, nothing of the team is accepted."""
        publisher.later(days=179)
        publisher.replace_director()
        publisher.publish()
        settled.trust.refresh(publisher.now)
        settled.trust.manifest_target(PATH)
        with pytest.raises(Untrusted, match="trust metadata, team-acme: it expired"):
            settled.trust.require_current(publisher.now + timedelta(days=2), teams=[ACME])

    def test_any_client_that_knows_tap_15(self, tmp_path, publisher):
        """Agents of before find releases and floors by python-tuf alone, without knowing what a bin is."""
        publisher.set_floor(REF)
        updater = Updater(
            str(tmp_path),
            "metadata/",
            fetcher=Fetcher(lambda name, _limit: publisher.files.get(name)),
            config=UpdaterConfig(max_delegations=8),
            bootstrap=publisher.first_root,
        )
        updater._trusted_set.reference_time = NOW
        updater.refresh()
        assert updater.get_targetinfo(PATH).length == len(release(REF))
        assert updater.get_targetinfo("floors/acme/digits.json").custom == {"minimum": "1"}
        assert updater.get_targetinfo("modules/acme/digits/9.json") is None
        assert updater.get_targetinfo("floors/acme/other.json") is None


def path_of(ref):
    return ModuleRef.parse(ref).target


def names_of(text):
    return st.sampled_from(text.split())


VERSIONS = st.sampled_from(["1", "2", "3", "10", "1.1", "2.5"])
RELEASES = st.lists(st.tuples(names_of("a b c d"), VERSIONS), max_size=12, unique=True)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(releases=RELEASES, floors=st.lists(names_of("a b c d"), max_size=4), most=st.integers(0, 12))
@pytest.mark.long
def test_flat_and_binned_teams_give_the_same_answers(tmp_path, releases, floors, most):
    """Whatever a team publishes and in which order, devices are told the same, wherever it stands."""
    answers = []
    for bound in (1000, most):
        publisher = Publisher(most=bound)
        for name, version in releases:
            publisher.release(f"acme/{name}:{version}")
        for name in floors:
            own = [Version.parse(version) for other, version in releases if other == name]
            if own:
                publisher.set_floor(f"acme/{name}:{max(own, key=lambda one: one.numbers)}")
        shutil.rmtree(tmp_path / "device", ignore_errors=True)
        device = Device(tmp_path / "device", publisher)
        device.trust.refresh(NOW)
        asked = [*releases, ("a", "77"), ("nobody", "1")]
        found = {
            (name, version): device.trust.manifest_target(f"modules/acme/{name}/{version}.json")
            for name, version in asked
        }
        answers.append((found, {name: device.trust.floor(ACME, Slug(name)) for name in "abcde"}))

    assert answers[0] == answers[1]
    assert all(isinstance(answers[0][0][one], Target) for one in releases)


def test_names_of_bins_cannot_be_confused():
    """However teams are called, no two of them have a bin of one name, and none has a role of a bin's name."""
    teams = [Slug(name) for name in ("acme", "acme-00", "acme-00-00", "bins-acme", "bins", "a", "00")]
    named = [name for team in teams for name in (*roles.bins(team), roles.team_role(team))]
    assert len(set(named)) == len(named)
    assert not any(roles.is_bin(roles.team_role(team)) for team in teams)
    assert roles.bin_of(ACME, PATH) in roles.bins(ACME)
