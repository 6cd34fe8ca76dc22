"""One ONNX Runtime session: what it takes to make it, run it, stop it, and say in one line why it would not."""

import logging
import re
from pathlib import Path
from typing import Any, Final

import onnxruntime

from modules.errors import BadSettings, EdgefleetError, Invalid, Unfit
from modules.scoring.graphs import bfloat16, graph_file, inputs, locales, tensors
from modules.scoring.graphs.shared_run import Feeds, Values
from modules.scoring.runtime import BadInput, Dimension, ProviderChoice, RunEnded, RunFailed, Tensor

log = logging.getLogger(__name__)

CPU: Final = "CPUExecutionProvider"
_FATAL_ONLY: Final = 4
# What the values of ONNX Runtime's own, in which bfloat16 goes in and out, can be beside it.
_BESIDE_NARROW: Final = frozenset(tensors.DTYPES.values()) - {"string"}
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
    ("construct locale", "it needs a locale that is not installed", "add the locale to the image"),
    ("IR version", "its IR version is too new for this onnxruntime", "export for an older one, or use a newer image"),
    ("", "onnxruntime cannot load the graph", "check it with onnx.checker and onnxruntime before registering"),
)  # fmt: skip


class Session:
    """A graph in memory; ``provider`` is the one in use, None before :meth:`load`."""

    def __init__(self, file: Path, *, providers: tuple[ProviderChoice, ...], threads: int, timeout_s: float) -> None:
        self._file = file
        self._providers = providers
        self._threads = threads
        self._timeout = timeout_s
        self._session: Any = None
        self._narrow: frozenset[str] | None = None
        self.inputs: tuple[Tensor, ...] = ()
        self.outputs: tuple[Tensor, ...] = ()
        self.provider: str | None = None

    def load(self) -> None:
        """Read the graph; takes as long as it takes, without the GIL.

        Raises:
            Invalid: it is no graph that this onnxruntime can run.
            BadSettings, Unfit: about the providers.
        """
        graph_file.check(self._file)
        usable = self._usable_providers()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Threads that spin between two operators take the core that decodes the next request.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Its own print of an error would stand beside the one line that we raise.
        options.log_severity_level = _FATAL_ONLY
        try:
            session = self._opened(options, usable)
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
        unranked = graph_file.unranked(self._file)
        self.inputs = tuple(_tensor(one, self._file, unranked) for one in session.get_inputs())
        self.outputs = tuple(_output(one, unranked) for one in session.get_outputs())
        kinds = {one.dtype for one in (*self.inputs, *self.outputs)}
        if bfloat16.NAME in kinds:
            if not kinds <= _BESIDE_NARROW:
                raise Invalid(
                    f"it has bfloat16 beside {', '.join(sorted(kinds - _BESIDE_NARROW))}", element=str(self._file),
                    remedy="cast its inputs and outputs to float32, or serve it with an entry script",
                )  # fmt: skip
            self._narrow = frozenset(one.name for one in self.inputs if one.dtype == bfloat16.NAME)
        self._session, self.provider = session, in_use

    def options(self, *, trim: bool = False) -> Any:
        """What one run can be stopped by; with ``trim`` memory that it leaves unused is given back after it."""
        options = onnxruntime.RunOptions()
        if trim and self.provider == CPU:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        options.log_severity_level = _FATAL_ONLY
        return options

    def stop(self, options: Any) -> None:
        options.terminate = True

    def run(self, feeds: Feeds, options: Any) -> Values:
        """The outputs in the graph's order.

        Raises:
            BadInput: shapes that do not go together.
            RunFailed: it failed, or was stopped.
        """
        try:
            if self._narrow is not None:
                return bfloat16.run(self._session, feeds, self._narrow, options, onnxruntime)
            values: Values = self._session.run(None, feeds, options)
        except Exception as error:
            raise self._run_error(error, feeds, options) from error
        return values

    def _opened(self, options: Any, usable: list[ProviderChoice]) -> Any:
        try:
            return onnxruntime.InferenceSession(str(self._file), options, providers=usable)
        except Exception as error:
            if not locales.lacking(str(error)):
                raise
        log.info("%s stands in for %s, which the graph asks for and is not installed", "C.UTF-8", locales.WANTED)
        with locales.standing_in():
            return onnxruntime.InferenceSession(str(self._file), options, providers=usable)

    def _usable_providers(self) -> list[ProviderChoice]:
        """The requested providers that this onnxruntime was built with, in order.

        Raises:
            BadSettings: a name that no onnxruntime has.
            Unfit: none of them is here; the CPU stands in only if it was asked for.
        """
        known, here = onnxruntime.get_all_providers(), onnxruntime.get_available_providers()
        for name, _ in self._providers:
            if name not in {*known, *here}:
                raise BadSettings(f"{name} is not an execution provider", element="EDGEFLEET_PROVIDERS")
            if name not in here:
                log.warning("%s is not in this onnxruntime build", name)
        usable = [choice for choice in self._providers if choice[0] in here]
        if not usable:
            raise Unfit(
                f"this onnxruntime has only {', '.join(here)}", element=", ".join(name for name, _ in self._providers),
                remedy="use an image built for the accelerator, or allow CPUExecutionProvider",
            )  # fmt: skip
        return usable

    def _run_error(self, error: Exception, feeds: Feeds, options: Any) -> EdgefleetError:
        if options.terminate:
            return RunEnded(
                f"stopped after {self._timeout:g} s", element="score_timeout_ms", remedy="send less, or allow more time"
            )
        reason = _first_line(str(error))
        if type(error).__name__ == "InvalidArgument":
            return BadInput(reason, element="body")
        free = [one for one in self.inputs if one.shape and not isinstance(one.shape[0], int)]
        lengths = {one.name: len(feeds[one.name]) for one in free}
        if len({one.shape[0] for one in free}) == 1 and len(set(lengths.values())) > 1:
            # Free first dimensions without a name need not be the same; where a run fails, that they differ is why.
            found = ", ".join(f"{name} {length}" for name, length in lengths.items())
            return BadInput(f"expected inputs of the same length, got {found}: {reason}", element="body")
        return RunFailed(reason, element=self._file.name)


def _tensor(given: Any, file: Path, unranked: frozenset[str]) -> Tensor:
    """An input as ours.

    Raises:
        Invalid: a type that requests cannot carry.
    """
    if given.type not in tensors.DTYPES and not inputs.taken(given.type):
        raise Invalid(
            f"its input {given.name} is a {given.type}, which cannot be sent as JSON", element=str(file),
            remedy="give the graph tensors, sequences of tensors or maps to floats, or serve it with an entry script",
        )  # fmt: skip
    return _output(given, unranked)


def _output(given: Any, unranked: frozenset[str]) -> Tensor:
    """An output as ours; the sequences and maps of classifiers keep the name that onnxruntime gives their type.

    What is ``unranked`` in the file may have a shape here that onnxruntime has inferred.
    """
    shape = _shape(given)
    return Tensor(
        given.name, tensors.DTYPES.get(given.type, given.type), shape, bool(shape) or given.name not in unranked
    )


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
