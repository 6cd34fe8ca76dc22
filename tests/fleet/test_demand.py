"""Which blobs may be broadcast: none that a confidential module names; and how many devices want one."""

import pytest

from fleet.demand import Demand, Demands
from fleet.registry import named_digests
from modules import manifest as manifests
from modules.digests import measure_bytes, sha256
from modules.manifest import Image, Runtime

NAMES = ("dev-a", "dev-b", "dev-c")


@pytest.fixture
def demands(small_fleet):
    return Demands(small_fleet.database, small_fleet.blobs)


def image(fleet, layer):
    """An image whose blobs are there."""
    return Image(
        name="scoring:1", manifest=fleet.blobs.put(b"manifest"), config=fleet.blobs.put(b"config"), layers=(layer,)
    )


def manifest_of(fleet, ref):
    with fleet.database.read() as connection:
        return fleet.registry.signed(connection, ref)


def test_the_wave_says_how_many_devices_want_a_blob(small_fleet, demands):
    """Only devices that have the order, and have not said that they are further: each of them counts once."""
    for name in NAMES:
        small_fleet.add_device(name)
    ref = small_fleet.add_module("digits")
    manifest, _ = manifest_of(small_fleet, ref)
    blob = manifest.files[0]
    assert demands.of(blob.sha256) == Demand(blob.length, 0)
    small_fleet.start(ref)
    small_fleet.tick()
    assert demands.of(blob.sha256) == Demand(blob.length, 3)
    small_fleet.report("dev-a", "fetching")
    small_fleet.report("dev-b", "verified")
    assert demands.of(blob.sha256).devices == 2


def test_a_blob_that_is_not_here_is_not_broadcast(demands):
    """Nobody can ask for a digest into the blue."""
    assert demands.of(sha256(b"nobody has it")) is None


@pytest.mark.parametrize("signed", [True, False])
def test_nothing_that_a_confidential_module_names_is_broadcast(small_fleet, demands, signed):
    """Its files, image, their indexes and its manifest, be it signed or a draft; no other module's blob is touched."""
    layer = small_fleet.blobs.put(b"layer")
    runtimes = (Runtime(image=image(small_fleet, layer)),)
    small_fleet.add_module("open", runtimes=(Runtime(),))
    before = measure_bytes(b"graph of open")
    assert demands.of(before.sha256) is not None
    assert demands.of(layer.sha256) is not None
    ref = small_fleet.add_module("secret", sign_it=signed, runtimes=runtimes, confidential=True)
    with small_fleet.database.read() as connection:
        digest = small_fleet.registry.digest(connection, ref)
        manifest = manifests.decode(small_fleet.registry.manifest_bytes(connection, ref))
    named = {digest, *named_digests(manifest)}
    assert {layer.sha256, layer.blocks, manifest.files[0].sha256, digest} <= named
    assert [demands.of(one) for one in named] == [None] * len(named)
    assert demands.of(before.sha256) is not None


def test_a_blob_that_two_modules_share_is_as_confidential_as_the_stricter_one(small_fleet, demands):
    """The open module's layer is broadcast until a confidential module names it, too; then never again."""
    layer = small_fleet.blobs.put(b"layer")
    runtimes = (Runtime(image=image(small_fleet, layer)),)
    small_fleet.add_module("open", runtimes=runtimes)
    assert demands.of(layer.sha256) is not None
    small_fleet.add_module("secret", runtimes=runtimes, confidential=True)
    assert demands.of(layer.sha256) is None


def test_a_manifest_that_cannot_be_read_is_no_permission(small_fleet, demands, monkeypatch):
    """While the disk does not say whether a module is confidential, nothing is broadcast."""
    ref = small_fleet.add_module("digits")
    manifest, _ = manifest_of(small_fleet, ref)

    def broken(_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(small_fleet.blobs, "find", broken)
        with pytest.raises(OSError, match="Input/output"):
            demands.of(manifest.files[0].sha256)
    assert demands.of(manifest.files[0].sha256) is not None
