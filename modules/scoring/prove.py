"""``python -m modules.scoring.prove FOLDER --port N --access FILE``: does the server beside it answer as was proved?

A pod's startup probe: run in the scoring server's own container until it ends with 0 once. It asks the server on
loopback every sample of the module, compares by the samples' own rules, and holds the server to the first execution
provider that ``EDGEFLEET_PROVIDERS`` asks for, and to the manifest's limits as a device does: of latency (the samples'
median) and of memory (what the container uses, without this program). It remembers nothing, ends within ``--within``
seconds, and says in one line why it ends with 1. A module without samples is proved once it is ready.

It is started again and again beside a server that needs the CPU, so it imports neither NumPy nor a web framework.
"""

import argparse
import http.client
import os
import resource
import signal
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from modules import manifest as manifests
from modules import program, samples
from modules.canonical import UNREADABLE
from modules.errors import BadSettings, EdgefleetError, NotReady, OverLimit, WrongAnswer
from modules.manifest import Limits, Manifest
from modules.scoring.memory import CGROUP, used_mb
from modules.words import printable

_HOST: Final = "127.0.0.1"
_KIB_OF_MIB: Final = 1 << 10
_PROVIDERS: Final = "EDGEFLEET_PROVIDERS"
_STATUS_LIMIT: Final = 64 << 10
_ANSWER_LIMIT: Final = 32 << 20
_SPARE: Final = 64 << 10
_ACCESS_LIMIT: Final = 64 << 10
_SHOWN: Final = 1000
_OK: Final = 200


class _Status(msgspec.Struct):
    """``GET /edgefleet/status``, as far as it matters here."""

    ready: bool
    provider_in_use: str | None = None


class _Access(msgspec.Struct):
    keys: tuple[str, ...] = ()


def prove(folder: Path, port: int, *, key: str, provider: str, within_s: float) -> int:
    """How many samples the server has answered rightly: all of them.

    Args:
        folder: of the module.
        port: where the server listens.
        key: what lets us in; empty: nothing is needed.
        provider: the execution provider that must be in use; empty: any.
        within_s: how long the server may be silent; whoever calls bounds the whole.

    Raises:
        NotReady: it is not, or it does not answer.
        OverLimit: another provider is in use, or it is slower or larger than its manifest allows.
        WrongAnswer: to a sample.
        BadSettings: the module cannot be read.
        Invalid: it is none.
    """
    server = http.client.HTTPConnection(_HOST, port, timeout=within_s)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        _check_ready(_ask(server, "GET", "/edgefleet/status", b"", headers, limit=_STATUS_LIMIT), provider)
        manifest = _manifest(folder)
        asked, times = _samples(folder, manifest), list[float]()
        for sample in asked:
            kind = {"Content-Type": sample.content_type} if sample.content_type else {}
            limit = min(_ANSWER_LIMIT, 2 * len(sample.answer) + _SPARE)
            began = time.perf_counter()
            status, body = _ask(server, sample.method, sample.path, sample.body, headers | kind, limit=limit)
            times.append((time.perf_counter() - began) * 1000)
            if wrong := samples.differences(sample, status, body):
                raise WrongAnswer(wrong[0], element="samples", remedy="the module is not what its publisher proved")
        _check_limits(manifest.proof.limits, times)
    finally:
        server.close()
    return len(asked)


def _check_ready(answer: tuple[int, bytes], provider: str) -> None:
    status, body = answer
    if status != _OK:
        raise NotReady(f"it answers {status} at /edgefleet/status: {body[:200]!r}", element="scoring server")
    try:
        said = msgspec.json.decode(body, type=_Status)
    except UNREADABLE as error:
        raise NotReady(f"its status cannot be read: {error}", element="scoring server") from error
    if not said.ready:
        raise NotReady("it is loading the module", element="scoring server")
    # An entry script without a session of ONNX Runtime reports none, and is not held to one.
    if provider and said.provider_in_use and said.provider_in_use != provider:
        raise OverLimit(
            f"{said.provider_in_use} is in use instead of {provider}",
            element="provider",
            remedy="check the node's driver, or choose a runtime for CPUs",
        )


def _check_limits(limits: Limits, times: list[float]) -> None:
    if limits.latency_ms is not None and times and (took := median(times)) > limits.latency_ms:
        raise OverLimit(f"the samples' median took {took:.1f} ms of {limits.latency_ms:g} allowed", element="latency")
    if limits.memory_mb is not None and (uses := _memory_mb(CGROUP)) > limits.memory_mb:
        raise OverLimit(f"it uses {uses:.0f} MiB of {limits.memory_mb} allowed", element="memory")


def _memory_mb(cgroup: Path) -> float:
    """What the container uses beside this program; 0 where it cannot be read: then only the kernel holds it to it."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_OF_MIB
    return max(0.0, (used_mb(cgroup) or 0.0) - own)


def _ask(
    server: http.client.HTTPConnection, method: str, path: str, body: bytes, headers: dict[str, str], *, limit: int
) -> tuple[int, bytes]:
    try:
        server.request(method, path, body or None, headers)
        answer = server.getresponse()
        data = answer.read(limit)  # of more, the beginning is as wrong as the whole
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotReady(f"it does not answer: {error or type(error).__name__}", element="scoring server") from error
    if answer.will_close:
        server.close()
    return answer.status, data


def _manifest(folder: Path) -> Manifest:
    return manifests.decode(_read(folder / "manifest.json"))


def _samples(folder: Path, manifest: Manifest) -> tuple[samples.Sample, ...]:
    if manifest.proof.prove == "ready-only":
        return ()
    return samples.decode(_read(folder / "files" / manifest.proof.samples)).samples


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadSettings(
            f"the module cannot be read: {error.strerror}", element=str(error.filename), remedy="mount its volume"
        ) from error


def _key(file: Path | None) -> str:
    """The first key of the file that the server itself reads."""
    if file is None:
        return ""
    try:
        with file.open("rb") as stream:
            keys = msgspec.json.decode(stream.read(_ACCESS_LIMIT), type=_Access).keys
    except (OSError, *UNREADABLE) as error:
        raise BadSettings(f"the keys cannot be read: {error}", element=str(file)) from error
    return keys[0] if keys else ""


def _provider(environment: str) -> str:
    """The first that is asked for, where any is."""
    try:
        wanted = msgspec.json.decode(environment or "[]", type=list[str | tuple[str, dict[str, str]]])
    except UNREADABLE as error:
        raise BadSettings(str(error), element=_PROVIDERS) from error
    first = wanted[0] if wanted else ""
    return first if isinstance(first, str) else first[0]


def main(argv: list[str] | None = None) -> int:
    """Prove it: 0, or 1 with a line of why."""
    parser = argparse.ArgumentParser(
        prog="python -m modules.scoring.prove", description="Asks the scoring server beside it the module's samples."
    )
    parser.add_argument("folder", type=Path, help="the module's")
    parser.add_argument("--port", type=int, required=True, help="where the server listens, on loopback")
    parser.add_argument("--access", type=Path, metavar="FILE", help="the server's file of keys")
    parser.add_argument("--within", type=float, default=60.0, metavar="SECONDS", help="for all of it (%(default)s)")
    arguments = parser.parse_args(argv)

    def over(*_: Any) -> None:
        raise NotReady(
            f"not all were answered within {arguments.within:g} s",
            element="samples",
            remedy="give the probe more time, or the module fewer samples",
        )

    # A server that drips, and an answer that takes long to compare, end as well.
    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, arguments.within)
    try:
        key, provider = _key(arguments.access), _provider(os.environ.get(_PROVIDERS, ""))
        count = prove(arguments.folder, arguments.port, key=key, provider=provider, within_s=arguments.within)
    except EdgefleetError as error:
        sys.stderr.write(printable(str(error), _SHOWN) + "\n")
        return 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    sys.stdout.write(f"ready, and {count} samples were right\n" if count else "ready; it has no samples\n")
    return 0


if __name__ == "__main__":
    program.run("python -m modules.scoring.prove", main)
