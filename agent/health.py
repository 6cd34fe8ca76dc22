"""Asking a module itself: is it there, is it ready, which provider is really in use, are its answers the right ones."""

import asyncio
import logging
import time
from typing import Annotated, Final

import msgspec

from agent.clock import Clock
from agent.engines.contract import ContainerEngine
from agent.module_client import Answer, BadAnswer, request
from agent.module_socket import NotAModule
from hardware.providers import KNOWN
from modules.canonical import UNREADABLE
from modules.errors import NotReady, OverLimit, Unproved, WrongAnswer
from modules.latencies import median
from modules.manifest import Manifest
from modules.samples import Samples, differences

_logger = logging.getLogger(__name__)
_LIMIT: Final = 32 << 20
_STATUS_LIMIT: Final = 64 << 10
# How long it may take to answer one look, while it starts.
_ANSWERS_WITHIN_S: Final = 5.0
_LOOK_S: Final = 0.05
_LOG_TAIL: Final = 2000
_OK: Final = 200


class ServerStatus(msgspec.Struct, frozen=True):
    """``GET /edgefleet/status`` of the scoring server, as far as the agent acts on it."""

    ready: bool
    provider_in_use: Annotated[str, msgspec.Meta(max_length=200)] | None = None


class Proved(msgspec.Struct, frozen=True):
    """What the proof found: the provider in use, and the median latency of the samples in milliseconds (0: none)."""

    provider: str
    latency_ms: float


async def ask(
    socket: str,
    method: str,
    target: str,
    *,
    body: bytes = b"",
    content_type: str = "",
    timeout_s: float,
    limit: int = _LIMIT,
) -> Answer | None:
    """One request to a module; None where nothing proper answers within ``timeout_s`` seconds."""
    try:
        return await request(
            socket, method, target, body=body, content_type=content_type, timeout_s=timeout_s, limit=limit
        )
    except (NotAModule, BadAnswer) as error:
        _logger.warning("%s: %s", socket, error)
    except OSError:
        pass  # TimeoutError is one, too
    return None


async def alive(socket: str, *, timeout_s: float) -> bool:
    """Whether the health path answers 200 in time."""
    answer = await ask(socket, "GET", "/", timeout_s=timeout_s, limit=_STATUS_LIMIT)
    return answer is not None and answer.status == _OK


async def ready(engine: ContainerEngine, instance: str, socket: str, manifest: Manifest, clock: Clock) -> ServerStatus:
    """Wait until a started instance is ready.

    Raises:
        NotReady: it ended, or was not ready in time; with the end of its log.
        OverLimit: the kernel ended it for its memory.
    """
    ends = clock.monotonic() + manifest.proof.ready_within_s
    looks, wrong = 0, ""
    while (left := ends - clock.monotonic()) > 0:
        try:
            if (said := await _status(socket, min(left, _ANSWERS_WITHIN_S))) is not None:
                return status(said, instance)
        except (NotAModule, BadAnswer) as error:
            wrong = f", {error}"  # for the reason, and not for the log, where it would stand at each look
        except OSError:
            pass  # not there yet; TimeoutError is one, too
        looks += 1
        if looks % 10 == 0 and (ended := await _ended(engine, instance)) is not None:
            raise ended
        await clock.sleep(_LOOK_S)
    if (ended := await _ended(engine, instance)) is not None:
        raise ended  # that it ended, and above all for its memory, says more than that it was not ready
    raise NotReady(
        f"not ready within {manifest.proof.ready_within_s:g} s{wrong}: {await _log(engine, instance)}",
        element=instance,
        remedy="raise proof.ready_within_s, or see its log",
    )


async def _status(socket: str, timeout_s: float) -> bytes | None:
    """What it says of itself once it is alive, both within ``timeout_s`` seconds; raises as ``request``."""
    async with asyncio.timeout(timeout_s):
        for target in ("/", "/edgefleet/status"):
            answer = await request(socket, "GET", target, timeout_s=timeout_s, limit=_STATUS_LIMIT)
            if answer.status != _OK:
                return None
    return answer.body


def status(body: bytes, instance: str) -> ServerStatus:
    """The status, each of whose words is known: it goes into reports, logs and terminals."""
    try:
        status = msgspec.json.decode(body, type=ServerStatus)
    except UNREADABLE as error:
        raise NotReady(
            f"its status cannot be read: {error}", element=instance, remedy="see the module's image"
        ) from error
    if not set((status.provider_in_use or "").split(", ")) <= KNOWN | {""}:
        raise NotReady(
            f"it names an unknown execution provider: {status.provider_in_use!r}",
            element=instance,
            remedy="see the module's image",
        )
    return status


async def _ended(engine: ContainerEngine, instance: str) -> Unproved | None:
    """Why an instance that is being started does not run any more; None while it does."""
    found = next((one for one in await engine.list() if one.instance == instance), None)
    if found is not None and found.state == "running":
        return None
    if found is not None and found.oom:
        return OverLimit("the kernel ended it for using more memory than its limit", element=instance)
    return NotReady(f"it ended while starting: {await _log(engine, instance)}", element=instance)


async def _log(engine: ContainerEngine, instance: str) -> str:
    return (await engine.logs(instance, tail_bytes=_LOG_TAIL)).strip() or "it wrote no log"


async def prove(
    engine: ContainerEngine,
    instance: str,
    socket: str,
    manifest: Manifest,
    samples: Samples | None,
    providers: tuple[str, ...],
    status: ServerStatus,
) -> Proved:
    """Right answers of an instance that is ready, and the manifest's limits: all of them, on this very device.

    ``status`` is what it said when it became ready. ``providers`` are the ones it was started with; the first must be
    the one in use. An entry script that uses no ONNX Runtime session reports none, and is not held to one.

    Raises:
        NotReady, WrongAnswer, OverLimit: as they say.
    """
    in_use = status.provider_in_use or ""
    if in_use and providers and in_use != providers[0]:
        raise OverLimit(
            f"{in_use} is in use instead of {providers[0]}",
            element="provider",
            remedy="check the driver, or order a CPU runtime",
        )
    latency = await _samples(socket, samples, manifest) if samples else 0.0
    limits = manifest.proof.limits
    if limits.latency_ms is not None and latency > limits.latency_ms:
        raise OverLimit(
            f"the samples' median took {latency:.1f} ms of {limits.latency_ms:g} allowed", element="latency"
        )
    if limits.memory_mb is not None:
        usage = await engine.usage(instance)
        if usage is not None and usage.memory_mb > limits.memory_mb:
            raise OverLimit(f"it uses {usage.memory_mb:.0f} MiB of {limits.memory_mb} allowed", element="memory")
    return Proved(in_use, latency)


async def _samples(socket: str, samples: Samples, manifest: Manifest) -> float:
    """Ask every sample; returns the median latency in milliseconds."""
    times = []
    for sample in samples.samples:
        began = time.perf_counter()
        answer = await ask(
            socket,
            sample.method,
            sample.path,
            body=sample.body,
            content_type=sample.content_type,
            timeout_s=manifest.proof.ready_within_s,
        )
        times.append((time.perf_counter() - began) * 1000)
        if answer is None:
            raise NotReady("it stopped answering at this sample", element=sample.name)
        # Off the loop: a large answer takes seconds to compare, and the other slots are looked after meanwhile.
        if wrong := await asyncio.to_thread(differences, sample, answer.status, answer.body):
            raise WrongAnswer(wrong[0], element="samples", remedy="the module is not what its publisher proved")
    return median(times)
