"""Which real parts a test may ask for with the marker ``needs``, how to see that one is there, and how to get it."""

import http.client
import os
import shutil
import socket
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))


class Part(NamedTuple):
    """A real part: whether it is there, and what a person does when it is not."""

    present: Callable[[], bool]
    remedy: str


def program(name: str) -> str | None:
    """Where a program is, looked up in the folders of system programs too."""
    return shutil.which(name, path=_PATH)


def postgres_program(name: str) -> str | None:
    """A program of PostgreSQL; Debian keeps those of each version in a folder of their own. The newest is taken."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(found[-1]) if found else program(name)


def faketime() -> Path | None:
    """The library that moves the clock of programs; Debian keeps it in a folder of its architecture's."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def engine_socket() -> str:
    """The container engine's socket, as its own client would find it."""
    return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")


def engine_answers() -> bool:
    return answers(engine_socket())


def answers(engine: str) -> bool:
    """Whether a container engine answers on this socket."""
    connection = http.client.HTTPConnection("localhost", timeout=5)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(5)
    try:
        connection.sock.connect(engine)
        connection.request("GET", "/_ping")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _installed(name: str, package: str) -> Part:
    return Part(lambda: program(name) is not None, f"install {name}: apt-get install {package}")


PARTS = {
    "docker": Part(engine_answers, "start a container engine (Debian package docker.io), or point DOCKER_HOST at one"),
    "docker-compose": _installed("docker-compose", "docker-compose"),
    "docker-registry": _installed("docker-registry", "docker-registry"),
    "dockerd": Part(
        lambda: program("dockerd") is not None and os.geteuid() == 0,
        "apt-get install docker.io, and run the tests as root",
    ),
    "faketime": Part(lambda: faketime() is not None, "install faketime: apt-get install faketime"),
    "git": Part(
        lambda: program("git") is not None and os.path.exists(".git"),  # noqa: PTH110 - a worktree's .git is a file
        "run in a git checkout, with git installed",
    ),
    "java": _installed("java", "default-jre-headless"),
    "mmdebstrap": _installed("mmdebstrap", "mmdebstrap"),
    "mosquitto": _installed("mosquitto", "mosquitto"),
    "chromium": Part(lambda: program("chromium") is not None, "install Chromium: apt-get install chromium"),
    "postgres": Part(lambda: postgres_program("initdb") is not None, "install PostgreSQL: apt-get install postgresql"),
    "openssl": _installed("openssl", "openssl"),
    "root": Part(lambda: os.geteuid() == 0, "run the tests as root"),
    "softhsm": Part(
        lambda: program("softhsm2-util") is not None and find_spec("pkcs11") is not None,
        "apt-get install softhsm2, and pip install 'edgefleet[hsm]'",
    ),
    "systemd-analyze": _installed("systemd-analyze", "systemd"),
}


@cache
def missing(name: str) -> str | None:
    """Why a part is not there, with what to do; None if it is. Looked up once."""
    part = PARTS[name]
    return None if part.present() else f"{name} is missing ({part.remedy})"
