"""The Open Inference Protocol, version 2, over HTTP: what is below ``/v2``."""

from collections.abc import Awaitable
from functools import partial
from typing import Any, Final

import orjson

from modules import __version__
from modules.errors import EdgefleetError
from modules.scoring.graphs import output_look
from modules.scoring.graphs.shared_run import Values
from modules.scoring.http.replies import JSON, RETRY, Handler, Header, Reply, allow, document
from modules.scoring.models import Entry, Models, Tensors
from modules.scoring.runtime import BadInput, Buffer, Busy, Request, RunFailed, Tensor
from modules.scoring.v2 import v2_tensors
from modules.scoring.v2.v2_inputs import DATATYPES
from modules.scoring.v2.v2_tensors import HEADER_LENGTH, Asked

EXTENSIONS: Final = ("binary_tensor_data", "model_repository")
_MODELS: Final = "/v2/models/"
_REPOSITORY: Final = "/v2/repository/"
_GET: Final = ("GET", "HEAD")


class InferenceProtocol:
    """The routes, for every model of the module."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def routes(self) -> dict[str, Handler]:
        found: dict[str, Handler] = {
            "/v2": self._server,
            "/v2/health/live": self._live,
            "/v2/health/ready": self._all_ready,
            f"{_REPOSITORY}index": self._index,
        }
        for entry in self._models:
            base = f"{_MODELS}{entry.name}"
            for path in (base, f"{base}/versions/{entry.version}"):
                found[path] = partial(self._model, entry)
                found[f"{path}/ready"] = partial(self._ready, entry)
                found[f"{path}/infer"] = partial(self._infer, entry)
            found[f"{_REPOSITORY}models/{entry.name}/load"] = partial(self._load, entry)
            found[f"{_REPOSITORY}models/{entry.name}/unload"] = partial(self._unload, entry)
        return found

    def missing(self, path: str) -> Reply:
        """What is answered below ``/v2`` where nothing is."""
        return failure(404, f"there is nothing at {path}; models: {', '.join(one.name for one in self._models)}")

    def _server(self, request: Request) -> Reply:
        _allow(request, _GET)
        parameters = {entry.name: _providers(entry) for entry in self._models}
        return document(
            {"name": "edgefleet", "version": __version__, "extensions": EXTENSIONS, "parameters": parameters}
        )

    def _live(self, request: Request) -> Reply:
        _allow(request, _GET)
        return document({"live": True})

    def _all_ready(self, request: Request) -> Reply:
        _allow(request, _GET)
        ready = self._models.ready
        return document({"ready": ready}, 200 if ready else 503)

    def _ready(self, entry: Entry, request: Request) -> Reply:
        _allow(request, _GET)
        return document({"name": entry.name, "ready": entry.available}, 200 if entry.available else 503)

    def _model(self, entry: Entry, request: Request) -> Reply:
        _allow(request, _GET)
        if not entry.available:
            return failure(503, f"{entry.name}: the model is not ready", RETRY)
        return document(metadata_of(entry))

    def _infer(self, entry: Entry, request: Request) -> Reply | Awaitable[Reply]:
        _allow(request, ("POST",))
        try:
            runtime = self._models.use(entry)
            if isinstance(runtime, Awaitable):
                return self._once_loaded(entry, request, runtime)
            return self._run(entry, request, runtime)
        except EdgefleetError as error:
            return refusal(error)

    def _run(self, entry: Entry, request: Request, runtime: Tensors) -> Reply | Awaitable[Reply]:
        asked = v2_tensors.read(request.body, request.header(HEADER_LENGTH), runtime.outputs)
        outcome = runtime.infer(
            len(request.body), partial(v2_tensors.feeds, asked, runtime.inputs),
            output_look.seen(runtime.figures.answers, partial(_answer, entry, asked, runtime.outputs)),
        )  # fmt: skip
        return outcome if isinstance(outcome, Reply) else self._later(outcome)

    async def _once_loaded(self, entry: Entry, request: Request, loading: Awaitable[Tensors]) -> Reply:
        try:
            outcome = self._run(entry, request, await loading)
            return outcome if isinstance(outcome, Reply) else await outcome
        except EdgefleetError as error:
            return refusal(error)

    async def _later(self, outcome: Awaitable[Reply]) -> Reply:
        try:
            return await outcome
        except EdgefleetError as error:
            return refusal(error)

    def _index(self, request: Request) -> Reply:
        _allow(request, ("POST",))
        wanted = _only_ready(request.body)
        return document(index_of(self._models, ready=wanted))

    async def _load(self, entry: Entry, request: Request) -> Reply:
        _allow(request, ("POST",))
        try:
            await self._models.load(entry)
        except EdgefleetError as error:
            return refusal(error)
        return document({})

    async def _unload(self, entry: Entry, request: Request) -> Reply:
        _allow(request, ("POST",))
        try:
            await self._models.unload(entry)
        except EdgefleetError as error:
            return refusal(error)
        return document({})


def metadata_of(entry: Entry) -> dict[str, Any]:
    """Inputs and outputs with -1 for free dimensions; none for an entry script, whose tensors nobody knows."""
    metadata = entry.runtime.metadata()
    return {
        "name": entry.name,
        "versions": [entry.version],
        "platform": metadata.platform,
        "inputs": [_tensor(one) for one in metadata.inputs],
        "outputs": [_tensor(one) for one in metadata.outputs],
        "parameters": _providers(entry),
    }


def index_of(models: Models, *, ready: bool) -> list[dict[str, str]]:
    """Every model and its state; with ``ready`` those in memory alone."""
    return [
        {"name": one.name, "version": one.version, "state": one.state, "reason": one.reason}
        for one in models
        if one.ready or not ready
    ]


def failure(status: int, text: str, headers: tuple[Header, ...] = ()) -> Reply:
    """An error in the protocol's form."""
    return Reply(status, orjson.dumps({"error": text}), (*JSON, *headers), text=text)


def refusal(error: EdgefleetError) -> Reply:
    if isinstance(error, BadInput):
        return failure(400, str(error))
    if isinstance(error, Busy):
        return failure(429, str(error), RETRY)
    if isinstance(error, RunFailed):
        return failure(500, str(error))
    return failure(503, str(error), RETRY)


def _answer(entry: Entry, asked: Asked, outputs: tuple[Tensor, ...], values: Values, run_ms: float) -> Reply:
    header = ((b"x-ms-run-fn-exec-ms", b"%.3f" % run_ms),)
    return v2_tensors.answer(asked, outputs, values, model=entry.name, version=entry.version, headers=header)


def _only_ready(body: Buffer) -> bool:
    """Whether the index is asked for what is ready alone; an empty body asks for everything."""
    try:
        document = orjson.loads(body) if bytes(body).strip() else {}
    except orjson.JSONDecodeError as error:
        raise failure(400, f"the body is not valid JSON: {error}") from None
    wanted = document.get("ready", False) if isinstance(document, dict) else None
    if not isinstance(wanted, bool):
        raise failure(400, 'expected a JSON object, {"ready": true} or {"ready": false}, or no body')
    return wanted


def _providers(entry: Entry) -> dict[str, Any]:
    metadata = entry.runtime.metadata()
    return {
        "provider_in_use": metadata.provider_in_use,
        "provider_reason": metadata.provider_reason,
        "providers_requested": metadata.providers_requested,
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else -1 for size in tensor.shape] if tensor.ranked else [-1]
    return {"name": tensor.name, "datatype": DATATYPES.get(tensor.dtype, tensor.dtype), "shape": shape}


def _allow(request: Request, methods: tuple[str, ...]) -> None:
    if request.method == "OPTIONS":
        raise Reply(200, b"", ((b"allow", ", ".join((*methods, "OPTIONS")).encode()),))
    try:
        allow(request.method, methods)
    except Reply as refused:
        raise failure(405, f"{request.method} is not allowed here", refused.headers[1:]) from None
