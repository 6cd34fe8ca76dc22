"""The owner's new targets metadata, as the fleet server takes it: one more team and nothing else; and other bounds."""

import pytest
from tuf.api.metadata import Delegations, Metadata, TargetFile, Targets

from modules import manifest
from modules.errors import Invalid, Untrusted
from modules.names import Slug
from modules.trust import publication, repository, roles, succession
from tests.doubles.keys import ACME, NOW, OTHER, Publisher, signer
from tests.modules.trust.test_publication import check, forged, publish, versions

VISION = Slug("vision")


@pytest.fixture
def publisher():
    publisher = Publisher()
    publisher.release("acme/digits:1")
    return publisher


def changed(publisher, change, *, bump=1):
    """The owner's metadata after an arbitrary change, signed with the owner's key."""
    file = Metadata[Targets].from_bytes(publisher.targets_metadata)
    change(file.signed)
    file.signed.version += bump
    file.sign(publisher.targets_signer)
    return file.to_bytes()


def take(publisher, new, *, now=NOW):
    publication.check_targets_update(root=publisher.root, old=publisher.targets_metadata, new=new, now=now)


def with_vision(publisher, *, now=NOW):
    return repository.delegate_team(
        publisher.targets_metadata,
        team=VISION,
        keys=[signer().public_key],
        signers=[publisher.targets_signer],
        now=now,
    )


def test_a_new_team_is_taken(publisher):
    """And the first one of an owner who had named none, too."""
    take(publisher, with_vision(publisher))
    publisher.targets_metadata = changed(publisher, lambda signed: setattr(signed, "delegations", None))
    take(publisher, changed(publisher, lambda signed: setattr(signed, "delegations", Delegations({}, {}))))


@pytest.mark.parametrize("bump", [0, 2])
def test_only_the_next_version_is_taken(publisher, bump):
    """No other one of the same version, and no leap."""
    with pytest.raises(Untrusted, match="is next"):
        take(publisher, changed(publisher, lambda _: None, bump=bump))


def test_expired_metadata_is_not_taken(publisher):
    """It would lock every device out."""
    with pytest.raises(Untrusted, match="it expired at 2026-10-28 12:00 UTC"):
        take(publisher, with_vision(publisher), now=publisher.later(days=180))


def test_no_other_directors_come_with_a_team(publisher):
    """Who may give orders is changed by a ceremony of its own."""
    for change in (
        lambda signed: signed.targets.clear(),
        lambda signed: setattr(signed.targets[roles.DIRECTOR_PATH], "length", 1),
        lambda signed: signed.targets.update(x=TargetFile.from_data("x", b"", ["sha256"])),
    ):
        with pytest.raises(Invalid, match="names other director keys"):
            take(publisher, changed(publisher, change))


def test_no_team_is_lost_with_another(publisher):
    """The first of them is named: devices would refuse its modules."""
    for change, lost in (
        (lambda signed: signed.delegations.roles.pop("team-other"), "team-other"),
        (lambda signed: signed.delegations.roles.clear(), "team-acme"),
        (lambda signed: setattr(signed, "delegations", None), "team-acme"),
    ):
        with pytest.raises(Invalid, match="no longer names this team") as refused:
            take(publisher, changed(publisher, change))
        assert refused.value.element == lost


@pytest.mark.parametrize("more", [0, 1])
def test_the_largest_manifest_may_be_listed(publisher, more):
    """One byte more than a manifest may have is refused."""
    path = "modules/acme/digits/9.json"
    target = TargetFile(manifest.LIMIT + more, {"sha256": "0" * 64}, path)
    new = forged(publisher, lambda signed: signed.targets.update({path: target}))
    if more:
        with pytest.raises(Invalid, match="no sha256 or more than"):
            check(publisher, new)
    else:
        assert path in check(publisher, new).signed.targets


@pytest.mark.parametrize("custom", [None, {}, {"minimum": 1}, {"minimum": "not a version"}])
def test_a_floor_says_a_version(publisher, custom):
    """One without is refused when it comes, and not by each device."""

    def add(signed):
        signed.targets["floors/acme/digits.json"] = TargetFile.from_data("floors/acme/digits.json", b"x", ["sha256"])
        if custom is not None:
            signed.targets["floors/acme/digits.json"].unrecognized_fields["custom"] = custom

    with pytest.raises(Invalid):
        check(publisher, forged(publisher, add))


def test_who_has_still_to_sign_is_asked_of_whoever_names_them(publisher):
    """Root says it of targets, targets of a team's role; in words, with the keys that have not signed."""
    own, team = roles.TARGETS, roles.team_role(ACME)
    for delegator, role, data in (
        (publisher.root, own, publisher.targets_metadata),
        (publisher.targets_metadata, team, publisher.teams[ACME]),
    ):
        assert succession.missing_of(delegator, role=role, data=data) == []
        file = Metadata[Targets].from_bytes(data)
        file.sign(signer())
        (said,) = succession.missing_of(delegator, role=role, data=file.to_bytes())
        assert said.startswith(f"0 of 1 of {role}'s keys signed; not yet: ")
    unnamed = succession.missing_of(publisher.targets_metadata, role="team-nobody", data=publisher.teams[ACME])
    assert unnamed == ["nobody has delegated team-nobody"]


def test_what_a_ceremony_brings_is_whole(publisher):
    """With the metadata of a new team, the very list of directors that it names, and nothing beside them."""

    def take_whole(new, *, teams=(), director=None):
        succession.check_targets(
            root=publisher.root,
            old=publisher.targets_metadata,
            new=new,
            director=director,
            teams=teams,
            now=NOW,
            skip=False,
        )

    new = with_vision(publisher)
    take_whole(new, teams=[VISION])
    with pytest.raises(Invalid, match="own metadata is missing") as refused:
        take_whole(new, teams=[ACME])
    assert refused.value.element == "team-vision"
    with pytest.raises(Invalid, match="not the bytes that targets lists"):
        take_whole(new, teams=[VISION], director=b"[]")
    for change in (
        lambda signed: signed.targets.clear(),
        lambda signed: signed.targets.update(x=TargetFile.from_data("x", b"", ["sha256"])),
    ):
        with pytest.raises(Invalid, match="and nothing else"):
            take_whole(changed(publisher, change))


def test_unsigned_targets_are_not_published(publisher):
    """What the owner's key did not sign is not tied into what devices read, whatever else is right."""
    file = Metadata[Targets].from_bytes(publisher.targets_metadata)
    file.sign(signer())
    with pytest.raises(Untrusted, match="0 of 1 signatures hold"):
        publish(publisher, targets=file.to_bytes(), teams={})


def test_a_snapshot_is_signed_again_at_just_half_its_life(publisher):
    """Fifteen days of thirty; a second earlier it stays."""
    publisher.later(days=15, seconds=-1)
    assert versions(publish(publisher)) == (2, 3)
    publisher.later(seconds=1)
    assert versions(publish(publisher)) == (3, 3)


def test_teams_that_are_published_are_those_of_the_owner(publisher):
    """Two teams of one owner are both tied in, each under its own version."""
    assert sorted(publisher.teams) == [ACME, OTHER]
    assert {"2.team-acme.json", "1.team-other.json"} <= set(publisher.files)
