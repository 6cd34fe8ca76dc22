"""Files that somebody brought to the server: fetched by their digests, which the publisher's machine checks itself."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from fleet.client.api import Fleet
from fleet.client.screen import Step
from modules.errors import Invalid, NeedsOperator, Untrusted
from modules.manifest import Manifest
from modules.names import Digest, module_path

_CHUNK: Final = 1 << 20


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """An upload as the server tells of it.

    ``signed`` names the signed modules that have it; ``graph`` is what the server read in it, where it was asked for.
    """

    team: str
    digest: str
    name: str
    length: int
    created: float
    expires: float
    by: str
    signed: tuple[str, ...] = ()
    graph: dict[str, Any] | None = None
    external: dict[str, str] = {}


class Uploads(msgspec.Struct, frozen=True, kw_only=True):
    """The newest first, with how many bytes more are taken."""

    uploads: tuple[Upload, ...]
    room: int
    largest: int
    keep_s: int


def ask_all(fleet: Fleet) -> Uploads:
    return fleet.ask(Uploads, "GET", "/api/v1/uploads")


def ask(fleet: Fleet, team: str, digest: Digest) -> Upload:
    return fleet.ask(Upload, "GET", f"/api/v1/uploads/{team}/{digest}")


def remove(fleet: Fleet, team: str, digest: Digest) -> dict[str, str]:
    return fleet.ask(dict[str, str], "DELETE", f"/api/v1/uploads/{team}/{digest}")


def send(fleet: Fleet, team: str, file: Path, step: Step) -> Upload:
    """Bring a file to the server.

    Raises:
        Invalid: there is no such file.
        EdgefleetError: as :class:`Fleet`.
    """
    if not file.is_file():
        raise Invalid("there is no such file", element=str(file))
    length = file.stat().st_size
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
    where = f"/api/v1/uploads/{team}"
    return fleet.ask(
        Upload, "POST", where, params={"name": file.name}, content=_chunks(file, length, step), headers=headers
    )


def fetch(fleet: Fleet, team: str, digest: Digest, folder: Path, step: Step) -> Path:
    """Write one upload into a folder, under its name, once its bytes are those that the digest names.

    Raises:
        Untrusted: the server sent other bytes.
        NeedsOperator: a file of that name is there already.
        EdgefleetError: as :class:`Fleet`.
    """
    found = ask(fleet, team, digest)
    # The server's words: a name that leads out of the folder is refused here, too.
    if "/" in module_path(found.name):
        raise Untrusted("the server gives it a name with a slash", element=digest)
    place = folder / found.name
    if place.exists():
        raise NeedsOperator("a file is there already", element=str(place), remedy="choose another folder: --to FOLDER")
    folder.mkdir(parents=True, exist_ok=True)
    whole, done = hashlib.sha256(), 0
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as stream:
        passing = Path(stream.name)
        try:
            for chunk in fleet.get_bytes(f"/api/v1/uploads/{team}/{digest}/file"):
                whole.update(chunk)
                stream.write(chunk)
                done += len(chunk)
                if done > found.length:
                    break
                step("fetching", done, found.length)
            if f"sha256:{whole.hexdigest()}" != digest:
                raise Untrusted("the server sent other bytes than the digest names", element=digest)
            passing.replace(place)
        finally:
            passing.unlink(missing_ok=True)
    return place


@contextmanager
def fetched(fleet: Fleet, team: str, digests: Sequence[Digest], step: Step) -> Iterator[Path]:
    """Uploads on this machine for a while: the file, or the folder of several.

    Raises:
        Untrusted, EdgefleetError: as :func:`fetch`.
    """
    with tempfile.TemporaryDirectory(prefix="edgefleet-upload-") as scratch:
        places = [fetch(fleet, team, one, Path(scratch), step) for one in digests]
        yield places[0] if len(places) == 1 else Path(scratch)


def expect_in(manifest: Manifest, digests: Sequence[Digest]) -> None:
    """What will be signed has these very bytes in it.

    Raises:
        Untrusted: it has not.
    """
    signed = {one.sha256 for one in manifest.files}
    if missing := [one for one in digests if one not in signed]:
        raise Untrusted(
            "the module has not the bytes that were uploaded, and is not signed", element=missing[0],
            remedy="fetch the file and look: edgefleet uploads fetch",
        )  # fmt: skip


def _chunks(file: Path, length: int, step: Step) -> Iterator[bytes]:
    done = 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk
            done += len(chunk)
            step("uploading", done, length)
