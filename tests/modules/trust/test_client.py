"""What the TUF client of a device makes of the files that come: bounded, and only of roles that can be published."""

import pytest
from securesystemslib.signer import Key
from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, SuccinctRoles, TargetFile, Targets

from modules.errors import LinkLost
from modules.names import Slug
from modules.trust import metadata, roles
from modules.trust.client import Client, Fetcher
from tests.doubles.keys import ACME, NOW, OTHER, Publisher, Responder, signer

PATH = "modules/other/tool/1.json"


@pytest.fixture
def publisher():
    return Publisher()


def client(folder, publisher):
    """A client that has read what is published."""
    made = Client(folder / "trust", root=publisher.first_root, fetch=Responder(publisher).fetch, now=NOW)
    made.refresh()
    return made


def own(publisher, delegations, *, targets=None, teams=()):
    """Let the owner's metadata be this, and nobody but these teams have signed any."""
    signed = Targets(targets=targets, delegations=delegations)
    publisher.targets_metadata = metadata.seal(Metadata(signed), roles.TARGETS, [publisher.targets_signer], NOW)
    publisher.teams = {team: publisher.teams[team] for team in teams}
    publisher.online = None
    publisher.publish()


def delegated(**keys: Key):
    """A delegation to each of these roles."""
    return Delegations(
        {key.keyid: key for key in keys.values()},
        {
            role: DelegatedRole(role, [key.keyid], 1, terminating=True, paths=["modules/other/*/*"])
            for role, key in ((name.replace("_", "-"), key) for name, key in keys.items())
        },
    )


class TestFetcher:
    def test_a_file_of_the_largest_size_is_taken_and_no_larger_one(self):
        """Whoever sends more is not read on: than was asked for, or than the role may have where that is less."""
        for most, bound in ((10, 10), (1 << 30, roles.limit(roles.TIMESTAMP))):
            fits, too_long = (Fetcher(lambda _, limit, more=more: bytes(limit + more)) for more in (0, 1))
            assert len(fits.download_bytes("metadata/timestamp.json", most)) == bound
            with pytest.raises(DownloadLengthMismatchError):
                too_long.download_bytes("metadata/timestamp.json", most)

    def test_a_file_comes_by_python_tufs_other_way_as_well(self):
        """Its interface has two ways to a file; both are ours, and bounded."""
        assert b"".join(Fetcher(lambda name, _: name.encode()).fetch("metadata/1.root.json")) == b"1.root.json"
        with pytest.raises(DownloadLengthMismatchError):
            Fetcher(lambda _, limit: bytes(limit + 1)).fetch("metadata/1.root.json")

    def test_what_is_not_there_and_what_cannot_be_had_are_two_things(self):
        """An answer that there is none ends a chain of roots; silence does not."""
        with pytest.raises(DownloadHTTPError) as missing:
            Fetcher(lambda *_: None).download_bytes("metadata/2.root.json", 10)
        assert missing.value.status_code == 404

        def broken(*_):
            raise OSError("no route")

        with pytest.raises(LinkLost, match="no route"):
            Fetcher(broken).download_bytes("metadata/2.root.json", 10)


class TestRoots:
    def test_a_root_in_the_cache_is_mended_where_it_is_torn_and_else_not_written(self, tmp_path, publisher):
        """A device looks often, and its flash wears."""
        kept = tmp_path / "trust" / "root_history" / "1.root.json"
        client(tmp_path, publisher)
        written = kept.stat().st_ino
        assert client(tmp_path, publisher).newest_root() == publisher.first_root
        assert kept.stat().st_ino == written
        for spoil in (lambda: kept.write_bytes(publisher.first_root[:40]), kept.unlink):
            spoil()
            assert client(tmp_path, publisher).newest_root() == publisher.first_root


class TestTeams:
    def test_each_team_with_the_keys_that_sign_for_it(self, tmp_path, publisher):
        """By its name, its keys in order; a role that is no team's is none."""
        first, second = signer().public_key, signer().public_key
        named = delegated(team_acme=first, elsewhere=second)
        named.keys[second.keyid] = second
        named.roles["team-acme"].keyids.append(second.keyid)
        own(publisher, named)

        assert client(tmp_path, publisher).teams() == {ACME: tuple(sorted([first.keyid, second.keyid]))}

    def test_what_a_team_has_signed(self, tmp_path, publisher):
        """Verified; of one that is not among what was published there is nothing."""
        publisher.release("acme/digits:1")
        found = client(tmp_path, publisher)

        assert list(found.team(ACME).targets) == ["modules/acme/digits/1.json"]
        assert found.team(Slug("nobody")) is None

    @pytest.mark.parametrize(
        "delegations",
        [None, Delegations({}, {}), Delegations({}, succinct_roles=SuccinctRoles([], 1, 1, "bin"))],
        ids=["nobody", "an empty list", "bins"],
    )
    def test_an_owner_who_has_named_no_team(self, tmp_path, publisher, delegations):
        """There are no teams then, and no release of any."""
        own(publisher, delegations)
        found = client(tmp_path, publisher)
        found.follow_cached()

        assert found.teams() == {}
        assert set(found.loaded()) == set(roles.TOP_LEVEL)
        if delegations is None or delegations.roles is not None:
            assert found.find(PATH) is None

    def test_a_team_that_has_signed_nothing_yet(self, tmp_path, publisher):
        """Its releases are unknown, and that is no fault; what the owner lists himself is known."""
        entry = TargetFile.from_data(PATH, b"manifest", ["sha256"])
        named = delegated(team_other=publisher.team_signers[OTHER].public_key)
        own(publisher, named, targets={PATH: entry})
        found = client(tmp_path, publisher)

        assert found.find("modules/other/tool/2.json") is None
        assert found.find(PATH) == entry
