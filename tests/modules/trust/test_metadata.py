"""One file of trust metadata: who signed it, how long it lives, how large it may be."""

from datetime import timedelta

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from modules.errors import Invalid, Untrusted
from modules.trust import metadata, roles
from tests.doubles.keys import NOW, signer


def sealed(file, role, *signers):
    return Metadata.from_bytes(metadata.seal(file, role, signers, NOW))


def test_only_the_given_signers_sign():
    """A file that is sealed anew by others carries no signature of who sealed it before."""
    first, second, third = signer(), signer(), signer()
    file = sealed(Metadata(Targets()), roles.TARGETS, first, second)
    assert set(file.signatures) == {first.public_key.keyid, second.public_key.keyid}

    again = sealed(file, roles.TARGETS, second, third)

    assert set(again.signatures) == {second.public_key.keyid, third.public_key.keyid}


def test_nobody_cannot_sign():
    """Sealing without a signer is refused, and not an unsigned file."""
    with pytest.raises(Invalid, match="no signer"):
        metadata.seal(Metadata(Targets()), roles.TARGETS, [], NOW)


@pytest.mark.parametrize(
    ("kind", "role", "days"),
    [
        (Root, roles.ROOT, 365),
        (Targets, roles.TARGETS, 180),
        (Targets, roles.team_role("acme"), 180),
        (Snapshot, roles.SNAPSHOT, 30),
        (Timestamp, roles.TIMESTAMP, 14),
    ],
)
def test_how_long_a_file_lives(kind, role, days):
    """The longer a role may stay as it was, the longer a file of it lives from its sealing."""
    assert sealed(Metadata(kind()), role, signer()).signed.expires == NOW + timedelta(days=days)


@pytest.mark.parametrize(
    ("role", "most"),
    [
        (roles.ROOT, 64 << 10),
        (roles.TARGETS, 1 << 20),
        (roles.team_role("acme"), 1 << 20),
        (roles.SNAPSHOT, 256 << 10),
        (roles.TIMESTAMP, 8 << 10),
    ],
)
def test_how_large_a_file_may_be(role, most):
    """A file of the largest size is read, one byte more is refused unread, whatever it is."""
    with pytest.raises(Invalid, match="not valid trust metadata"):
        metadata.version(b" " * most, role)
    with pytest.raises(Invalid, match=f"{most + 1} bytes are more than the {most} that devices accept"):
        metadata.version(b" " * (most + 1), role)


def test_too_large_a_file_is_not_sealed():
    """What devices would refuse for its size is not signed."""
    file = Metadata(Targets())
    for number in range(8000):
        path = f"modules/acme/digits/{number}.json"
        file.signed.targets[path] = TargetFile.from_data(path, b"", ["sha256"])

    with pytest.raises(Invalid, match="spread the releases over more teams"):
        metadata.seal(file, roles.team_role("acme"), [signer()], NOW)


def test_another_kind_is_refused():
    """A snapshot does not pass for targets, though both are valid metadata."""
    data = metadata.seal(Metadata(Snapshot()), roles.SNAPSHOT, [signer()], NOW)

    with pytest.raises(Invalid, match="this is snapshot metadata, not targets"):
        metadata.read(data, Targets, roles.TARGETS)


def test_a_refusal_names_the_keys_by_their_first_twelve_digits():
    """Who signed, whose signature holds and who may sign, in order, as the console shows them; or nobody."""
    mine, theirs = signer(), signer()
    delegator = Targets(delegations=Delegations({}, {}))
    role = DelegatedRole("team-acme", [mine.public_key.keyid], 1, terminating=True, paths=["*"])
    delegator.delegations.roles["team-acme"] = role
    delegator.delegations.keys[mine.public_key.keyid] = mine.public_key
    file = sealed(Metadata(Targets()), roles.team_role("acme"), theirs, signer())

    with pytest.raises(Untrusted) as refused:
        metadata.verify(delegator, "team-acme", file)

    signed = ", ".join(sorted(keyid[:12] for keyid in file.signatures))
    assert refused.value.message == (
        f"0 of 1 signatures hold: signed by {signed}, valid nobody, may sign {mine.public_key.keyid[:12]}"
    )
