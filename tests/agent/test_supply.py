"""What pruning keeps: all that a named module needs to start again without the network, its image's layers too."""

import pytest

from agent.blobs import BlobStore
from agent.fetch import Puller
from agent.shelf import Shelf
from agent.slots import Placed
from agent.supply import Supply
from modules.names import slug
from tests.doubles.blob_server import BlobServer
from tests.doubles.release import make
from tests.doubles.rows import slot_row

CURRENT, PREVIOUS, FORGOTTEN = make("acme/digits:2"), make("acme/digits:1"), make("acme/digits:0")


@pytest.fixture
def blobs(tmp_path):
    store = BlobStore(tmp_path / "blobs")
    for release in (CURRENT, PREVIOUS, FORGOTTEN):
        for digest, data in release.blobs.items():
            store.path(digest).write_bytes(data)
    return store


def _placed(release):
    return Placed(wanted=release.wanted(), instance="digits-1", socket="/run/none")


def test_layers_of_the_current_and_the_previous_version_are_never_pruned(tmp_path, blobs):
    """An engine that lost its images gets them back from here, offline too; those that no slot names may go."""
    shelf = Shelf(tmp_path / "modules")
    for release in (CURRENT, PREVIOUS, FORGOTTEN):
        shelf.keep_manifest(release.digest, release.data)
    supply = Supply(
        blobs=blobs, shelf=shelf, puller=Puller(BlobServer().send, timeout_s=1, tries=1), reserve=1, budget=0
    )

    supply.prune([slot_row(CURRENT.wanted(), slug("digits"), current=_placed(CURRENT), previous=_placed(PREVIOUS))])

    for release in (CURRENT, PREVIOUS):
        image = release.manifest.runtimes[0].image
        assert all(blobs.has(blob) for blob in (image.manifest, image.config, *image.layers, *release.manifest.files))
    assert not any(blobs.has(layer) for layer in FORGOTTEN.manifest.runtimes[0].image.layers)
