"""What a hostile server or team gets a device, or an honest server, to take of a team's bins: nothing."""

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Snapshot, SuccinctRoles

from modules.errors import Invalid, Untrusted
from modules.names import Slug
from modules.trust import bins, repository, roles, team_files
from modules.trust.team_update import check_team_files
from tests.doubles.keys import ACME, NOW, OTHER, Publisher, signer
from tests.modules.trust.test_bins import BIN, PATH, REF, ROLE, changed, delegating, listing, path_of, read
from tests.modules.trust.test_device import Device


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


class TestHostile:
    """Whoever has the online keys, and in places a team's: each is refused, and the device stays what it was."""

    def refused(self, device, publisher, match, path=PATH, asks=None):
        before, honest = dict(device.versions.kept), dict(publisher.files)
        bin_marks = {role: mark for role, mark in before.items() if roles.is_bin(role) or role.startswith("team-")}
        publisher.publish()
        device.trust.refresh(NOW)
        with pytest.raises(Untrusted, match=match):
            (asks or device.trust.manifest_target)(path)
        assert {one: device.versions.kept[one] for one in bin_marks} == bin_marks
        return honest

    def test_signed_by_another_key(self, settled, publisher):
        """A bin that the team's key did not sign."""
        for key in (publisher.team_signers[OTHER], signer(), publisher.snapshot_signer):
            publisher.bins[BIN] = changed(publisher.bins[BIN], listing(PATH, b"other"), key)
            self.refused(settled, publisher, f"{BIN} was signed by 0/1 keys")

    def test_another_teams_bin(self, settled, publisher):
        """A bin of another large team under this one's name."""
        publisher.release("other/digits:1")
        publisher.bins[BIN] = changed(
            publisher.bins[roles.bin_of(OTHER, PATH)], listing(PATH, b"other"), publisher.team_signers[OTHER]
        )
        self.refused(settled, publisher, f"{BIN} was signed by 0/1 keys")

    def test_a_team_that_delegates_to_another_teams_bins(self, settled, publisher):
        """A stolen team key cannot say who signs another team's bins, not even where its own are asked for."""
        key = publisher.team_signers[OTHER]
        theirs = Delegations(
            {key.public_key.keyid: key.public_key},
            succinct_roles=SuccinctRoles([key.public_key.keyid], 1, 8, roles.bins_prefix(ACME)),
        )
        publisher.teams[OTHER] = changed(publisher.teams[OTHER], delegating(theirs), key)
        publisher.bins[BIN] = changed(publisher.bins[BIN], listing(PATH, b"other"), key)
        self.refused(settled, publisher, "its own bins and to nobody else", path="modules/other/digits/1.json")
        with pytest.raises(Untrusted, match=f"{BIN} was signed by 0/1 keys"):
            settled.trust.manifest_target(PATH)
        assert "team-other" not in settled.versions.kept

    @pytest.mark.parametrize(
        ("bits", "prefix"), [(1, "bins-acme"), (32, "bins-acme"), (8, "team-acme"), (8, "targets"), (8, "../x")]
    )
    def test_bins_of_another_kind(self, settled, publisher, bits, prefix):
        """More bins than a device would remember, or under names that are not the team's."""
        key = publisher.team_signers[ACME]
        other = Delegations(
            {key.public_key.keyid: key.public_key},
            succinct_roles=SuccinctRoles([key.public_key.keyid], 1, bits, prefix),
        )
        publisher.teams[ACME] = changed(publisher.teams[ACME], delegating(other), key)
        self.refused(settled, publisher, "its own bins and to nobody else")

    def test_further_roles(self, settled, publisher):
        """A team names no role, and a bin names nobody."""
        key = publisher.team_signers[ACME]
        other = Delegations(
            {key.public_key.keyid: key.public_key},
            {"more": DelegatedRole("more", [key.public_key.keyid], 1, terminating=True, paths=["*"])},
        )
        honest = publisher.bins[BIN]
        publisher.bins[BIN] = changed(honest, delegating(other), key)
        self.refused(settled, publisher, "a bin delegates to nobody")
        publisher.bins[BIN] = honest
        publisher.teams[ACME] = changed(publisher.teams[ACME], delegating(other), key)
        publisher.online = None
        settled.lose_cache()
        settled.versions.kept.clear()
        self.refused(settled, publisher, "its own bins and to nobody else")

    def test_a_key_of_the_teams_own_choice(self, settled, publisher):
        """Who may sign bins is the owner's word: no further key, and no other key under a known id."""
        key, friend = publisher.team_signers[ACME], signer()
        for public in (
            friend.public_key,
            type(friend.public_key)(
                key.public_key.keyid, friend.public_key.keytype, friend.public_key.scheme, friend.public_key.keyval
            ),
        ):
            other = Delegations(
                {public.keyid: public},
                succinct_roles=SuccinctRoles([public.keyid], 1, 8, roles.bins_prefix(ACME)),
            )
            publisher.teams[ACME] = changed(publisher.teams[ACME], delegating(other), key)
            self.refused(settled, publisher, "other keys may sign its bins")

    def test_fewer_signatures_than_the_owner_asks_for(self, settled, publisher):
        """Where the owner wants two keys for a team, one of them alone signs no bins either."""
        pair = [publisher.team_signers[ACME], signer()]
        publisher.targets_metadata = repository.delegate_team(
            publisher.targets_metadata,
            team=ACME,
            keys=[key.public_key for key in pair],
            signers=[publisher.targets_signer],
            now=NOW,
            threshold=2,
        )
        due = bins.delegation(ACME, read(publisher.targets_metadata).signed)
        due.succinct_roles.threshold = 1
        publisher.teams[ACME] = changed(publisher.teams[ACME], delegating(due), *pair)
        self.refused(settled, publisher, "other keys may sign its bins")

    def test_rolled_back(self, settled, publisher):
        """An older bin under the newest one's name, or with online keys as the newest, also once the cache is lost."""
        before = publisher.bins[BIN]
        second = next(
            f"acme/digits:{n}" for n in range(2, 9999) if roles.bin_of(ACME, path_of(f"acme/digits:{n}")) == BIN
        )
        publisher.release(second)
        settled.trust.refresh(NOW)
        settled.trust.manifest_target(PATH)
        kept, newest = dict(settled.versions.kept), publisher.bins[BIN]

        settled.lose_cache()
        settled.responder.files = publisher.files | {f"2.{BIN}.json": before}
        settled.trust.refresh(NOW)
        with pytest.raises(Untrusted, match=f"Expected {BIN} v2, got v1"):
            settled.trust.manifest_target(PATH)
        assert settled.versions.kept == kept

        settled.responder.files = publisher.files
        settled.lose_cache()
        publisher.bins[BIN] = before
        publisher.online = publisher.online._replace(snapshot=without(publisher, f"{BIN}.json"))
        self.refused(settled, publisher, f"{BIN}: version 1 came after version 2 had been seen")
        assert settled.versions.kept[BIN] == kept[BIN]
        publisher.bins[BIN] = newest
        publisher.publish()
        settled.trust.refresh(NOW)
        assert settled.trust.manifest_target(path_of(second)) is not None

    def test_missing_from_the_snapshot(self, settled, publisher):
        """A snapshot without a bin: a device that knew it refuses that, and one that did not finds nothing."""
        gone = publisher.bins.pop(BIN)
        publisher.online = publisher.online._replace(snapshot=without(publisher, f"{BIN}.json"))
        publisher.publish()
        kept = dict(settled.versions.kept)
        with pytest.raises(Untrusted, match=f"missing info for '{BIN}.json'"):
            settled.trust.refresh(NOW)
        assert settled.versions.kept == kept
        settled.lose_cache()
        self.refused(settled, publisher, "not part of snapshot")
        publisher.bins[BIN] = gone
        publisher.publish()
        settled.trust.refresh(NOW)
        assert settled.trust.manifest_target(PATH) is not None

    def test_in_the_wrong_bin(self, settled, publisher):
        """A release that stands in another bin than its own is not published."""
        path = "modules/acme/digits/2.json"
        wrong = next(name for name in roles.bins(ACME) if name != roles.bin_of(ACME, path))
        key = publisher.team_signers[ACME]
        publisher.bins[wrong] = changed(publisher.bins[wrong], listing(path), key)
        publisher.publish()
        settled.trust.refresh(NOW)
        assert settled.trust.manifest_target(path) is None

    def test_a_floor_in_a_bin_is_none(self, settled, publisher):
        """Floors stand in the role, where nobody can take one back without its key."""
        path = roles.floor_path(ACME, Slug("digits"))
        name = roles.bin_of(ACME, path)
        publisher.bins[name] = changed(publisher.bins[name], listing(path), publisher.team_signers[ACME])
        publisher.publish()
        settled.trust.refresh(NOW)
        assert settled.trust.floor(ACME, Slug("digits")) is None

    def test_mixed_versions(self, settled, publisher):
        """Files that were never published together: an old bin beside a new snapshot, and the other way round."""
        second = next(
            f"acme/digits:{n}" for n in range(2, 9999) if roles.bin_of(ACME, path_of(f"acme/digits:{n}")) == BIN
        )
        old = publisher.copy_files()
        publisher.release(second)
        new = publisher.copy_files()
        kept = dict(settled.versions.kept)
        for files in (new | {f"2.{BIN}.json": old[f"1.{BIN}.json"]}, old | {f"1.{BIN}.json": new[f"2.{BIN}.json"]}):
            settled.lose_cache()
            settled.versions.kept = dict(kept)
            settled.responder.files = files
            settled.trust.refresh(NOW)
            with pytest.raises(Untrusted, match=f"Expected {BIN} v"):
                settled.trust.manifest_target(PATH)
            assert settled.versions.kept[BIN] == kept[BIN]

    def test_endless(self, device, publisher):
        """A bin longer than its bound is cut, though the snapshot says no length."""
        device.responder.tamper = lambda name, data: b"x" * (1 << 20) if BIN in name else data
        device.trust.refresh(NOW)
        with pytest.raises(Untrusted, match="longer than allowed"):
            device.trust.manifest_target(PATH)
        assert BIN not in device.versions.kept


def without(publisher, name):
    """The snapshot as a thief of its key makes it: as it was, without one file."""
    snapshot = Metadata[Snapshot].from_bytes(publisher.online.snapshot)
    del snapshot.signed.meta[name]
    snapshot.signed.version += 1
    snapshot.sign(publisher.snapshot_signer)
    return snapshot.to_bytes()


class TestServer:
    """What is not taken from a team, even with its key; nothing is published of it."""

    def check(self, publisher, **new):
        files = {ROLE if name == "role" else name.replace("_", "-"): data for name, data in new.items()}
        return check_team_files(
            root=publisher.root,
            targets=publisher.targets_metadata,
            team=ACME,
            old=publisher.team_files(ACME),
            new=files,
            now=NOW,
        )

    def forged(self, publisher, name, change, **parts):
        present = publisher.teams[ACME] if name == ROLE else publisher.bins[name]
        return changed(present, change, publisher.team_signers[ACME], **parts)

    @pytest.mark.parametrize("path", ["modules/acme/digits/2.json", "floors/acme/digits.json"])
    def test_wrong_place(self, publisher, path):
        """A release in a bin that is not its own, a floor in a bin."""
        name = next(one for one in roles.bins(ACME) if one != roles.bin_of(ACME, path))

        def add(signed):
            listing(path)(signed)
            signed.targets[path].unrecognized_fields["custom"] = {"minimum": "1"}

        with pytest.raises(Invalid, match="belongs into another file"):
            self.check(publisher, **{name: self.forged(publisher, name, add)})
        with pytest.raises(Invalid, match="belongs into another file"):
            self.check(publisher, role=self.forged(publisher, ROLE, listing("modules/acme/digits/2.json")))

    def test_other_teams_path(self, publisher):
        """Another team's release in the bin where it would stand."""
        path = "modules/other/digits/1.json"
        name = roles.bin_of(ACME, path)
        with pytest.raises(Invalid, match="acme cannot sign for team other"):
            self.check(publisher, **{name: self.forged(publisher, name, listing(path))})

    @pytest.mark.parametrize("bump", [0, 2, 1 << 30])
    def test_version_leaps(self, publisher, bump):
        """Each bin has versions of its own, one after the other."""
        with pytest.raises(Untrusted, match="is next"):
            self.check(publisher, **{BIN: self.forged(publisher, BIN, lambda _: None, bump=bump)})

    def test_a_lost_release(self, publisher):
        """What was published stays, in its bin."""
        with pytest.raises(Invalid, match="is missing"):
            self.check(publisher, **{BIN: self.forged(publisher, BIN, lambda signed: signed.targets.clear())})

    def test_a_lost_release_on_the_way_into_bins(self):
        """So it is with the move into bins."""
        publisher = Publisher(most=2)
        for number in (1, 2):
            publisher.release(f"acme/digits:{number}")
        flat = publisher.teams[ACME]
        publisher.release("acme/digits:3")
        new = publisher.team_files(ACME)
        new[BIN] = changed(new[BIN], lambda signed: signed.targets.pop(PATH), publisher.team_signers[ACME], bump=0)
        parts = {"root": publisher.root, "targets": publisher.targets_metadata, "team": ACME, "now": NOW}
        with pytest.raises(Invalid, match="is missing"):
            check_team_files(**parts, old={ROLE: flat}, new=new)
        del new[BIN]
        with pytest.raises(Invalid, match="1 bins are missing"):
            check_team_files(**parts, old={ROLE: flat}, new=new)

    def test_no_way_back(self, publisher):
        """A team with bins keeps them: a device that knew them would refuse a snapshot without."""
        with pytest.raises(Invalid, match="stand in bins"):
            self.check(publisher, role=self.forged(publisher, ROLE, delegating(None)))

    def test_another_file(self, publisher):
        """Files of another team, of the owner or of nobody."""
        for name in ("bins-other-00", "targets", "team-other", "bins-acme-0g"):
            with pytest.raises(Invalid, match="no file of the team"):
                self.check(publisher, **{name: publisher.bins[BIN]})

    def test_another_key(self, publisher):
        """A bin of another key, and a role that lets another key sign bins."""
        data = changed(publisher.bins[BIN], lambda _: None, publisher.team_signers[OTHER])
        with pytest.raises(Untrusted, match="0 of 1 signatures hold"):
            self.check(publisher, **{BIN: data})
        owner = read(publisher.targets_metadata).signed
        theirs = bins.delegation(OTHER, owner)
        theirs.succinct_roles.name_prefix = roles.bins_prefix(ACME)
        role = self.forged(publisher, ROLE, delegating(theirs))
        with pytest.raises(Untrusted, match="other keys may sign its bins"):
            self.check(publisher, role=role)

    def test_a_bin_that_delegates(self, publisher):
        """A bin leads nowhere, wherever it would lead."""
        further = bins.delegation(ACME, read(publisher.targets_metadata).signed)
        with pytest.raises(Untrusted, match="a bin delegates to nobody"):
            self.check(publisher, **{BIN: self.forged(publisher, BIN, delegating(further))})

    def test_new_keys_without_all_bins(self, publisher):
        """After a change of keys no bin stays behind that only the old key signed."""
        new = signer()
        owner = repository.delegate_team(
            publisher.targets_metadata,
            team=ACME,
            keys=[new.public_key],
            signers=[publisher.targets_signer],
            now=NOW,
        )
        signed = team_files.renew(publisher.team_files(ACME), team=ACME, targets=owner, signers=[new], now=NOW)
        publisher.targets_metadata = owner
        del signed[BIN]
        with pytest.raises(Invalid, match="1 bins are missing"):
            self.check(publisher, **signed)

    def test_a_bin_before_the_role(self, publisher):
        """A team that has published nothing begins with its role."""
        with pytest.raises(Invalid, match="published nothing yet"):
            check_team_files(
                root=publisher.root,
                targets=publisher.targets_metadata,
                team=ACME,
                old={},
                new={BIN: publisher.bins[BIN]},
                now=NOW,
            )

    def test_a_role_of_a_flat_team_has_no_bins(self):
        """Where the role delegates nothing, no bin is taken."""
        publisher = Publisher()
        publisher.release(REF)
        with pytest.raises(Invalid, match="no file of the team"):
            self.check(publisher, **{BIN: publisher.teams[ACME]})
