"""Building the scoring image on an engineer's machine, without a registry and without a network in the build.

The image carries a label with the digest of all that it was built from, so that the same image is never built twice.
Wheels are fetched here, for the Python and the C library inside the base image, and installed there with
``--no-index``: so a proxy that re-signs TLS needs no place in the image, and what was installed is what was fetched.
"""

import hashlib
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import docker
import docker.errors
import msgspec

from fleet.client.pip import Inside, pip
from modules.errors import NeedsOperator

BASE: Final = "python:3.11-slim"
SOURCE: Final = Path(__file__).resolve().parents[2]
DOCKERFILE: Final = SOURCE / "deploy/images/scoring.Dockerfile"
LOCK: Final = SOURCE / "deploy/locks/scoring.txt"

LABEL: Final = "edgefleet.built-from"
# What decides what runs in the image, beside the base image and the packages asked for.
INGREDIENTS: Final = ("pyproject.toml", "deploy/locks/scoring.txt", "deploy/images/scoring.Dockerfile")

_ASK: Final = (
    "import json, platform, sys; libc = platform.libc_ver(); "
    "print(json.dumps({'python': '%d.%d' % sys.version_info[:2], 'libc': libc[0], 'version': libc[1], "
    "'machine': platform.machine()}))"
)

Progress = Callable[[str], None]


def build_scoring_image(
    *,
    client: docker.DockerClient,
    name: str,
    extra_requirements: Sequence[str] = (),
    base: str | None = None,
    progress: Progress,
) -> str:
    """Build the image that serves modules, unless the engine has it already, and return its id (``sha256:...``).

    Args:
        client: a Docker or Podman engine.
        name: the tag that the image gets.
        extra_requirements: packages that entry scripts import, as pip writes them.
        base: an image that the engine has, to build upon; without it ``python:3.11-slim``, pulled if need be.
        progress: is told each step in a line.

    Raises:
        NeedsOperator: no base image, no source tree, or a package that cannot be had; the message has the last words of
            the program that failed.
    """
    if not DOCKERFILE.is_file() or not (SOURCE / "pyproject.toml").is_file():
        raise NeedsOperator(
            "edgefleet was installed without its source, from which the image's wheel is built",
            element=str(SOURCE),
            remedy="run this in a checkout of edgefleet",
        )
    base = _make_sure_of_base(client, progress)
    content = _content(base, extra_requirements)
    if made := _made_before(client, content):
        progress(f"{name} is there already, built from the same sources and base image")
        made.tag(name)
        return str(made.id)
    inside = _ask(client)
    with tempfile.TemporaryDirectory(prefix="edgefleet-image-") as folder:
        context = Path(folder)
        _collect(context, inside, extra_requirements, progress)
        return _build(client, context, name, content, progress)


def _content(base: str, extra: Sequence[str]) -> str:
    """A digest of what the image is built from: base image, packages, recipe, and the code that runs in it."""
    files = [*(SOURCE / name for name in INGREDIENTS), Path(__file__), *sorted((SOURCE / "modules").rglob("*.py"))]
    whole = hashlib.sha256("\0".join((base, *sorted(extra), "")).encode())
    for file in files:
        if file.is_file():
            whole.update(file.relative_to(SOURCE).as_posix().encode() + b"\0")
            whole.update(hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()


def _made_before(client: docker.DockerClient, content: str) -> Any:
    """The image with this label, if the engine has one."""
    return next(iter(client.images.list(filters={"label": f"{LABEL}={content}"})), None)


def _make_sure_of_base(client: docker.DockerClient, progress: Progress) -> str:
    """The id of the base image, pulled if the engine has not got it."""
    try:
        return str(client.images.get(BASE).id)
    except docker.errors.ImageNotFound:
        progress(f"pulling {BASE}")
        try:
            return str(client.images.pull(BASE).id)
        except docker.errors.APIError as error:
            raise NeedsOperator(
                f"this image is not here and cannot be pulled: {error.explanation or error}",
                element=BASE,
                remedy=f"load it from a file (docker load), or import a root file system with Python as {BASE}",
            ) from error


def _ask(client: docker.DockerClient) -> Inside:
    """Run the base image's Python once."""
    try:
        answer = client.containers.run(BASE, ["python", "-c", _ASK], entrypoint=[], remove=True, network_mode="none")
        inside = msgspec.json.decode(answer, type=Inside)
    except (docker.errors.DockerException, msgspec.DecodeError) as error:
        raise NeedsOperator(
            f"its Python does not run: {error}", element=BASE, remedy="use another base image"
        ) from error
    if inside.libc != "glibc":
        raise NeedsOperator("onnxruntime has wheels for glibc only", element=BASE, remedy="use a Debian-based image")
    return inside


def _collect(context: Path, inside: Inside, extra: Sequence[str], progress: Progress) -> None:
    """Fill the build's context: the Dockerfile, and every wheel that is to be in the image."""
    wheels = context / "wheels"
    progress("building the wheel of edgefleet")
    pip("wheel", "--no-deps", f"--wheel-dir={wheels}", str(SOURCE))
    (own,) = wheels.glob("edgefleet-*.whl")
    progress(f"fetching wheels for Python {inside.python}, {inside.libc} {inside.version}, {inside.machine}")
    fetch = ("download", f"--dest={wheels}", *inside.pip_options)
    pins = context / "pins.txt"
    pins.write_text("")
    if LOCK.is_file():
        pip(*fetch, "--require-hashes", f"--requirement={LOCK}")
        # The lock cannot check packages that it does not know; beside them it holds the versions of the others still.
        pins.write_text("\n".join(re.findall(r"^\w\S*==[^\\\n]+", LOCK.read_text(), re.MULTILINE)))
    if extra or not LOCK.is_file():
        pip(*fetch, f"--constraint={pins}", f"{own}[scoring]", *extra)
    (context / "Dockerfile").write_bytes(DOCKERFILE.read_bytes())


def _build(client: docker.DockerClient, context: Path, name: str, content: str, progress: Progress) -> str:
    progress(f"building {name}")
    image_id = ""
    steps: Any = client.api.build(
        path=str(context),
        tag=name,
        rm=True,
        forcerm=True,
        pull=False,
        decode=True,
        network_mode="none",
        buildargs={"BASE": BASE},
        labels={LABEL: content},
    )
    for step in steps:
        if "error" in step:
            raise NeedsOperator(
                f"the build failed: {step['error'].strip()}", element=name, remedy="read the lines before this one"
            )
        if line := step.get("stream", "").strip():
            progress(line)
        image_id = step.get("aux", {}).get("ID", image_id)
    # Podman says the id only in words; the tag is fresh, so it says whose it is.
    return image_id or str(client.images.get(name).id)
