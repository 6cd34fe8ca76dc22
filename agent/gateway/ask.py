"""``python -m agent.gateway.ask FOLDER``: run beside the gateway of an endpoint, by the fleet server.

It takes into use what the server has put into ``FOLDER/next``, looks at every replica over the network that only the
gateway reaches, lets each prove itself once by its samples, and prints one ``modules.protocol.endpoint.Said``.
"""

import argparse
import asyncio
import ssl
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from agent.answering import Told
from agent.counted import counted
from agent.gateway.headers import GENERATION
from agent.gateway.table import read, replace
from agent.health import status
from agent.module_client import HEAD_LIMIT, Answer, BadAnswer, exchange
from modules import program, samples
from modules.canonical import UNREADABLE
from modules.counted import Looked
from modules.digests import sha256
from modules.endpoint.looks import INDEX
from modules.errors import EdgefleetError, Invalid
from modules.names import Digest
from modules.protocol.endpoint import (
    CANDIDATES,
    CERTIFICATE,
    KEYS,
    NEXT,
    TABLE,
    Candidate,
    Candidates,
    Found,
    Said,
)
from modules.protocol.routing import Table

#: under which name the gateway's container listens
PORT: Final = 8700
#: kept by this program alone
PROVED: Final = "proved.json"
_LOOK_S: Final = 5.0
_ANSWER: Final = 32 << 20
_STATUS: Final = 64 << 10
_SPARE: Final = 64 << 10
# So many replicas prove themselves at a time, and one look begins no sample after so many seconds.
_PROVING: Final = 2
_PROOFS_S: Final = 10.0
_OK: Final = 200
# The table last: what it names is there by then.
_LAST: Final = (KEYS, TABLE)


class _Proofs:
    """How many of its samples each replica has answered rightly, kept in the folder: a new look goes on from there."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / PROVED
        try:
            self._known = msgspec.json.decode(self._path.read_bytes(), type=dict[str, int])
        except (OSError, *UNREADABLE):
            self._known = {}  # then they prove themselves again

    def of(self, instance: str) -> int:
        return self._known.get(instance, 0)

    def add(self, instance: str) -> None:
        self._known[instance] = self.of(instance) + 1

    def keep(self, instances: set[str]) -> None:
        kept = {name: count for name, count in self._known.items() if name in instances}
        replace(self._path, msgspec.json.encode(kept))


def take(folder: Path, new: Mapping[str, str], kept: Collection[str]) -> None:
    """Bring into use what waits in ``next``, each file in one step; what is not whole, or not kept, goes.

    Args:
        folder: the gateway's.
        new: the sha256 of each file that was put there.
        kept: the names of all files that belong here.
    """
    waiting = sorted((folder / NEXT).glob("*"), key=lambda one: _LAST.index(one.name) if one.name in _LAST else -1)
    for one in waiting:
        if new.get(one.name) == sha256(one.read_bytes()):
            one.replace(folder / one.name)
        else:
            one.unlink()
    for one in folder.glob("[!.]*"):
        if one.is_file() and one.name not in {*kept, PROVED, TABLE}:
            one.unlink()


async def look(folder: Path, port: int) -> Said:
    """How the gateway and the replicas stand now.

    Args:
        folder: the gateway's.
        port: where it listens, on loopback.
    """
    candidates = Candidates()
    if (file := folder / CANDIDATES).is_file():
        candidates = msgspec.json.decode(file.read_bytes(), type=Candidates)
    proofs, proving = _Proofs(folder), asyncio.Semaphore(_PROVING)
    ends = asyncio.get_running_loop().time() + _PROOFS_S
    found = await asyncio.gather(*(_found(folder, one, proofs, proving, ends) for one in candidates.replicas))
    proofs.keep({one.replica.instance for one in candidates.replicas})
    names = (one.replica.instance for one in candidates.replicas)
    told = await _told(folder, port)
    return Said(
        generation=told.generation if told else None,
        counts=counted(told) if told else None,
        table=_table(folder),
        replicas=dict(zip(names, found, strict=True)),
        files=_files(folder),
    )


def _files(folder: Path) -> dict[str, Digest]:
    found = (one for one in sorted(folder.glob("[!.]*")) if one.is_file() and one.name != PROVED)
    return {one.name: sha256(one.read_bytes()) for one in found}


def _table(folder: Path) -> Table | None:
    try:
        return read(folder / TABLE)
    except (OSError, Invalid):
        return None  # then the server writes it anew


async def _found(folder: Path, candidate: Candidate, proofs: _Proofs, proving: asyncio.Semaphore, ends: float) -> Found:
    try:
        for target in ("/", "/edgefleet/status"):
            answer = await _ask(candidate, "GET", target, within_s=_LOOK_S, limit=_STATUS)
            if answer.status != _OK:
                return Found(ready=False, why=f"it answers {answer.status} at {target}")
        # The same words are taken of a module as on a device.
        said = status(answer.body, candidate.replica.instance)
        async with proving:
            wrong, left = await _proved(folder, candidate, proofs, ends)
    except (OSError, BadAnswer, EdgefleetError) as error:
        return Found(ready=False, why=(str(error) or "nothing answers in time")[:2000])
    if wrong:
        return Found(ready=False, why=wrong[:2000], wrong=True)
    if left:
        return Found(ready=False, why=f"it is being proved: {left} samples are left")
    return Found(ready=said.ready, provider=said.provider_in_use or "", answers=_answers(answer.body))


class _Status(msgspec.Struct, frozen=True):
    answers: Looked | None = None


def _answers(status_body: bytes) -> Looked | None:
    """What a replica says of its answers; one of before, or one that says nonsense, says nothing."""
    try:
        return msgspec.json.decode(status_body, type=_Status).answers
    except UNREADABLE:
        return None


async def _proved(folder: Path, candidate: Candidate, proofs: _Proofs, ends: float) -> tuple[str, int]:
    """Which sample it does not answer as its publisher proved, and how; and how many are left for the next look."""
    if not candidate.samples:
        return "", 0
    instance = candidate.replica.instance
    every = samples.decode((folder / candidate.samples).read_bytes()).samples
    for sample in every[proofs.of(instance) :]:
        if asyncio.get_running_loop().time() >= ends:
            break
        kind = {"Content-Type": sample.content_type} if sample.content_type else {}
        limit = min(_ANSWER, 2 * len(sample.answer) + _SPARE)
        answer = await _ask(
            candidate,
            sample.method,
            sample.path,
            body=sample.body,
            fields=kind,
            within_s=candidate.within_s,
            limit=limit,
        )
        if problems := samples.differences(sample, answer.status, answer.body):
            return problems[0], 0
        proofs.add(instance)
    return "", len(every) - proofs.of(instance)


async def _ask(
    candidate: Candidate,
    method: str,
    target: str,
    *,
    body: bytes = b"",
    fields: dict[str, str] | None = None,
    within_s: float,
    limit: int,
) -> Answer:
    at = urlsplit(candidate.replica.url)
    key = {"Authorization": f"Bearer {candidate.replica.key}"} if candidate.replica.key else {}
    async with asyncio.timeout(within_s):
        reader, writer = await asyncio.open_connection(at.hostname, at.port or 80, limit=HEAD_LIMIT)
        return await exchange(reader, writer, method, target, body=body, fields=(fields or {}) | key, limit=limit)


async def _told(folder: Path, port: int) -> Told | None:
    """The generation of the table that the gateway uses, and what it has counted; None: it does not answer."""
    keys = msgspec.json.decode((folder / KEYS).read_bytes()).get("keys", ())
    bearer = {"Authorization": f"Bearer {keys[0]}"} if keys else {}
    scheme = "https" if (folder / CERTIFICATE).is_file() else "http"
    # This very container's own gateway: nobody else can listen on its loopback.
    own = ssl._create_unverified_context()  # noqa: S323, SLF001
    timeout = aiohttp.ClientTimeout(total=_LOOK_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{scheme}://127.0.0.1:{port}{INDEX}", headers=bearer, ssl=own) as answer,
        ):
            if answer.status != _OK:
                return None
            return Told(int(answer.headers[GENERATION]), msgspec.json.decode(await answer.read()))
    except (aiohttp.ClientError, TimeoutError, *UNREADABLE):
        return None


def main(argv: list[str] | None = None) -> int:
    """Take, look and say."""
    parser = argparse.ArgumentParser(prog="python -m agent.gateway.ask", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--new", action="append", default=[], metavar="NAME=DIGEST")
    parser.add_argument("--keep", action="append", default=[], metavar="NAME")
    arguments = parser.parse_args(argv)
    new: dict[str, str] = dict(one.split("=", 1) for one in arguments.new)
    take(arguments.folder, new, arguments.keep)
    said = asyncio.run(look(arguments.folder, arguments.port))
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    return 0


if __name__ == "__main__":
    program.run("edgefleet-gateway", main)
