"""What a device verified once it need not verify again, for as long as nothing that it rests on has changed."""

import pytest
from securesystemslib.signer import SSlibKey

from modules.errors import Untrusted
from modules.trust import repository, roles
from tests.doubles.keys import ACME, NOW, Publisher, signer
from tests.modules.trust.test_bins import changed, path_of
from tests.modules.trust.test_device import PATH, Device


@pytest.fixture
def publisher():
    publisher = Publisher()
    publisher.release("acme/digits:1")
    return publisher


@pytest.fixture
def settled(tmp_path, publisher):
    device = Device(tmp_path / "trust", publisher)
    device.trust.refresh(NOW)
    device.trust.manifest_target(PATH)
    return device


def tied(publisher):
    """The files tied together without a look at the team's, which an honest server would not let pass."""
    teams, publisher.teams = publisher.teams, {}
    publisher.publish()
    publisher.teams = teams


def named(publisher, *keys, threshold=1):
    """The owner names these keys for the team, which has not signed anything since."""
    publisher.targets_metadata = repository.delegate_team(
        publisher.targets_metadata,
        team=ACME,
        keys=[key.public_key for key in keys],
        signers=[publisher.targets_signer],
        now=NOW,
        threshold=threshold,
    )
    tied(publisher)


def test_only_what_is_new_is_verified(settled, publisher, monkeypatch):
    """A second refresh verifies the bundle's root; one after a release, what came, too: no file of the cache again."""
    verify, asked = SSlibKey.verify_signature, []
    root = [key.public_key.keyid for key in publisher.root_signers]
    publisher.release("acme/digits:2")
    settled.trust.refresh(NOW)
    publisher.release("acme/digits:3")
    monkeypatch.setattr(SSlibKey, "verify_signature", lambda key, *more: asked.append(key.keyid) or verify(key, *more))
    settled.trust.refresh(NOW)
    assert settled.trust.manifest_target("modules/acme/digits/3.json") is not None
    came = (publisher.timestamp_signer, publisher.snapshot_signer, publisher.team_signers[ACME])
    assert sorted(asked) == sorted([*root, *(key.public_key.keyid for key in came)])

    asked.clear()
    settled.trust.refresh(NOW)
    assert settled.trust.manifest_target(PATH) is not None
    assert sorted(asked) == sorted(root)


@pytest.mark.parametrize("change", ["another key", "two keys of two"])
def test_other_keys_are_other_grounds(settled, publisher, change):
    """The same bytes as ever, and the owner wants other signatures under them: they are worth nothing at once."""
    keys = [signer()]
    if change != "another key":
        keys.append(publisher.team_signers[ACME])
        named(publisher, *keys)
        settled.trust.refresh(NOW)
        assert settled.trust.manifest_target(PATH) is not None
    named(publisher, *keys, threshold=len(keys))
    settled.trust.refresh(NOW)
    with pytest.raises(Untrusted, match="team-acme was signed by"):
        settled.trust.manifest_target(PATH)


def test_another_key_under_a_known_id(settled, publisher):
    """An id is no key: what counts is the key that stands behind it."""
    friend, mine = signer(), publisher.team_signers[ACME].public_key

    def swap(signed):
        signed.delegations.keys[mine.keyid] = SSlibKey(mine.keyid, mine.keytype, mine.scheme, friend.public_key.keyval)

    publisher.targets_metadata = changed(publisher.targets_metadata, swap, publisher.targets_signer)
    tied(publisher)
    settled.trust.refresh(NOW)
    with pytest.raises(Untrusted, match="team-acme was signed by 0/1 keys"):
        settled.trust.manifest_target(PATH)


@pytest.mark.long
def test_bins_are_not_held(tmp_path):
    """However many bins a device has looked into, none of them stays in its memory by that."""
    publisher = Publisher(most=0)
    for number in range(1, 9):
        publisher.release(f"acme/digits:{number}")
    device = Device(tmp_path / "trust", publisher)
    device.trust.refresh(NOW)
    for number in range(1, 9):
        assert device.trust.manifest_target(path_of(f"acme/digits:{number}")) is not None
    assert set(device.trust._verified._newest) == {*roles.TOP_LEVEL, "team-acme"} - {roles.ROOT}
