"""An image of the server's blob store as the folder that ``modules.images`` and ``fleet.images_push`` read."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet.blobs import Blobs
from modules.manifest import Image
from modules.oci import blob_path


@contextmanager
def image_folder(blobs: Blobs, image: Image) -> Iterator[Path]:
    """Its blobs, linked by the hex digits of their digests; nothing is copied."""
    with tempfile.TemporaryDirectory(prefix="edgefleet-image-") as name:
        folder = Path(name)
        for blob in {one.sha256 for one in (image.manifest, image.config, *image.layers)}:
            blob_path(folder, blob).symlink_to(blobs.path(blob))
        yield folder
