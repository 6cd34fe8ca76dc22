"""How much processor and memory a module needs: measured in its own container, under one limit after another."""

import http.client
import math
import socket
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from fleet.client.local.scorers import ContainerScorer, container_scorer
from fleet.client.models.sample_requests import Request
from fleet.client.screen import Step
from modules.cores import granted
from modules.errors import EdgefleetError, Invalid, NotReady, Unproved
from modules.manifest import Image

CORES: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
MEMORY_GB: Final = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
# What is left above the most that was ever seen, and how much slower than the best is still as good.
HEADROOM: Final = 1.25
AS_GOOD: Final = 1.25
CONNECTIONS: Final = 4
_WARM_UP: Final = 3
_TIMEOUT_S: Final = 120.0
_SUCCESS: Final = range(200, 300)
_MB_PER_GB: Final = 1024
_PERCENT: Final = 0.95


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement; latencies in milliseconds of one request at a time, rate with several; ``problem`` is why not.

    The mean counts: a container that is out of its share answers nothing for a while, which no median shows.

    ``memory_mb`` is the limit, ``peak_mb`` what was in use at most.
    """

    cpu: float
    memory_mb: int | None = None
    mean_ms: float | None = None
    p95_ms: float | None = None
    per_second: float | None = None
    peak_mb: float | None = None
    problem: str = ""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What is recommended, in cores and gigabytes, and the measurements that say so."""

    cpu: float
    memory_gb: float = msgspec.field(name="memoryInGB")
    runs: tuple[Run, ...]


Measure = Callable[[float, int | None], Run]


def profile_module(
    folder: Path,
    image: Image,
    blobs: Path,
    requests: Sequence[Request],
    *,
    seconds: float = 2.0,
    latency_ms: float | None = None,
    cores: Sequence[float] = (),
    step: Step,
    told: Callable[[Run], None] = lambda _: None,
) -> Profile:
    """Measure a packed module in its image; ``told`` hears of each measurement as it is made.

    Raises:
        NotReady: it starts under no limit.
        Unproved: it refuses the requests, or is too slow for ``latency_ms`` with all cores.
        NoEngine: no Docker answers.
    """

    def measure(cpu: float, memory_mb: int | None) -> Run:
        what = f"{cpu:g} cores, {f'{memory_mb} MiB' if memory_mb else 'no limit of memory'}"
        step(f"measuring with {what}", 0, 0)
        with container_scorer(folder, image, blobs, memory_mb=memory_mb, cpus=cpu, step=step) as scorer:
            try:
                run = _measured(scorer, requests, seconds, cpu, memory_mb)
            except OSError:
                # The kernel ends a container an instant after it took too much.
                if not (memory_mb and scorer.ran_out_of_memory()):
                    raise
                run = Run(cpu=cpu, memory_mb=memory_mb, problem="out of memory")
        told(run)
        return run

    return recommend(measure, candidates(cores), latency_ms=latency_ms)


def candidates(wanted: Sequence[float] = ()) -> tuple[float, ...]:
    """Numbers of cores to try, the most first; none beyond what this machine grants.

    Raises:
        Invalid: more is wanted than there is.
    """
    here = granted()
    if too_many := [one for one in wanted if not 0 < one <= here]:
        raise Invalid(f"{too_many[0]:g} cores are not here", element="--cores", remedy=f"at most {here:g}")
    return tuple(sorted(set(wanted) or {one for one in CORES if one <= here} or {here}, reverse=True))


def recommend(measure: Measure, cores: Sequence[float], *, latency_ms: float | None = None) -> Profile:
    """The fewest cores that are as good as the most, and the least memory in which the module still works.

    With ``latency_ms`` as good means that 95 of 100 requests are answered within it.

    Raises:
        NotReady, Unproved: as :func:`profile_module`.
    """
    runs = [measure(cpu, None) for cpu in cores]
    best = runs[0]
    if best.mean_ms is None or best.p95_ms is None:
        raise NotReady(best.problem, element=f"{best.cpu:g} cores")
    if latency_ms is not None and best.p95_ms > latency_ms:
        raise Unproved(
            f"95 of 100 requests take up to {best.p95_ms:.1f} ms with {best.cpu:g} cores, more than {latency_ms:g}",
            element="--latency-ms",
            remedy="allow more time, use a smaller model, or measure on a faster machine",
        )
    good = [run for run in runs if _as_good(run, best, latency_ms)]
    chosen = min(good, key=lambda run: run.cpu)
    peak = max(run.peak_mb or 0.0 for run in runs)
    for memory_gb in [one for one in MEMORY_GB if one * _MB_PER_GB >= peak * HEADROOM]:
        # What the kernel counted without a limit has caches in it, so only a trial says whether a limit is enough.
        run = _tried(measure, chosen.cpu, math.ceil(memory_gb * _MB_PER_GB))
        runs.append(run)
        if not run.problem:
            return Profile(cpu=chosen.cpu, memory_gb=memory_gb, runs=tuple(runs))
    raise Unproved(f"it needs more than {MEMORY_GB[-1]:g} GB", element="memory", remedy="use a smaller model")


def _tried(measure: Measure, cpu: float, memory_mb: int) -> Run:
    try:
        return measure(cpu, memory_mb)
    except NotReady as error:
        return Run(cpu=cpu, memory_mb=memory_mb, problem=error.message.splitlines()[0])


def _as_good(run: Run, best: Run, latency_ms: float | None) -> bool:
    if run.mean_ms is None or run.p95_ms is None or best.mean_ms is None:
        return False
    return run.p95_ms <= latency_ms if latency_ms is not None else run.mean_ms <= best.mean_ms * AS_GOOD


def _measured(
    scorer: ContainerScorer, requests: Sequence[Request], seconds: float, cpu: float, memory_mb: int | None
) -> Run:
    for _ in range(_WARM_UP):
        _ask_all(scorer.path, requests, until=0.0)
    alone = _ask_all(scorer.path, requests, until=time.monotonic() + seconds)
    peak = scorer.memory_peak()
    together: list[list[float]] = []
    failures: list[Exception] = []
    begin = time.monotonic()

    def ask() -> None:
        try:
            together.append(_ask_all(scorer.path, requests, until=begin + seconds))
        except (OSError, EdgefleetError) as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    elapsed = time.monotonic() - begin
    return Run(
        cpu=cpu, memory_mb=memory_mb, mean_ms=statistics.fmean(alone), p95_ms=_percentile(alone),
        per_second=sum(map(len, together)) / elapsed, peak_mb=max(peak, scorer.memory_peak()) / 2**20,
    )  # fmt: skip


def _percentile(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * _PERCENT))]


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket, without a client library's own share of the time."""

    def __init__(self, path: Path) -> None:
        super().__init__("scoring", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(str(self._path))


def _ask_all(path: Path, requests: Sequence[Request], *, until: float) -> list[float]:
    """Ask one request after another until then, each at least once; milliseconds each took.

    Raises:
        Unproved: one was refused.
        OSError: there was no answer.
    """
    took: list[float] = []
    connection = _Connection(path)
    try:
        while not took or time.monotonic() < until:
            for request in requests:
                begin = time.perf_counter()
                try:
                    connection.request(
                        request.method, request.path, request.body, {"Content-Type": request.content_type}
                    )
                    answer = connection.getresponse()
                    body = answer.read()
                except http.client.HTTPException as error:
                    raise ConnectionError(f"no answer: {type(error).__name__}") from error
                took.append((time.perf_counter() - begin) * 1000)
                if answer.status not in _SUCCESS:
                    raise Unproved(
                        f"the model answers {answer.status}: {body[:400]!r}",
                        element=f"sample {request.name}",
                        remedy="give requests that the model takes: --input FILE.json",
                    )
    finally:
        connection.close()
    return took
