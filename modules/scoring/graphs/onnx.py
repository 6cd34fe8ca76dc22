"""A graph served without code: the runtime behind a module whose manifest says ``kind: onnx``."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import onnxruntime

from modules.errors import NotReady
from modules.manifest import ImageInput
from modules.scoring.graphs import bodies, graph_file, image_input, inputs, output_look
from modules.scoring.graphs.batch_axis import why_alone
from modules.scoring.graphs.batching import choose
from modules.scoring.graphs.lanes import INLINE_S, Lanes
from modules.scoring.graphs.over_rows import over_rows
from modules.scoring.graphs.session import CPU, Session
from modules.scoring.graphs.shared_run import Feeds, Values
from modules.scoring.graphs.warm_up import WarmUp, longer_than, warm_up
from modules.scoring.metrics import Figures
from modules.scoring.runtime import Answer, Metadata, ProviderChoice, Request, Tensor

log = logging.getLogger(__name__)

# Operators whose time depends on values that a caller sends: never on the event loop.
UNBOUNDED: Final = frozenset({"If", "Loop", "Scan", "SequenceMap"})
T = TypeVar("T")


class OnnxRuntime:
    """One graph: its session, what it takes and gives, and the lanes in which requests reach it."""

    def __init__(
        self,
        file: Path,
        *,
        providers: tuple[ProviderChoice, ...],
        threads: int,
        timeout_ms: float,
        queue: int,
        image: ImageInput | None = None,
        batching: bool = True,
    ) -> None:
        self._file = file
        self._providers = providers
        self._threads = threads
        self._session: Session | None = None
        self._timeout = timeout_ms / 1000
        self._queue = queue
        self._image = image
        self._batching = batching
        self._lanes: Lanes | None = None
        self._tuning: asyncio.Task[None] | None = None
        self._example: WarmUp | None = None
        self.inputs: tuple[Tensor, ...] = ()
        self.outputs: tuple[Tensor, ...] = ()
        self.figures = Figures()

    @property
    def ready(self) -> bool:
        return self._session is not None

    async def load(self) -> None:
        session = Session(self._file, providers=self._providers, threads=self._threads, timeout_s=self._timeout)
        lanes = Lanes(session, threads=self._threads, timeout_s=self._timeout, queue=self._queue, figures=self.figures)
        self._lanes = lanes
        await lanes.in_thread(session.load)
        self.inputs, self.outputs = session.inputs, session.outputs
        if self._image is not None:
            image_input.check(self._image, self.inputs)
        self._example = await lanes.in_thread(lambda: warm_up(session, self._file.name))
        operators = await lanes.in_thread(lambda: graph_file.operators(self._file))
        quick = self._example is not None and self._example.seconds < INLINE_S and session.provider == CPU
        if quick and operators and not operators & UNBOUNDED:
            lanes.run_inline()
        self._session = session
        if lanes.inline:
            lanes.run_alone("a run is so quick that sharing it would not pay")
        elif not self._batching:
            lanes.run_alone("its setting batching is off")
        elif reason := why_alone(self.inputs, self.outputs, operators):
            lanes.run_alone(reason)
        elif operator := await lanes.in_thread(lambda: over_rows(self._file)):
            lanes.run_alone(f"its operator {operator} looks at all rows at once")
        elif self._example is None:
            lanes.run_alone("no example could be made to try it with")
        else:
            self._tuning = asyncio.create_task(self._tune(session, lanes, self._example), name="measure batches")
            return
        log.info("each request has a run of its own: %s", lanes.why_alone)

    def score(self, request: Request) -> Answer | Awaitable[Answer]:
        decode, encode = bodies.codec(request, self.inputs, self.outputs, self._image)
        return self.infer(len(request.body), decode, output_look.seen(self.figures.answers, encode))

    def infer(self, size: int, decode: Callable[[], Feeds], encode: Callable[[Values, float], T]) -> T | Awaitable[T]:
        """Run what ``decode`` gives, and return what ``encode`` makes of the outputs and the milliseconds they took.

        Raises:
            NotReady: the graph is not loaded.
            Busy: too many requests wait.
            BadInput: the arrays are not what the graph takes.
            RunFailed: it failed, or took too long.
        """
        if self._session is None or self._lanes is None:
            raise NotReady("the graph is not loaded yet", element=self._file.name)
        answer: T | Awaitable[T] = self._lanes.submit(size, decode, encode)
        return answer

    def metadata(self) -> Metadata:
        in_use = self._session.provider if self._session else None
        return Metadata(
            kind="onnx",
            platform="onnxruntime_onnx",
            inputs=self.inputs,
            outputs=self.outputs,
            providers_requested=tuple(name for name, _ in self._providers),
            provider_in_use=in_use,
            provider_reason="" if in_use else "the graph is not loaded yet",
            onnxruntime=onnxruntime.__version__,
            batch_size=self._lanes.batches.size if self._lanes else 1,
            batch_reason=self._lanes.why_alone if self._lanes else "",
        )

    def example(self) -> dict[str, Any] | None:
        feeds = None if self._example is None else inputs.example(self.inputs, self._example.size)
        return feeds and {name: inputs.plain(value) for name, value in feeds.items()}

    async def close(self) -> None:
        self._session = None
        if self._tuning is not None:
            self._tuning.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._tuning
        if self._lanes is not None:
            await self._lanes.close()

    async def _tune(self, session: Session, lanes: Lanes, example: WarmUp) -> None:
        """After readiness, so that nobody waits for it."""
        feeds = inputs.example(self.inputs, example.size)
        if feeds is None:
            return
        options = session.options()

        def run(arrays: Feeds) -> Values:
            return session.run(arrays, options)

        others = [one for size in longer_than(example.size) if (one := inputs.example(self.inputs, size))]
        batches = await lanes.in_thread(lambda: choose(run, feeds, example.seconds, time.perf_counter, others))
        if batches.size > 1:
            lanes.run_batches(batches)
        else:
            lanes.run_alone("a trial gave other answers in shared runs, or took as long")
        log.info(
            "a run takes %.2f ms; %s", example.seconds * 1000,
            lanes.why_alone or f"up to {batches.size} requests share one",
        )  # fmt: skip
