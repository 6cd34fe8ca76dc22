"""Drafts of what offline keys sign: what stands in them, whose they are, and what is refused before anybody signs."""

from datetime import timedelta

import pytest
from tuf.api.metadata import Delegations, Metadata, Targets

from modules import signing
from modules.errors import BadSettings, Invalid
from modules.names import Slug
from modules.trust import drafts, metadata, roles
from tests.doubles.keys import ACME, NOW, Publisher, signer

LATER = NOW + timedelta(days=3)
TEAM = roles.team_role(ACME)


@pytest.fixture
def publisher():
    return Publisher()


def bare(data, role, version):
    """What the draft says, which nobody has signed, and which lives from now on."""
    file = Metadata.from_bytes(data)
    assert file.signatures == {}
    assert (file.signed.version, file.signed.expires) == (version, LATER + roles.life(role))
    return file.signed


def publics(count):
    return [signer().public_key for _ in range(count)]


def test_the_next_root_gives_a_role_other_keys_and_leaves_the_others(publisher):
    """As many as must sign at least, each counted once."""
    new = publics(2)
    made = drafts.next_root(publisher.root, keys={roles.ROOT: new}, now=LATER)
    bare(made, roles.ROOT, 2)
    before = drafts.keys_of(publisher.root, roles.ROOT)
    assert set(before) == set(roles.TOP_LEVEL)
    assert drafts.keys_of(made, roles.ROOT) == {**before, roles.ROOT: tuple(key.keyid for key in new)}
    with pytest.raises(BadSettings, match="too few keys are named: 1, and 2 must sign"):
        drafts.next_root(publisher.root, keys={roles.ROOT: new[:1] * 2}, now=LATER)


def test_the_next_targets_give_a_team_and_the_director_other_keys(publisher):
    """And leave the others; the list of directors comes along where it is another."""
    (team, director), targets = publics(2), publisher.targets_metadata
    made = drafts.next_targets(targets, now=LATER, teams={ACME: [team]})
    signed = bare(made.targets, roles.TARGETS, 2)
    before = drafts.keys_of(targets, roles.TARGETS)
    assert drafts.keys_of(made.targets, roles.TARGETS) == {**before, TEAM: (team.keyid,)}
    assert (made.director, signed.targets) == (None, Metadata[Targets].from_bytes(targets).signed.targets)

    made = drafts.next_targets(targets, now=LATER, directors=[director])
    signed = bare(made.targets, roles.TARGETS, 2)
    signed.targets[roles.DIRECTOR_PATH].verify_length_and_hashes(made.director)
    assert list(signing.decode_keys(made.director)) == [director.keyid]
    assert drafts.keys_of(made.targets, roles.TARGETS) == before


@pytest.mark.parametrize(("above", "version"), [(0, 2), (1, 2), (2, 3), (7, 8)])
def test_a_version_that_was_seen_before_a_backup_is_passed(publisher, above, version):
    """Of targets and of a team's role."""
    targets = publisher.targets_metadata
    bare(drafts.next_targets(targets, now=LATER, above=above).targets, roles.TARGETS, version)
    own = {TEAM: publisher.teams[ACME]}
    made = drafts.again_of_team(own, team=ACME, targets=targets, now=LATER, above=above)
    assert list(made) == [TEAM]
    bare(made[TEAM], TEAM, version)


def test_nobody_becomes_a_team_or_goes_without_keys_by_a_draft(publisher):
    """A team that the owner has not named, or an owner who has named none; no key for a team, and no director."""
    targets = publisher.targets_metadata
    for delegations in (None, Delegations({}, {})):
        named = metadata.seal(Metadata(Targets(delegations=delegations)), roles.TARGETS, [signer()], NOW)
        assert drafts.keys_of(named, roles.TARGETS) == {}
        with pytest.raises(BadSettings, match="named no such team"):
            drafts.next_targets(named, now=LATER, teams={ACME: publics(1)})
    with pytest.raises(BadSettings, match="named no such team"):
        drafts.next_targets(targets, now=LATER, teams={Slug("nobody"): publics(1)})
    for empty in ({"teams": {ACME: []}}, {"directors": []}):
        with pytest.raises(BadSettings, match="0, and 1 must sign"):
            drafts.next_targets(targets, now=LATER, **empty)


def test_holders_sign_one_after_the_other(publisher):
    """Each adds to what is there, and changes nothing else."""
    draft = drafts.next_root(publisher.root, keys={}, now=LATER)
    signed = draft
    for holder in publisher.root_signers[:2]:
        signed = drafts.add_signatures(signed, role=roles.ROOT, signers=[holder])
    first, last = Metadata.from_bytes(draft), Metadata.from_bytes(signed)
    assert list(last.signatures) == [holder.public_key.keyid for holder in publisher.root_signers[:2]]
    assert last.signed_bytes == first.signed_bytes
    with pytest.raises(Invalid):
        drafts.add_signatures(publisher.root, role=roles.TARGETS, signers=[])


def test_a_drafts_role_is_in_its_name_and_its_content(publisher):
    """Of the roles that offline keys sign; a file of another kind under such a name is refused."""
    named = {
        "2.root.json": (publisher.root, roles.ROOT),
        "7.targets.json": (publisher.targets_metadata, roles.TARGETS),
        "team-acme.json": (publisher.teams[ACME], TEAM),
    }
    for name, (data, role) in named.items():
        assert drafts.role_of(data, name) == role
    for name in ("1.snapshot.json", "timestamp.json", "notes.txt", "root.json.old"):
        with pytest.raises(Invalid, match="says no role"):
            drafts.role_of(publisher.root, name)
    for data, name in ((publisher.root, "2.targets.json"), (publisher.targets_metadata, "2.root.json")):
        with pytest.raises(Invalid, match="metadata"):
            drafts.role_of(data, name)


def test_a_teams_bins_are_signed_again_where_its_keys_are_others_or_versions_were_lost():
    """Else its role alone is; the role says who may sign them."""
    publisher = Publisher(most=0)
    publisher.release("acme/digits:1")
    files, targets = publisher.team_files(ACME), publisher.targets_metadata
    every = [TEAM, *roles.bins(ACME)]
    version = metadata.version(files[TEAM], TEAM)
    assert set(every) == set(files)

    made = drafts.again_of_team(files, team=ACME, targets=targets, now=LATER)
    assert list(made) == [TEAM]
    assert list(drafts.again_of_team(files, team=ACME, targets=targets, now=LATER, above=1)) == every

    (key,) = publics(1)
    named = drafts.next_targets(targets, now=LATER, teams={ACME: [key]}).targets
    made = drafts.again_of_team(files, team=ACME, targets=named, now=LATER)
    assert list(made) == every
    assert list(bare(made[TEAM], TEAM, version + 1).delegations.keys) == [key.keyid]
