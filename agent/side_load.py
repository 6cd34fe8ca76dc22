"""``edgefleet-agent images import``: an image from a file, for a device that cannot be sent it.

The engine gets the image and the blob store its blobs; nothing is trusted for it, and nothing is started: when a signed
module asks for the image, its digests decide.
"""

import errno
import sys
from typing import BinaryIO

import msgspec

from agent.blobs import BlobStore
from agent.engines.docker_api import DockerApi
from agent.engines.docker_images import load_image
from agent.owner import give_back
from agent.settings import Settings
from modules.errors import BadSettings, NoSpace
from modules.image_import import import_archive


def import_image(archive: BinaryIO, settings: Settings, *, as_json: bool) -> int:
    """Bring the image's blobs into the blob store.

    Raises:
        BadSettings: the file cannot be read, or the state folder not be written.
        NoSpace: the disk is full.
        Invalid: it holds no image, or a damaged one.
        NoEngine: no engine answers.
    """
    try:
        store = BlobStore(settings.blobs)
        image = import_archive(archive, store.folder)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpace(str(error.strerror), element=settings.state, remedy="free disk space") from error
        if error.filename is None:
            raise BadSettings(
                str(error.strerror), element=archive.name, remedy="name a file that can be read"
            ) from error
        raise BadSettings(
            f"the state folder cannot be written: {error.strerror}",
            element=str(error.filename),
            remedy=f"give all of it to one user, the service's: {give_back(settings.state)}",
        ) from error
    load_image(DockerApi(settings.docker_socket), image, store.folder, reserve=settings.disk_reserve)
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(image)).decode() + "\n")
    else:
        sys.stdout.write(f"imported {image.name or 'an image'}, config {image.config.sha256}\n")
    return 0
