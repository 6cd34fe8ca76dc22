"""``profile``: how quickly a slot's committed module answers its own samples on this device, now.

One sample at a time, and after each a pause as long as it took: what applications ask meanwhile goes on, and is part of
what is measured.
"""

import asyncio
import itertools
import time
from collections import Counter
from typing import Final

import msgspec

from agent.commands.answers import Saying
from agent.commands.parts import Parts, counted
from agent.health import ask
from modules.errors import EdgefleetError, Invalid
from modules.latencies import bin_of, percentile_ms
from modules.protocol.commands import Command

CONTENT: Final = "application/json"
SECONDS: Final = 10.0
_WITHIN_S: Final = 30.0
_LEAST_PAUSE_S: Final = 0.001
# An answer's status that is no error of the module's.
_ERROR: Final = 500


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The result: latencies in milliseconds (None: no answer came), memory in MiB (None: the engine does not say)."""

    module: str
    provider: str
    seconds: float
    requests: int
    errors: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    memory_mb: float | None


async def run(command: Command, parts: Parts, saying: Saying) -> str:
    """Asks for so many seconds.

    Raises:
        Invalid: nothing is committed in this slot, or its module has no samples.
        Untrusted: the module's manifest is not on disk as it was signed.
    """
    slot = parts.store.slot(str(command.slot))
    current = slot.current if slot else None
    if current is None:
        raise Invalid("nothing is committed in this slot", element=str(command.slot), remedy="name a slot that serves")
    manifest = parts.shelf.manifest(current.wanted.digest)
    samples = await asyncio.to_thread(parts.shelf.samples, current.wanted.digest, manifest)
    if samples is None or not samples.samples:
        raise Invalid("this module has no samples", element=current.wanted.module, remedy="register it with samples")
    seconds = command.arguments.get("seconds", SECONDS)
    began = parts.clock.monotonic()
    counts: Counter[int] = Counter()
    requests = errors = 0
    saying.began()
    for sample in itertools.cycle(samples.samples):
        if (passed := parts.clock.monotonic() - began) >= seconds:
            break
        saying.progress(passed / seconds, counted(requests, "request"))
        asked_at = time.perf_counter()
        answer = await ask(
            current.socket,
            sample.method,
            sample.path,
            body=sample.body,
            content_type=sample.content_type,
            timeout_s=_WITHIN_S,
        )
        took = time.perf_counter() - asked_at
        requests += 1
        if answer is None or answer.status >= _ERROR:
            errors += 1
            slot = parts.store.slot(str(command.slot))
            current = (slot.current if slot else None) or current  # it may have been started again
        else:
            counts[bin_of(took)] += 1
        await parts.clock.sleep(max(took, _LEAST_PAUSE_S))
    found = Profile(
        module=current.wanted.module,
        provider=current.provider,
        seconds=round(parts.clock.monotonic() - began, 1),
        requests=requests,
        errors=errors,
        p50_ms=percentile_ms(counts, 0.5),
        p95_ms=percentile_ms(counts, 0.95),
        p99_ms=percentile_ms(counts, 0.99),
        memory_mb=await _memory(parts, current.wanted.engine, current.instance),
    )
    saying.result(msgspec.json.encode(found), CONTENT)
    asked = f"{counted(requests, 'request')}, {counted(errors, 'error')}"
    return f"{asked}, p95 {found.p95_ms} ms on {current.provider or 'no known provider'}"


async def _memory(parts: Parts, engine: str, instance: str) -> float | None:
    try:
        usage = await parts.engines[engine].usage(instance)
    except (EdgefleetError, KeyError):
        return None
    return None if usage is None else round(usage.memory_mb, 1)
