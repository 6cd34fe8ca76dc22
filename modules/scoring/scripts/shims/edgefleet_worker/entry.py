"""The user's ``init()`` and ``run()``: imported, checked, initialised, and called."""

import asyncio
import contextlib
import importlib.util
import inspect
import itertools
import os
import pathlib
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

from edgefleet_worker.advice import advice
from edgefleet_worker.request_log import configure
from edgefleet_worker.schema import Schema

HEADERS = "request_headers"
_SHOWN = 200
# An error's own text may be of any length: so much of it is for people, and so much of its traceback for the log.
_TOLD = 2000
_TRACED = 64 << 10
_OURS = str(pathlib.Path(__file__).parent)


class CannotServe(Exception):
    """The script cannot be served, with a message for its author."""


class Entry:
    """A script that has been imported and initialised.

    ``raw`` says whether ``run`` wants the whole request, ``wants_headers`` whether it wants them beside its data;
    ``parameters`` are those for the data, the first of them alone where there is no schema.
    """

    def __init__(self, path: str) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self.source = str(pathlib.Path(path).parent)
        folders = [os.environ.get("AML_APP_ROOT", self.source), self.source]
        guarded(lambda: configure(folders), "logging.json cannot be used", path)
        module = _import(path)
        self.run = _function(_driven(module), "run", path)
        where = _place(self.run, path)
        self.raw = bool(getattr(sys.modules.get("azureml.contrib.services.aml_request"), "asked", False))
        self.schema = _schema_of(self.run, where)
        if self.raw and self.schema:
            raise CannotServe(f"{where}: run() has both @rawhttp and @input_schema; keep one of them")
        self.parameters, self.wants_headers = _parameters(self.run, where)
        # Of Azure ML's parallel runs: a batch run gives it a list, a request of a client is a body as ever.
        self.mini_batch = self.parameters[0].name == "mini_batch" and "EDGEFLEET_MINI_BATCH" in os.environ
        if not self.schema:
            _check_alone(self.parameters, where)
        init = getattr(module, "init", None)
        if init is not None:
            try:
                guarded(lambda: self.finished(init()), "init() failed", path)
            except CannotServe:
                _show_models()
                raise

    def finished(self, result: Any) -> Any:
        """What a call gave; what an ``async def`` gave is awaited."""
        if not inspect.isawaitable(result):
            return result

        async def awaited() -> Any:
            return await result

        return self.loop.run_until_complete(awaited())

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """One for the life of the process: what ``init()`` opens on it, ``run()`` can use."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop


def guarded(call: Callable[[], Any], what: str, path: str) -> None:
    """Call the user's code; what it raises is printed and becomes one line with the file and line in their folder."""
    try:
        call()
    except BaseException as error:
        show(error)
        where = _blamed(traceback.extract_tb(error.__traceback__), path)
        if isinstance(error, SyntaxError):
            where = f"{error.filename or path}:{error.lineno}: " if error.lineno else f"{path}: "
        raise CannotServe(f"{where}{what}: {told(error)}") from error


def _show_models() -> None:
    """Print what is in the models' folder: often that is not what ``init()`` looked for."""
    folder = pathlib.Path(os.environ.get("AZUREML_MODEL_DIR", ""))
    if not folder.is_absolute() or not folder.is_dir():
        return
    print(f"{folder} holds:")  # noqa: T201 - for the log of the script
    for path in itertools.islice(sorted(folder.rglob("*")), _SHOWN):
        print(f"  {path.relative_to(folder)}")  # noqa: T201


def told(error: BaseException) -> str:
    """An error in one line, with what to write instead where that is known."""
    try:
        said = clipped(str(error), _TOLD)
        hint, said = advice(error, said), " ".join(said.split())
    except BaseException as other:  # noqa: BLE001 - the script's own class, whose methods may raise anything
        hint, said = "", f"it has no message, since its __str__ raised {type(other).__name__}"
    return f"{type(error).__name__}: {said}" + (f" ({hint})" if hint else "")


def show(error: BaseException) -> None:
    """Print an error with its traceback, as far as it lets itself be printed."""
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException as other:  # noqa: BLE001 - as above: of a SyntaxError even the line number may be anything
        text = f"{told(error)} (its traceback cannot be written: {type(other).__name__})"
    noted(clipped(text, _TRACED))


def noted(text: str) -> None:
    """Print for the log. Where the script has closed its own standard error nobody reads it, and nothing ends."""
    with contextlib.suppress(BaseException):
        print(text, file=sys.stderr)  # noqa: T201 - for the log of the script


def clipped(text: str, length: int) -> str:
    """The text, or its begin and its end."""
    if len(text) <= length:
        return text
    return f"{text[: length // 2]} [... {len(text) - length} characters ...] {text[-(length // 2) :]}"


def _blamed(frames: traceback.StackSummary, path: str) -> str:
    """The user's own line that led to an error; where there is none, the last that is not ours."""
    others = [one for one in frames if not one.filename.startswith((_OURS, "<frozen"))]
    folder = f"{pathlib.Path(path).parent}/"
    users = [one for one in others if one.filename.startswith(folder)]
    blamed = (users or others)[-1:]
    return f"{blamed[0].filename}:{blamed[0].lineno}: " if blamed else ""


def _import(path: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("entry_module", path)
    if spec is None or spec.loader is None or not pathlib.Path(path).is_file():
        raise CannotServe(f"{path}: there is no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules["entry_module"] = module
    loader = spec.loader
    guarded(lambda: loader.exec_module(module), "it cannot be imported", path)
    return module


def _driven(module: types.ModuleType) -> types.ModuleType:
    """The script behind one that Azure ML's tools generate, whose ``run()`` does nothing but call the other's."""
    driven = getattr(module, "driver_module", None)
    return driven if isinstance(driven, types.ModuleType) and hasattr(driven, "run") else module


def _function(module: types.ModuleType, name: str, path: str) -> Callable[..., Any]:
    function = getattr(module, name, None)
    if not callable(function):
        raise CannotServe(f"{path}: there is no function {name}(data)")
    return function  # type: ignore[no-any-return] # callable() leaves it Any


def _place(run: Callable[..., Any], path: str) -> str:
    """File and line of ``run``, for messages."""
    code = getattr(inspect.unwrap(run), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else path


def _schema_of(run: Callable[..., Any], where: str) -> Schema | None:
    """The schema that its decorators declare, if any."""
    try:
        return Schema.of(run)
    except Exception as error:
        raise CannotServe(f"{where}: the schema of run() cannot be read: {told(error)}") from error


def _parameters(run: Callable[..., Any], where: str) -> tuple[list[inspect.Parameter], bool]:
    """The parameters for the data, and whether there is one for the headers.

    Raises:
        CannotServe: there is none for the data, or one that can only be given by other means.
    """
    parameters = list(inspect.signature(run).parameters.values())
    data = [one for one in parameters if one.name != HEADERS]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if not data or any(one.kind not in named for one in data):
        raise CannotServe(
            f"{where}: run() must take one parameter for the data, not *args, **kwargs or positional-only ones"
        )
    return data, len(data) < len(parameters)


def _check_alone(data: list[inspect.Parameter], where: str) -> None:
    if any(one.default is inspect.Parameter.empty for one in data[1:]):
        raise CannotServe(
            f"{where}: run() must have defaults for the parameters after {data[0].name}, or an @input_schema for each"
        )
