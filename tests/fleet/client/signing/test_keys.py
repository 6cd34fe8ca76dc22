"""The owner's offline keys: where they go, who may read them, and that they sign."""

import errno
import stat

import pytest
from tuf.api.metadata import Metadata, Root, Targets

from fleet.client.signing.keys import Initial, add_team_key, init, key_file, load_signer
from modules.errors import BadSettings
from modules.names import Slug
from modules.trust import publication, repository
from modules.trust.repository import OnlineKeys
from tests.doubles.disk import Disk
from tests.doubles.keys import ACME, NOW, release, signer

PASSPHRASE = "correct horse battery staple"
SNAPSHOT, TIMESTAMP, DIRECTOR = signer(), signer(), signer()
ONLINE = OnlineKeys(SNAPSHOT.public_key, TIMESTAMP.public_key, DIRECTOR.public_key)


def made(folder, **changes) -> Initial:
    return init(folder, **({"teams": [ACME], "online": ONLINE, "passphrase": PASSPHRASE, "now": NOW} | changes))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "offline"


def test_files(folder):
    """Every key has a file of its own that only its owner may read, and a note says what to do with them."""
    made(folder)

    names = ["README.txt", "root-1.pem", "root-2.pem", "root-3.pem", "targets.pem", "team-acme.pem"]
    assert sorted(file.name for file in folder.iterdir()) == names
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert "Move this folder away now" in (folder / "README.txt").read_text()


def test_encrypted(folder):
    """With a passphrase no key lies in clear on the disk, and each loads with it."""
    made(folder)
    for file in folder.glob("*.pem"):
        assert file.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        load_signer(file, PASSPHRASE)
    for wrong in (None, "incorrect horse battery"):
        with pytest.raises(BadSettings, match=r"targets\.pem"):
            load_signer(folder / "targets.pem", wrong)


def test_metadata(folder):
    """What is returned is a repository that the server can publish at once and a team can add to."""
    initial = made(folder)
    team = repository.add_target(
        initial.teams[ACME],
        team=ACME,
        path="modules/acme/digits/1.json",
        data=release("acme/digits:1"),
        signers=[load_signer(key_file(folder, "team-acme"), PASSPHRASE)],
        now=NOW,
    )
    check = {"root": initial.root, "targets": initial.targets, "now": NOW}
    publication.check_team_update(**check, team=ACME, old=initial.teams[ACME], new=team)
    publication.publish_online(
        **check, teams={ACME: team}, previous=None, snapshot_signer=SNAPSHOT, timestamp_signer=TIMESTAMP
    )

    assert Metadata[Root].from_bytes(initial.root).signed.roles["root"].threshold == 2
    assert Metadata[Targets].from_bytes(initial.targets).signed.targets["trust/director.json"].length == len(
        initial.director
    )


def test_keys_last(folder, monkeypatch):
    """A key that has signed and is then lost with the power is worse than none: bytes and names are synced."""
    disk = Disk(monkeypatch)
    made(folder)

    assert all(("sync", str(file)) in disk.happened for file in folder.glob("*.pem"))
    assert disk.happened[-1] == ("sync", str(folder))


def test_never_overwrites(folder):
    """A folder with something in it is left alone, whatever it is."""
    made(folder)
    before = {file: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(BadSettings, match="not empty"):
        made(folder)
    with pytest.raises(BadSettings, match="never overwritten"):
        add_team_key(folder, team=ACME, passphrase=PASSPHRASE)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_nothing_is_left_where_the_disk_takes_no_more(folder, monkeypatch):
    """Then the same command can be given again, in the same folder."""
    synced = []

    def full(file):
        synced.append(file)
        if len(synced) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        made(folder)
    assert list(folder.iterdir()) == []

    made(folder)


@pytest.mark.parametrize("passphrase", [None, "", "short", "fifteen letters"])
def test_passphrase(folder, passphrase):
    """Without a passphrase of some length no key is made."""
    with pytest.raises(BadSettings, match="passphrase"):
        made(folder, passphrase=passphrase)
    assert not folder.exists()


def test_demo_keys_say_so(folder):
    """Unencrypted keys are made on request only, and their note says what they are."""
    made(folder, passphrase=None, insecure_demo=True)

    load_signer(folder / "root-1.pem", None)
    assert "NOT ENCRYPTED" in (folder / "README.txt").read_text()


def test_one_more_team(folder):
    """A team that comes later gets a key of its own, which the owner can delegate to."""
    initial = made(folder)
    third = Slug("third")
    key = add_team_key(folder, team=third, passphrase=PASSPHRASE)
    targets = repository.delegate_team(
        initial.targets,
        team=third,
        keys=[key.public_key],
        signers=[load_signer(folder / "targets.pem", PASSPHRASE)],
        now=NOW,
    )
    first = repository.create_team(team=third, signers=[load_signer(folder / "team-third.pem", PASSPHRASE)], now=NOW)
    publication.check_team_update(root=initial.root, targets=targets, team=third, old=None, new=first, now=NOW)


class TestLoad:
    def test_readable_by_others(self, folder):
        """A key that others may read is refused until its mode is put right."""
        made(folder)
        file = folder / "targets.pem"
        file.chmod(0o640)
        with pytest.raises(BadSettings, match="chmod 600"):
            load_signer(file, PASSPHRASE)

    def test_link(self, folder):
        """A link in the place of a key is not followed."""
        made(folder)
        link = folder / "link.pem"
        link.symlink_to("targets.pem")
        with pytest.raises(BadSettings, match=r"link\.pem"):
            load_signer(link, PASSPHRASE)

    def test_no_file(self, folder):
        """A missing file or a folder is refused by name."""
        made(folder)
        for path in (folder / "absent.pem", folder):
            with pytest.raises(BadSettings, match="offline"):
                load_signer(path, PASSPHRASE)
