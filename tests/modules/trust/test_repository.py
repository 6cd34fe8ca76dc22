"""Writing trust metadata offline: who may sign what, and what a published release is protected from."""

import json
from datetime import timedelta

import pytest
from tuf.api.metadata import Delegations, Metadata, Root, SuccinctRoles, Targets

from modules.digests import sha256
from modules.errors import BadSettings, Invalid, Untrusted
from modules.names import ModuleRef, Slug, Version
from modules.signing import decode_keys
from modules.trust import metadata, repository, roles
from modules.trust.repository import OnlineKeys
from tests.doubles.keys import ACME, NOW, OTHER, Publisher, release, signer

PATH = "modules/acme/digits/1.json"


@pytest.fixture
def publisher():
    return Publisher()


@pytest.fixture
def team():
    """A team's key and its first, empty metadata."""
    key = signer()
    return key, repository.create_team(team=ACME, signers=[key], now=NOW)


def add(team, ref="acme/digits:1", *, path=None, data=None, owner=ACME):
    key, present = team
    named = ModuleRef.parse(ref)
    return repository.add_target(
        present,
        team=owner,
        path=path or named.target,
        data=data if data is not None else release(ref),
        signers=[key],
        now=NOW,
    )


def floor(team, minimum, name="digits"):
    key, present = team
    return repository.set_floor(
        present, team=ACME, name=Slug(name), minimum=Version.parse(minimum), signers=[key], now=NOW
    )


def targets_of(data):
    return Metadata[Targets].from_bytes(data).signed


class TestCreate:
    def test_thresholds_and_lives(self, publisher):
        """Two of three root keys decide, and each role lives as long as the table says."""
        root = Metadata[Root].from_bytes(publisher.root).signed

        assert (root.roles["root"].threshold, len(root.roles["root"].keyids)) == (2, 3)
        assert root.consistent_snapshot
        assert root.expires == NOW + timedelta(days=365)
        assert targets_of(publisher.targets_metadata).expires == NOW + timedelta(days=180)
        assert targets_of(publisher.teams[ACME]).expires == NOW + timedelta(days=180)

    def test_director_is_a_target(self, publisher):
        """The director's key is named by a signed target, whose bytes come along."""
        target = targets_of(publisher.targets_metadata).targets["trust/director.json"]
        document = publisher.targets[f"sha256:{target.hashes['sha256']}"]

        assert target.length == len(document)
        assert list(decode_keys(document)) == [publisher.director.public_key.keyid]

    def test_teams_keep_to_their_paths(self, publisher):
        """A team's delegation covers its own modules and floors, ends the search, and reaches no deeper folder."""
        role = targets_of(publisher.targets_metadata).delegations.roles["team-acme"]

        assert role.terminating
        assert role.is_delegated_path(PATH)
        assert role.is_delegated_path("floors/acme/digits.json")
        for path in ("modules/other/digits/1.json", "modules/acme/a/b/1.json", "trust/director.json", "agent/1.json"):
            assert not role.is_delegated_path(path)

    def test_two_root_keys_are_too_few(self):
        """Fewer than three different root keys are refused, since losing one would then lock the owner out."""
        key = signer()
        with pytest.raises(BadSettings, match="2 root keys"):
            repository.create(
                root_signers=[key, key, signer()],
                targets_signers=[signer()],
                online=OnlineKeys(signer().public_key, signer().public_key, signer().public_key),
                teams={},
                now=NOW,
            )


def test_a_floor_is_a_modules():
    """A team may list a floor for each name that a module can have, and for nothing else."""
    roles.check_team_path(ACME, "floors/acme/digits.json")
    for path in ("floors/acme/No Name.json", "floors/acme/.json", "floors/acme/a/b.json"):
        with pytest.raises(Invalid):
            roles.check_team_path(ACME, path)


def test_each_change_of_targets_is_the_next_version(publisher):
    """Whatever the owner changes is one version on, so that nobody's change can slip in between unseen."""
    key, first = publisher.targets_signer, publisher.targets_metadata
    change = {"keys": [key.public_key], "signers": [key], "now": NOW}

    team = repository.delegate_team(first, team=ACME, **change)
    director, _ = repository.set_director_keys(team, **change)
    renewed = repository.renew(director, role=roles.TARGETS, signers=[key], now=NOW)

    assert [targets_of(data).version for data in (first, team, director, renewed)] == [1, 2, 3, 4]


class TestRelease:
    def test_adds_a_target(self, team):
        """A release raises the version by one and lists the manifest's length and sha256."""
        data = release("acme/digits:1")
        after = targets_of(add(team, data=data))

        assert after.version == 2
        assert after.targets[PATH].length == len(data)
        assert f"sha256:{after.targets[PATH].hashes['sha256']}" == sha256(data)

    def test_same_bytes_again(self, team):
        """Publishing the same bytes again changes nothing, so a command may be repeated."""
        once = add(team)
        assert add((team[0], once)) == once

    def test_other_bytes_under_one_version(self, team):
        """A published version never gets other content."""
        once = add(team)
        with pytest.raises(Invalid, match="other content"):
            add((team[0], once), data=release("acme/digits:1", description="changed"))

    @pytest.mark.parametrize(
        "path",
        [
            pytest.param("modules/other/digits/1.json", id="when it is another team's"),
            pytest.param("modules/acme/digits/../../other/1.json", id="when it climbs"),
            pytest.param("modules/acme/digits/v1.json", id="when the version is none"),
            pytest.param("trust/director.json", id="when it is the director's list"),
            pytest.param("floors/other/digits.json", id="when it is another team's floor"),
            pytest.param("agent/1.json", id="when it is the agent's own"),
        ],
    )
    def test_path_of_somebody_else(self, team, path):
        """A team's key signs only below the team's own paths."""
        with pytest.raises(Invalid):
            add(team, path=path)

    def test_manifest_of_somebody_else(self, team):
        """Nor does it sign another team's manifest under that team's path, where all else would agree."""
        with pytest.raises(Invalid, match="team acme cannot sign for team other"):
            add(team, "other/digits:1")

    def test_manifest_under_another_name(self, team):
        """A manifest is signed under the name that it states itself, and no other."""
        with pytest.raises(Invalid, match="the manifest says that it is modules/acme/digits/1"):
            add(team, path="modules/acme/digits/2.json")

    def test_too_large(self, team, monkeypatch):
        """Metadata that devices would refuse for its size is never signed."""
        monkeypatch.setitem(roles._LIMIT, "team-acme", 400)
        with pytest.raises(Invalid, match="more than the 400 that devices accept"):
            add(team)

    def test_nobody_signs(self, team):
        """Metadata without a signer is not made."""
        with pytest.raises(Invalid, match="no signer"):
            repository.renew(team[1], role="team-acme", signers=[], now=NOW)


class TestFloor:
    def test_holds_the_minimum(self, team):
        """A floor carries its version inside the signed metadata."""
        after = targets_of(floor((team[0], add(team)), "1"))
        assert roles.floor_version("", after.targets["floors/acme/digits.json"].custom) == Version("1")

    def test_only_rises(self, team):
        """A floor can be raised and repeated, never lowered."""
        key, two = team[0], add((team[0], add(team)), "acme/digits:2")
        high = floor((key, two), "2")

        assert floor((key, high), "2") == high
        with pytest.raises(Invalid, match="1 is lower"):
            floor((key, high), "1")

    def test_nothing_would_be_left(self, team):
        """A floor above every published version is refused, for nothing could be ordered any more."""
        with pytest.raises(Invalid, match="no published version of digits is 2"):
            floor((team[0], add(team)), "2")


class TestOwner:
    def test_new_director(self, publisher):
        """Naming a new director revokes the old one."""
        old = publisher.director.public_key.keyid
        publisher.replace_director()
        target = targets_of(publisher.targets_metadata).targets["trust/director.json"]
        keys = decode_keys(publisher.targets[f"sha256:{target.hashes['sha256']}"])

        assert old not in keys
        assert publisher.director.public_key.keyid in keys

    def test_new_team(self, publisher):
        """A team is added without touching the others, and its old key is forgotten when it gets a new one."""
        first, second = signer().public_key, signer().public_key
        data = publisher.targets_metadata
        for key in (first, second):
            data = repository.delegate_team(
                data, team=Slug("third"), keys=[key], signers=[publisher.targets_signer], now=NOW
            )
        delegations = targets_of(data).delegations

        assert list(delegations.roles) == ["team-acme", "team-other", "team-third"]
        assert delegations.roles["team-third"].keyids == [second.keyid]
        assert first.keyid not in delegations.keys

    @pytest.mark.parametrize("succinct", [None, SuccinctRoles([], 1, 8, "bin")])
    def test_targets_that_delegate_to_nobody_by_name(self, publisher, succinct):
        """What was begun with other tools, and has no place for a team, is refused and not rebuilt."""
        other = Metadata[Targets].from_bytes(publisher.targets_metadata)
        other.signed.delegations = None if succinct is None else Delegations({}, succinct_roles=succinct)
        with pytest.raises(Invalid, match="delegates to nobody by name"):
            repository.delegate_team(
                other.to_bytes(),
                team=Slug("third"),
                keys=[signer().public_key],
                signers=[publisher.targets_signer],
                now=NOW,
            )

    def test_threshold_above_the_keys(self, publisher):
        """A team that could never sign is not delegated to."""
        with pytest.raises(BadSettings, match="fewer keys"):
            repository.delegate_team(
                publisher.targets_metadata,
                team=OTHER,
                keys=[signer().public_key],
                signers=[publisher.targets_signer],
                now=NOW,
                threshold=2,
            )

    def test_root_needs_two_keys(self, publisher):
        """One root key alone changes nothing."""
        with pytest.raises(Untrusted, match="bring more root keys"):
            repository.change_root(publisher.root, keys={}, signers=publisher.root_signers[:1], now=NOW)
        renewed = repository.change_root(publisher.root, keys={}, signers=publisher.root_signers[1:], now=NOW)
        assert metadata.version(renewed, roles.ROOT) == 2

    def test_new_root_keys(self, publisher):
        """New root keys count only when old and new ones sign."""
        new = [signer() for _ in range(3)]
        keys = {roles.ROOT: [key.public_key for key in new]}
        for signers in (publisher.root_signers, new):
            with pytest.raises(Untrusted):
                repository.change_root(publisher.root, keys=keys, signers=signers, now=NOW)
        repository.change_root(publisher.root, keys=keys, signers=[*publisher.root_signers[:2], *new[:2]], now=NOW)

    def test_too_few_new_root_keys(self, publisher):
        """A root that its own keys could not sign is not made."""
        with pytest.raises(BadSettings):
            repository.change_root(
                publisher.root,
                keys={roles.ROOT: [signer().public_key]},
                signers=publisher.root_signers,
                now=NOW,
            )


class TestRead:
    @pytest.mark.parametrize(
        "data", [b"", b"{}", b"[" * 10_000, b'{"signed":{"_type":"root"}}', b'{"signatures":1,"signed":2}']
    )
    def test_no_metadata(self, data):
        """What is no metadata is refused as such."""
        with pytest.raises(Invalid, match="not valid trust metadata"):
            metadata.read(data, Targets, roles.TARGETS)

    def test_other_kind(self, publisher):
        """Metadata of one kind does not pass for another."""
        with pytest.raises(Invalid, match="root metadata, not targets"):
            metadata.read(publisher.root, Targets, roles.TARGETS)

    def test_floor_without_version(self):
        """A floor that says nothing is refused."""
        for custom in (None, {}, {"minimum": 3}, "3"):
            with pytest.raises(Invalid, match="no minimum version"):
                roles.floor_version("floors/acme/digits.json", custom)

    def test_files_are_compact(self, publisher):
        """Metadata is written without spaces: it travels to every device."""
        assert json.dumps(json.loads(publisher.root), separators=(",", ":")).encode() == publisher.root
