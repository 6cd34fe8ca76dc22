"""A real container engine for tests, and the two images that they start: a Python base, and the scoring image.

Both images are kept between runs: the base under the tag that Dockerfiles name, the scoring image under a tag that
hashes everything that it is made of.
"""

import fcntl
import functools
import gzip
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

import docker
import docker.errors

from fleet.client.images.image_build import AGENT, BASE, GATEWAY, SCORING, SERVER, Recipe, build_image
from fleet.client.images.own_wheel import SOURCE
from tests.parts.pace import stretched
from tests.parts.presence import engine_answers, engine_socket, program

REPOSITORY = "edgefleet-test"
KEPT = 10
POSTGRES = Path(__file__).with_name("postgres_image")
_SMALL_LAYER = 1 << 20
STARTS_WITHIN_S = stretched(60)
_PATHS = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# python and pip where the usual image has them: in /usr/local.
_PYTHON = ('--customize-hook=chroot "$1" python3 -m venv /usr/local',)
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


@contextmanager
def engine() -> Iterator[str]:
    """The socket of an engine: the one that runs, or a ``dockerd`` started now and stopped at the end."""
    if engine_answers():
        yield engine_socket()
        return
    daemon = program("dockerd")
    assert daemon is not None, "no container engine answers and dockerd is not installed"
    with tempfile.TemporaryFile() as log, subprocess.Popen([daemon], stdout=log, stderr=log) as process:
        try:
            deadline = time.monotonic() + STARTS_WITHIN_S
            while not engine_answers():
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise AssertionError(f"dockerd did not start: {log.read()[-2000:]!r}")
                time.sleep(0.1)
            yield engine_socket()
        finally:
            process.terminate()


def client() -> docker.DockerClient:
    """Docker's own client, to look at an engine with other eyes than ours."""
    return docker.DockerClient(base_url=f"unix://{engine_socket()}", timeout=600)


def containers_upon(engine_client: docker.DockerClient, folder: Path) -> list[str]:
    """The containers, running or not, that have something below this folder mounted: other tests have theirs."""
    found = engine_client.containers.list(all=True, ignore_removed=True)
    return [
        one.id for one in found if any(Path(mount["Source"]).is_relative_to(folder) for mount in one.attrs["Mounts"])
    ]


def python_slim(engine_client: docker.DockerClient) -> str:
    """Make sure that the engine has a Python image under the usual tag; returns the tag.

    Made from the distribution's own packages where the tag is missing, so that no registry is needed.
    """
    with one_at_a_time("python-slim"):
        try:
            engine_client.images.get(BASE)
        except docker.errors.ImageNotFound:
            _import_debian(engine_client)
    return BASE


def scoring_image(engine_client: docker.DockerClient) -> str:
    """The id of the scoring image of the sources as they are; built where the engine has not got it."""
    return _made(engine_client, SCORING)


def gateway_image(engine_client: docker.DockerClient) -> str:
    """The same for the image that stands before an endpoint."""
    return _made(engine_client, GATEWAY)


def server_image(engine_client: docker.DockerClient) -> str:
    """The same for the fleet server's image, upon a base that has ssh."""
    python = ("python3", "python3-venv", "ca-certificates", "openssh-client")
    return _made(engine_client, SERVER, base=_debian(engine_client, "python-ssh", packages=python, hooks=_PYTHON))


def agent_image(engine_client: docker.DockerClient) -> str:
    """The same for the agent's image."""
    return _made(engine_client, AGENT)


def _made(engine_client: docker.DockerClient, recipe: Recipe, *, base: str | None = None) -> str:
    python_slim(engine_client)
    kind = recipe.dockerfile.stem
    repository = f"{REPOSITORY}/{kind}"
    with one_at_a_time(f"{kind}-image"):
        name = f"{repository}:{_sources(recipe)}"
        try:
            return str(engine_client.images.get(name).id)
        except docker.errors.ImageNotFound:
            made = build_image(recipe, client=engine_client, name=name, base=base, progress=print)
        _forget_old(engine_client, repository)
    return made


def mosquitto_image(engine_client: docker.DockerClient) -> str:
    """An image with the distribution's mosquitto, which stands in for the usual one; returns its tag."""
    return _debian(engine_client, "mosquitto", packages=("mosquitto",))


def postgres_image(engine_client: docker.DockerClient) -> str:
    """One with the distribution's PostgreSQL, and of the usual image's start what deploy/compose.postgres.yaml uses."""
    base = _debian(engine_client, "postgresql", packages=("postgresql",))
    name = f"{REPOSITORY}/postgres:bookworm"
    engine_client.images.build(path=str(POSTGRES), tag=name, buildargs={"BASE": base}, rm=True, pull=False)
    return name


def _debian(
    engine_client: docker.DockerClient, kind: str, *, packages: tuple[str, ...], hooks: Sequence[str] = ()
) -> str:
    repository = f"{REPOSITORY}/{kind}"
    with one_at_a_time(f"{kind}-image"):
        try:
            engine_client.images.get(f"{repository}:bookworm")
        except docker.errors.ImageNotFound:
            _import_packages(engine_client, packages, repository, "bookworm", hooks=hooks)
    return f"{repository}:bookworm"


def saved(engine_client: docker.DockerClient, image_id: str, path: Path) -> Path:
    """What ``docker save`` writes of an image, with its layers compressed as other engines do.

    Each layer is compressed once for all tests of this machine: those of the Python base take a core five seconds.
    """
    with tempfile.TemporaryFile() as whole:
        whole.writelines(engine_client.images.get(image_id).save())
        whole.seek(0)
        with tarfile.open(fileobj=whole) as given, tarfile.open(path, "w") as made:
            for member in given:
                content = cast("BufferedReader | None", given.extractfile(member))
                if content is None or member.size <= _SMALL_LAYER:
                    made.addfile(member, content)
                    continue
                with _compressed(content).open("rb") as layer:
                    member.size = os.fstat(layer.fileno()).st_size
                    made.addfile(member, layer)
    return path


def _compressed(layer: BufferedReader) -> Path:
    folder = Path(tempfile.gettempdir()) / f"edgefleet-layers-{os.getuid()}"
    kept = folder / hashlib.file_digest(layer, "sha256").hexdigest()
    layer.seek(0)
    with one_at_a_time("layers"):
        if not kept.exists():
            folder.mkdir(exist_ok=True)
            draft = kept.with_suffix(".draft")
            with gzip.open(draft, "wb", compresslevel=1) as out:
                shutil.copyfileobj(layer, out)
            draft.rename(kept)
    return kept


@functools.cache
def _sources(recipe: Recipe) -> str:
    """A short hash of everything that an image is made of."""
    files = [recipe.dockerfile, *recipe.locks, SOURCE / "pyproject.toml", SOURCE / "fleet/client/images/image_build.py"]
    files += [path for folder in recipe.folders for path in sorted(folder.iterdir())]
    files += [path for package in recipe.packages for path in sorted((SOURCE / package).rglob("*.py"))]
    whole = hashlib.sha256()
    for path in files:
        whole.update(str(path.relative_to(SOURCE)).encode() + b"\0")
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()[:16]


def _forget_old(engine_client: docker.DockerClient, repository: str) -> None:
    images: list[Any] = sorted(engine_client.images.list(repository), key=lambda image: image.attrs["Created"])
    for image in images[:-KEPT]:
        for tag in image.tags:
            # A container of another test run may still use it; the next run tries again.
            with suppress(docker.errors.APIError):
                engine_client.images.remove(tag)


def _import_debian(engine_client: docker.DockerClient) -> None:
    repository, tag = BASE.split(":")
    packages = ("python3", "python3-venv", "ca-certificates")
    _import_packages(engine_client, packages, repository, tag, hooks=_PYTHON, changes=['CMD ["python3"]'])


def _import_packages(
    engine_client: docker.DockerClient,
    packages: Sequence[str],
    repository: str,
    tag: str,
    *,
    hooks: Sequence[str] = (),
    changes: Sequence[str] = (),
) -> None:
    with tempfile.TemporaryDirectory(prefix="edgefleet-base-") as folder:
        root = Path(folder) / "root.tar"
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}"]
        command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
        subprocess.run([*command, *hooks, "bookworm", str(root)], check=True, timeout=stretched(600))
        engine_client.api.import_image_from_file(
            str(root), repository=repository, tag=tag, changes=[f"ENV {_PATHS}", *changes]
        )


@contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """Two test runs on one machine share an engine: the second waits for what the first makes."""
    path = Path(tempfile.gettempdir()) / f"edgefleet-{what}-{os.getuid()}.lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
