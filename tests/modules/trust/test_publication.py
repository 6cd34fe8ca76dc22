"""The fleet server's part: what it refuses from a team, and how it ties the present files together."""

import contextlib
import json

import pytest
from tuf.api.metadata import Metadata, Snapshot, TargetFile, Targets, Timestamp

from modules.errors import BadSettings, Invalid, Untrusted
from modules.names import ModuleRef, Slug, Version
from modules.trust import publication, repository, roles
from tests.doubles.keys import ACME, NOW, OTHER, Publisher, release, signer


@pytest.fixture
def publisher():
    publisher = Publisher()
    publisher.release("acme/digits:1")
    return publisher


def check(publisher, new, *, old=..., team=ACME, now=NOW):
    return publication.check_team_update(
        root=publisher.root,
        targets=publisher.targets_metadata,
        team=team,
        old=publisher.teams[team] if old is ... else old,
        new=new,
        now=now,
    )


def added(publisher, ref="acme/digits:2", **changes):
    named = ModuleRef.parse(ref)
    return repository.add_target(
        **(
            {
                "team_metadata": publisher.teams[ACME],
                "team": ACME,
                "path": named.target,
                "data": release(ref),
                "signers": [publisher.team_signers[ACME]],
                "now": NOW,
            }
            | changes
        )
    )


def forged(publisher, change, *, bump=1, key=None):
    """The team's metadata after an arbitrary change, signed with the team's key: what a stolen key can make."""
    file = Metadata[Targets].from_bytes(publisher.teams[ACME])
    change(file.signed)
    file.signed.version += bump
    file.sign(key or publisher.team_signers[ACME])
    return file.to_bytes()


def publish(publisher, **changes):
    return publication.publish_online(
        **(
            {
                "root": publisher.root,
                "targets": publisher.targets_metadata,
                "teams": publisher.teams,
                "previous": publisher.online,
                "snapshot_signer": publisher.snapshot_signer,
                "timestamp_signer": publisher.timestamp_signer,
                "now": publisher.now,
            }
            | changes
        )
    )


def versions(online):
    return (
        Metadata[Snapshot].from_bytes(online.snapshot).signed.version,
        Metadata[Timestamp].from_bytes(online.timestamp).signed.version,
    )


class TestTeamUpdate:
    def test_good(self, publisher):
        """The next version with one more release is taken, and its targets are returned."""
        assert list(check(publisher, added(publisher)).signed.targets) == [
            "modules/acme/digits/1.json",
            "modules/acme/digits/2.json",
        ]

    def test_first(self, publisher):
        """A team's first metadata is version 1."""
        first = repository.create_team(team=ACME, signers=[publisher.team_signers[ACME]], now=NOW)
        assert check(publisher, first, old=None).signed.version == 1
        with pytest.raises(Untrusted, match="version 1 is next"):
            check(publisher, added(publisher), old=None)

    @pytest.mark.parametrize("bump", [-1, 0, 2, 1 << 30])
    def test_version_leaps(self, publisher, bump):
        """Only the version after the present one is taken: no rollback, no fast-forward, no release lost."""
        with pytest.raises(Untrusted, match="is next"):
            check(publisher, forged(publisher, lambda _: None, bump=bump))

    def test_other_teams_key(self, publisher):
        """Another team's key signs nothing here."""
        with pytest.raises(Untrusted, match="0 of 1 signatures hold"):
            check(publisher, added(publisher, signers=[publisher.team_signers[OTHER]]))

    def test_nobodys_team(self, publisher):
        """A team that the owner has not named cannot publish."""
        stranger = Slug("stranger")
        first = repository.create_team(team=stranger, signers=[signer()], now=NOW)
        with pytest.raises(Untrusted, match="no role delegates"):
            check(publisher, first, old=None, team=stranger)

    def test_withdrawn_key(self, publisher):
        """A team's old key is worth nothing once the owner has replaced it."""
        stolen = publisher.team_signers[ACME]
        publisher.replace_team_key(ACME)
        with pytest.raises(Untrusted, match="0 of 1 signatures hold"):
            check(publisher, added(publisher, signers=[stolen]))

    def test_expired(self, publisher):
        """Metadata that has expired is not taken."""
        with pytest.raises(Untrusted, match="it expired"):
            check(publisher, added(publisher), now=publisher.later(days=181))

    def test_missing_release(self, publisher):
        """A release that was published cannot disappear."""
        with pytest.raises(Invalid, match="is missing"):
            check(publisher, forged(publisher, lambda signed: signed.targets.clear()))

    def test_altered_release(self, publisher):
        """A release that was published cannot change."""

        def alter(signed):
            path = "modules/acme/digits/1.json"
            signed.targets[path] = TargetFile.from_data(path, b"other", ["sha256"])

        with pytest.raises(Invalid, match="other content"):
            check(publisher, forged(publisher, alter))

    @pytest.mark.parametrize(
        "path",
        [
            "modules/other/digits/9.json",
            "trust/director.json",
            "floors/other/digits.json",
            "modules/acme/../other/x.json",
        ],
    )
    def test_other_path(self, publisher, path):
        """A stolen team key cannot list what is not the team's."""

        def add(signed):
            signed.targets[path] = TargetFile.from_data(path, b"x", ["sha256"])

        with pytest.raises(Invalid):
            check(publisher, forged(publisher, add))

    def test_lowered_floor(self, publisher):
        """A floor that was published cannot be lowered."""
        publisher.release("acme/digits:2")
        publisher.set_floor("acme/digits:2")

        def lower(signed):
            signed.targets["floors/acme/digits.json"].unrecognized_fields["custom"] = {"minimum": "1"}

        with pytest.raises(Invalid, match="1 is lower"):
            check(publisher, forged(publisher, lower))

    def test_raised_floor(self, publisher):
        """A floor may be set and raised."""
        raised = repository.set_floor(
            publisher.teams[ACME],
            team=ACME,
            name=Slug("digits"),
            minimum=Version("1"),
            signers=[publisher.team_signers[ACME]],
            now=NOW,
        )
        assert "floors/acme/digits.json" in check(publisher, raised).signed.targets

    def test_no_sha256(self, publisher):
        """A release without a sha256, or larger than a manifest may be, is refused."""
        path = "modules/acme/digits/9.json"
        for target in (TargetFile(3, {"md5": "0" * 32}, path), TargetFile(1 << 30, {"sha256": "0" * 64}, path)):
            with pytest.raises(Invalid, match="no sha256 or more than"):
                check(publisher, forged(publisher, lambda signed, target=target: signed.targets.update({path: target})))

    def test_further_delegation(self, publisher):
        """A team cannot pass its right on."""
        other = Metadata[Targets].from_bytes(publisher.targets_metadata).signed.delegations

        def delegate(signed):
            signed.delegations = other

        with pytest.raises(Untrusted, match="to its own bins and to nobody else"):
            check(publisher, forged(publisher, delegate))

    def test_forged_targets(self, publisher):
        """Top-level metadata that root's keys did not sign gives nobody a right."""
        document = json.loads(publisher.targets_metadata)
        document["signed"]["version"] += 1
        publisher.targets_metadata = json.dumps(document).encode()
        with pytest.raises(Untrusted, match="targets"):
            check(publisher, added(publisher))


class TestPublishOnline:
    def test_first(self, publisher):
        """The files get the names that devices ask for."""
        names = publication.published(
            root=publisher.root, targets=publisher.targets_metadata, teams=publisher.teams, online=publisher.online
        )
        assert set(names) == {
            "1.root.json",
            "timestamp.json",
            "2.snapshot.json",
            "1.targets.json",
            "2.team-acme.json",
            "1.team-other.json",
        }

    def test_nothing_new(self, publisher):
        """The daily round renews the timestamp, and leaves a young snapshot as it is."""
        again = publish(publisher)
        assert versions(again) == (2, 3)
        assert again.snapshot == publisher.online.snapshot

    def test_old_snapshot(self, publisher):
        """A snapshot is signed again when half its life is over."""
        publisher.later(days=16)
        assert versions(publish(publisher)) == (3, 3)

    def test_new_release(self, publisher):
        """A change raises both versions by one."""
        publisher.release("acme/digits:2")
        assert versions(publisher.online) == (3, 3)

    def test_new_keys(self, publisher):
        """After a change of keys both are signed with the new ones, and versions go on."""
        publisher.replace_online_keys()
        assert versions(publisher.online) == (3, 3)

    def test_wrong_signer(self, publisher):
        """A key that root does not name is refused before it signs anything."""
        for role in ("snapshot", "timestamp"):
            with pytest.raises(BadSettings, match=role):
                publish(publisher, **{f"{role}_signer": signer()})

    def test_restored_backup(self, publisher):
        """A team's older metadata, from a restored backup for instance, is not published over newer."""
        old = dict(publisher.teams)
        publisher.release("acme/digits:2")
        with pytest.raises(Untrusted, match="version 2 comes after version 3"):
            publish(publisher, teams=old)

    def test_two_files_of_one_version(self, publisher):
        """Two different files under one version are not published one after the other."""
        teams = publisher.teams | {ACME: forged(publisher, lambda signed: signed.targets.clear(), bump=0)}
        with pytest.raises(Untrusted, match="two different files"):
            publish(publisher, teams=teams)

    def test_forged_team(self, publisher):
        """What a team's key did not sign is not published."""
        teams = publisher.teams | {ACME: added(publisher, signers=[signer()])}
        with pytest.raises(Untrusted, match="team-acme"):
            publish(publisher, teams=teams)

    def test_dissolved_team(self, publisher):
        """A team that is gone stays listed, so that devices which knew it accept the next snapshot."""
        teams = {team: data for team, data in publisher.teams.items() if team != OTHER}
        online = publish(publisher, teams=teams)
        assert "team-other.json" in Metadata[Snapshot].from_bytes(online.snapshot).signed.meta

    def test_unsigned_root(self, publisher):
        """A root that its own keys did not sign is not published."""
        document = json.loads(publisher.root)
        document["signatures"] = document["signatures"][:1]
        with pytest.raises(Untrusted, match=roles.ROOT):
            publish(publisher, root=json.dumps(document).encode())


def test_only_the_targets_key_names_a_team(publisher):
    """New targets metadata of another key is no targets metadata, however well the rest of it is made."""
    vision, stranger = Slug("vision"), signer()
    for signers, taken in (([publisher.targets_signer], True), ([stranger], False), ([*publisher.root_signers], False)):
        named = repository.delegate_team(
            publisher.targets_metadata, team=vision, keys=[stranger.public_key], signers=signers, now=NOW
        )
        with contextlib.nullcontext() if taken else pytest.raises(Untrusted, match="0 of 1 signatures hold"):
            publication.check_targets_update(root=publisher.root, old=publisher.targets_metadata, new=named, now=NOW)
