"""The image that others are built upon: on this machine already, or pulled, from a private registry if need be."""

import base64
from collections.abc import Callable
from typing import Any, Final

import msgspec

from fleet.client.images.pip import Inside
from modules.canonical import UNREADABLE
from modules.errors import NeedsOperator

BASE: Final = "python:3.11-slim"
# What the scoring server itself needs.
OLDEST_PYTHON: Final = (3, 11)
_ASK: Final = (
    "import json, platform, sys; libc = platform.libc_ver(); "
    "print(json.dumps({'python': '%d.%d' % sys.version_info[:2], 'libc': libc[0], 'version': libc[1], "
    "'machine': platform.machine()}))"
)

Progress = Callable[[str], None]


class Registry(msgspec.Struct, frozen=True, kw_only=True):
    """A private registry, for the time of one pull; the password is kept nowhere and shown nowhere."""

    address: str = ""
    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Registry(address={self.address!r}, username={self.username!r})"

    def full_name(self, image: str) -> str:
        """The image's name with the registry in front, unless it has it already."""
        if not self.address or image.startswith(f"{self.address}/"):
            return image
        return f"{self.address}/{image}"

    def without_secret(self, text: str) -> str:
        """A text of the engine's without the password, in clear or as HTTP's basic authentication writes it."""
        if not self.password:
            return text
        basic = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return text.replace(self.password, "***").replace(basic, "***")


def make_sure_of_base(client: Any, name: str, progress: Progress, registry: Registry | None = None) -> str:
    """The id of the image, pulled if the engine has not got it.

    Raises:
        NeedsOperator: it is nowhere, or the registry refuses.
    """
    from docker.errors import APIError, ImageNotFound  # noqa: PLC0415  a tenth of a second, for building alone

    registry = registry or Registry()
    name = registry.full_name(name)
    try:
        return str(client.images.get(name).id)
    except ImageNotFound:
        progress(f"pulling {name}")
    credentials = {"username": registry.username, "password": registry.password} if registry.username else None
    try:
        return str(client.images.pull(name, auth_config=credentials).id)
    except APIError as error:
        why = registry.without_secret(str(error.explanation or error))
        remedy = f"load it from a file (docker load), or import a root file system with Python as {name}"
        if any(word in why for word in ("auth", "denied", "credential", "401")):
            remedy = f"give the registry's address, user name and password, or {remedy}"
        raise NeedsOperator(
            f"this image is not here and cannot be pulled: {why}", element=name, remedy=remedy
        ) from None


def ask(client: Any, base: str, name: str) -> Inside:
    """Run the image's Python once; ``name`` is for the error.

    Raises:
        NeedsOperator: it has no Python that runs, one too old, or one without glibc.
    """
    from docker.errors import DockerException  # noqa: PLC0415  as above

    try:
        answer = client.containers.run(base, ["python", "-c", _ASK], entrypoint=[], remove=True, network_mode="none")
        inside = msgspec.json.decode(answer, type=Inside)
    except (DockerException, *UNREADABLE) as error:
        raise NeedsOperator(
            f"its Python does not run: {error}", element=name, remedy="use another base image"
        ) from error
    if inside.libc != "glibc":
        raise NeedsOperator("onnxruntime has wheels for glibc only", element=name, remedy="use a Debian-based image")
    if tuple(map(int, inside.python.split("."))) < OLDEST_PYTHON:
        raise NeedsOperator(
            f"it has Python {inside.python}, and the scoring server needs {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]}",
            element=name,
            remedy="use an image with a newer Python",
        )
    return inside
