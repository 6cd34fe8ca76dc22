"""``edgefleet-agent images import``: an image from a file, for a device that cannot be sent it.

The engine gets the image and the blob store its blobs; nothing is trusted for it, and nothing is started: when a signed
module asks for the image, its digests decide.
"""

import sys
from pathlib import Path

import msgspec

from agent.blobs import BlobStore
from agent.engines.docker_api import DockerApi
from agent.engines.docker_images import load_image
from agent.settings import Settings
from modules.errors import BadSettings
from modules.image_import import import_archive


def import_image(file: Path, settings: Settings, *, as_json: bool) -> int:
    """Bring the image's blobs into the blob store.

    Raises:
        BadSettings: the file cannot be read.
        Invalid: it holds no image, or a damaged one.
        NoEngine: no engine answers.
    """
    store = BlobStore(settings.blobs)
    try:
        with file.open("rb") as archive:
            image = import_archive(archive, store.folder)
    except OSError as error:
        raise BadSettings(str(error.strerror), element=str(file), remedy="name a file that can be read") from error
    load_image(DockerApi(settings.docker_socket), image, store.folder, reserve=settings.disk_reserve)
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(image)).decode() + "\n")
    else:
        sys.stdout.write(f"imported {image.name or 'an image'}, config {image.config.sha256}\n")
    return 0
