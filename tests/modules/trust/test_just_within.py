"""What is just within a bound of a device's trust is taken, and what is one beyond it is refused."""

import pytest
from tuf.api.metadata import Metadata, TargetFile

from modules import signing
from modules.bounds import MAX_COUNT
from modules.digests import sha256
from modules.errors import Untrusted
from modules.trust import roles
from tests.doubles.keys import NOW, Publisher
from tests.modules.trust.test_device import Device


@pytest.fixture
def publisher():
    return Publisher()


@pytest.mark.parametrize("more", [0, 1])
def test_the_highest_version_that_a_database_holds(tmp_path, publisher, more):
    """A thief's highest version is believed and remembered, one more is refused and is not."""
    timestamp = Metadata.from_bytes(publisher.online.timestamp)
    timestamp.signed.version = MAX_COUNT + more
    timestamp.sign(publisher.timestamp_signer)
    device = Device(tmp_path, publisher)
    device.responder.files = publisher.files | {"timestamp.json": timestamp.to_bytes()}

    if more:
        with pytest.raises(Untrusted, match="timestamp: a version of 16 digits is out of bounds"):
            device.trust.refresh(NOW)
        assert device.versions.kept == {}
    else:
        device.trust.refresh(NOW)
        assert device.versions.kept[roles.TIMESTAMP].version == MAX_COUNT


@pytest.mark.parametrize("more", [0, 1])
def test_the_longest_list_of_directors(tmp_path, publisher, more):
    """A list of just as many bytes as are allowed is read, and one more is not even asked for."""
    document = signing.encode_keys([publisher.director.public_key])
    document += b" " * (signing.KEYS_LIMIT + more - len(document))
    file = Metadata.from_bytes(publisher.targets_metadata)
    file.signed.targets[roles.DIRECTOR_PATH] = TargetFile.from_data(roles.DIRECTOR_PATH, document, ["sha256"])
    file.signed.version += 1
    file.sign(publisher.targets_signer)
    publisher.targets_metadata = file.to_bytes()
    publisher.targets[sha256(document)] = document
    publisher.publish()
    device = Device(tmp_path, publisher)
    device.trust.refresh(NOW)

    if more:
        with pytest.raises(Untrusted, match="16385 bytes are more than a list of keys may have"):
            device.trust.director_keys()
        assert roles.DIRECTOR_PATH not in device.responder.asked
    else:
        assert list(device.trust.director_keys()) == [publisher.director.public_key.keyid]
