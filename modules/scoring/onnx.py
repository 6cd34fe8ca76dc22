"""A graph served without code: the runtime behind a module whose manifest says ``kind: onnx``."""

import asyncio
import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import onnxruntime

from modules.errors import BadSettings, EdgefleetError, Invalid, NotReady, Unfit
from modules.scoring import graph_file, tensors
from modules.scoring.runtime import Answer, BadInput, Dimension, Metadata, ProviderChoice, Request, RunFailed, Tensor

log = logging.getLogger(__name__)

CPU: Final = "CPUExecutionProvider"
_FATAL_ONLY: Final = 4
# Sizes tried for free dimensions after the first, until the graph runs: lengths, then image sides.
_EXAMPLE_SIZES: Final = (1, 2, 8, 32, 128, 224, 256, 512)

_NO_OPERATOR: Final = "it uses an operator that this onnxruntime does not have"
# What onnxruntime says when a graph cannot be loaded -> what is wrong, and what to do. The first that matches counts.
_LOAD_ERRORS: Final = (
    ("External data path does not exist", "a file of its external data is missing", "add the file to the module"),
    ("External data path", "its external data lies outside its folder", "keep it beside the graph, without links"),
    ("External initializer", "a file of its external data is truncated", "copy or export the file again"),
    ("not a registered function/op", _NO_OPERATOR, "export without custom operators"),
    ("No Op registered", _NO_OPERATOR, "export it for an older opset"),
    ("not a registered domain", "its custom operator domain is not available", "export without custom operators"),
    ("under development", "its opset is too new for this onnxruntime", "export for an older one, or use a newer image"),
    ("IR version", "its IR version is too new for this onnxruntime", "export for an older one, or use a newer image"),
    ("", "onnxruntime cannot load the graph", "check it with onnx.checker and onnxruntime before registering"),
)  # fmt: skip


class OnnxRuntime:
    """One session, called from a pool of threads so that health is answered during a run.

    Loading and running release the GIL; parsing and writing JSON happen in the pool as well, beside the event loop.
    """

    def __init__(self, file: Path, *, providers: tuple[ProviderChoice, ...], threads: int, timeout_ms: float) -> None:
        self._file = file
        self._providers = providers
        self._threads = threads
        self._timeout = timeout_ms / 1000
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="score")
        self._session: onnxruntime.InferenceSession | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._outputs: tuple[Tensor, ...] = ()
        self._example_size: int | None = None

    @property
    def ready(self) -> bool:
        return self._session is not None

    async def load(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._pool, self._load)

    async def score(self, request: Request) -> Answer:
        if self._session is None:
            raise NotReady("the graph is not loaded yet", element=self._file.name)
        loop = asyncio.get_running_loop()
        options = onnxruntime.RunOptions()
        timer = loop.call_later(self._timeout, setattr, options, "terminate", True)  # noqa: FBT003 - setattr's argument
        try:
            return await loop.run_in_executor(self._pool, self._run, self._session, request.body, options)
        finally:
            timer.cancel()

    def metadata(self) -> Metadata:
        in_use = self._session.get_providers()[0] if self._session else None
        return Metadata(
            kind="onnx",
            platform="onnxruntime_onnx",
            inputs=self._inputs,
            outputs=self._outputs,
            providers_requested=tuple(name for name, _ in self._providers),
            provider_in_use=in_use,
            provider_reason="" if in_use else "the graph is not loaded yet",
            onnxruntime=onnxruntime.__version__,
        )

    def example(self) -> dict[str, Any] | None:
        feeds = None if self._example_size is None else tensors.example(self._inputs, self._example_size)
        return feeds and {name: value.tolist() for name, value in feeds.items()}

    async def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _load(self) -> None:
        graph_file.check(self._file)
        usable = self._usable_providers()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Its own print of an error would stand beside the one line that we raise.
        options.log_severity_level = _FATAL_ONLY
        try:
            session = onnxruntime.InferenceSession(str(self._file), options, providers=usable)
        except Exception as error:
            raise _load_error(self._file, str(error)) from error
        in_use = session.get_providers()[0]
        if in_use not in {name for name, _ in usable}:
            raise Unfit(
                f"onnxruntime fell back to {in_use}", element=", ".join(name for name, _ in usable),
                remedy=f"check the device's driver, or allow {in_use}",
            )  # fmt: skip
        if in_use != self._providers[0][0]:
            log.warning("%s was asked for first, but %s is in use", self._providers[0][0], in_use)
        self._inputs = tuple(_tensor(one, self._file) for one in session.get_inputs())
        self._outputs = tuple(_output(one) for one in session.get_outputs())
        self._example_size = self._warm_up(session)
        self._session = session

    def _usable_providers(self) -> list[ProviderChoice]:
        """The requested providers that this onnxruntime was built with, in order.

        Raises:
            BadSettings: a name that no onnxruntime has.
            Unfit: none of them is here; the CPU stands in only if it was asked for.
        """
        known, here = onnxruntime.get_all_providers(), onnxruntime.get_available_providers()
        for name, _ in self._providers:
            if name not in {*known, *here}:
                raise BadSettings(f"{name} is no execution provider", element="EDGEFLEET_PROVIDERS")
            if name not in here:
                log.warning("%s is not in this onnxruntime build", name)
        usable = [choice for choice in self._providers if choice[0] in here]
        if not usable:
            raise Unfit(
                f"this onnxruntime has only {', '.join(here)}", element=", ".join(name for name, _ in self._providers),
                remedy="use an image built for the accelerator, or allow CPUExecutionProvider",
            )  # fmt: skip
        return usable

    def _warm_up(self, session: onnxruntime.InferenceSession) -> int | None:
        """Run zeros through the graph: allocates, compiles, and finds a size of its free dimensions that works."""
        quiet = onnxruntime.RunOptions()
        quiet.log_severity_level = _FATAL_ONLY
        for size in _EXAMPLE_SIZES:
            feeds = tensors.example(self._inputs, size)
            if feeds is None:
                break
            try:
                session.run(None, feeds, quiet)
            except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no common class of their own
                log.debug("zeros with free dimensions of %d do not run: %s", size, error)
                continue
            return size
        log.warning("no example could be made for %s: its first request will be its warm-up", self._file.name)
        return None

    def _run(
        self, session: onnxruntime.InferenceSession, body: bytes | bytearray, options: onnxruntime.RunOptions
    ) -> Answer:
        feeds = tensors.decode(body, self._inputs)
        options.log_severity_level = _FATAL_ONLY
        started = time.perf_counter()
        try:
            values = session.run(None, feeds, options)
        except Exception as error:
            raise self._run_error(error, options) from error
        run_ms = (time.perf_counter() - started) * 1000
        return Answer(body=tensors.encode([one.name for one in self._outputs], values), run_ms=run_ms)

    def _run_error(self, error: Exception, options: onnxruntime.RunOptions) -> EdgefleetError:
        if options.terminate:
            return RunFailed(
                f"stopped after {self._timeout:g} s", element="score_timeout_ms", remedy="send less, or allow more time"
            )
        reason = _first_line(str(error))
        if type(error).__name__ == "InvalidArgument":
            return BadInput(reason, element="body")
        return RunFailed(reason, element=self._file.name)


def _tensor(given: Any, file: Path) -> Tensor:
    """An input as ours.

    Raises:
        Invalid: a type that JSON requests cannot carry.
    """
    if given.type not in tensors.DTYPES:
        raise Invalid(
            f"its input {given.name} is a {given.type}, which cannot be sent as JSON", element=str(file),
            remedy="give the graph tensor inputs, or serve it with an entry script",
        )  # fmt: skip
    return Tensor(given.name, tensors.DTYPES[given.type], _shape(given))


def _output(given: Any) -> Tensor:
    """An output as ours; the sequences and maps of classifiers keep the name that onnxruntime gives their type."""
    return Tensor(given.name, tensors.DTYPES.get(given.type, given.type), _shape(given))


def _shape(given: Any) -> tuple[Dimension, ...]:
    return tuple(size if not isinstance(size, int) or size >= 0 else None for size in given.shape or ())


def _load_error(file: Path, said: str) -> Invalid:
    what, remedy = next((what, remedy) for sign, what, remedy in _LOAD_ERRORS if sign in said)
    return Invalid(f"{what}: {_first_line(said)}", element=str(file), remedy=remedy)


def _first_line(text: str) -> str:
    """The message of onnxruntime on one line, without its prefixes and the place in its sources."""
    text = " ".join(text.rpartition(" : ")[2].split()).rpartition("failed:")[2]
    text = re.sub(r"^\S*/onnxruntime_src/.*\) (?=[A-Z])", "", text)
    return re.sub(r"\w+\.(cc|h):\d+ \w+ ", "", text)[:300].rstrip(".")
