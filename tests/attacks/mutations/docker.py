"""A container engine that holds images as Docker does, in memory, and hands a module's files to whoever starts it."""

import gzip
import hashlib
import http.client
import io
import json
import tarfile
from pathlib import Path
from urllib.parse import unquote

from agent.engines import docker_images
from agent.engines.docker_api import ApiError
from modules.errors import Untrusted
from tests.doubles.engine import SimulatedEngine


class HeldImages:
    """What ``agent.engines.docker_images`` asks of the Docker API. ``swapped``: it holds other layers than it got."""

    def __init__(self) -> None:
        self.layers: dict[str, list[str]] = {}
        self.swapped: list[str] | None = None

    def get(self, path: str):
        if path == "/info":
            return {}
        name = unquote(path.removeprefix("/images/").removesuffix("/json"))
        if name not in self.layers:
            raise ApiError(http.client.NOT_FOUND, "no such image")
        return {"Id": name, "RootFS": {"Layers": self.layers[name]}, "RepoTags": ["held:1"]}

    def load(self, archive) -> str:
        with tarfile.open(fileobj=io.BytesIO(b"".join(archive))) as tar:
            parts = {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}
        (listed,) = json.loads(parts["manifest.json"])
        layers = [_named(gzip.decompress(parts[layer])) for layer in listed["Layers"]]
        self.layers[_named(parts[listed["Config"]])] = layers if self.swapped is None else self.swapped
        return "Loaded image: held:1\n"

    def delete(self, path: str, **_) -> None:
        self.layers.clear()


class Engine(SimulatedEngine):
    """``launches`` has each launch with the bytes of every file that was given to it, and the layers of its image."""

    def __init__(self, clock) -> None:
        super().__init__(clock)
        self.held = HeldImages()
        self.launches = []

    async def has_image(self, image, blobs):
        return docker_images.has_image(self.held, image, blobs)

    async def load_image(self, image, blobs):
        docker_images.load_image(self.held, image, blobs, reserve=0)

    async def keep_image(self, image):
        pass  # nobody tidies here

    async def start(self, launch):
        image = launch.runtime.image
        found = docker_images.engine_id(self.held, image) if image else None
        if found is None:
            raise Untrusted("the engine holds no such image", element="double")
        self.launches.append((launch, read_all(Path(launch.module_dir)), list(self.held.layers[found])))
        return await super().start(launch)


def read_all(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path there: what whoever is started sees."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def _named(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
