"""The Open Inference Protocol, version 2, over gRPC: each call from its message to the answer's, with HTTP's rules.

Imported only where ``--grpc-port`` is given: it needs what the extra ``grpc`` brings.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it has no types of its own
from open_inference.grpc import protocol

from modules import __version__
from modules.scoring.graphs import output_look
from modules.scoring.graphs.shared_run import Values
from modules.scoring.http.replies import RETRY
from modules.scoring.models import Entry, Models
from modules.scoring.v2 import grpc_tensors
from modules.scoring.v2.grpc_repository import IndexRequest, IndexResponse, ModelRequest, ModelResponse
from modules.scoring.v2.protocol_v2 import failure, index_of, metadata_of

EXTENSIONS: Final = ("model_repository",)
Call = Callable[[bytes], Awaitable[bytes]]


class InferenceService:
    """The calls, for every model of the module. Each raises what its HTTP twin does: a ``Reply``, or our errors."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def calls(self) -> dict[str, Call]:
        return {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ServerMetadata": self._server,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model,
            "ModelInfer": self._infer,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }

    async def _live(self, _: bytes) -> bytes:
        return _bytes(protocol.ServerLiveResponse(live=True))

    async def _ready(self, _: bytes) -> bytes:
        return _bytes(protocol.ServerReadyResponse(ready=self._models.ready))

    async def _server(self, _: bytes) -> bytes:
        return _bytes(protocol.ServerMetadataResponse(name="edgefleet", version=__version__, extensions=EXTENSIONS))

    async def _model_ready(self, body: bytes) -> bytes:
        request = _read(protocol.ModelReadyRequest, body)
        entry = self._entry(request.name, request.version)
        return _bytes(protocol.ModelReadyResponse(ready=entry.available))

    async def _model(self, body: bytes) -> bytes:
        request = _read(protocol.ModelMetadataRequest, body)
        entry = self._entry(request.name, request.version)
        if not entry.available:
            raise failure(503, f"{entry.name}: the model is not ready", RETRY)
        found = metadata_of(entry)
        told = found.pop("parameters")
        properties = {name: value if isinstance(value, str) else ", ".join(value or ()) for name, value in told.items()}
        return _bytes(protocol.ModelMetadataResponse(**found, properties=properties))

    async def _infer(self, body: bytes) -> bytes:
        request = _read(protocol.ModelInferRequest, body)
        entry = self._entry(request.model_name, request.model_version)
        runtime = self._models.use(entry)
        if isinstance(runtime, Awaitable):
            runtime = await runtime
        outputs = runtime.outputs
        names = grpc_tensors.wanted(request, outputs)

        def answer(values: Values, _: float) -> bytes:
            return grpc_tensors.answer(request, names, outputs, values, version=entry.version)

        encode = output_look.seen(runtime.figures.answers, answer)
        outcome = runtime.infer(len(body), partial(grpc_tensors.feeds, request, runtime.inputs), encode)
        return outcome if isinstance(outcome, bytes) else await outcome

    async def _index(self, body: bytes) -> bytes:
        return _bytes(IndexResponse(models=index_of(self._models, ready=_read(IndexRequest, body).ready)))

    async def _load(self, body: bytes) -> bytes:
        await self._models.load(self._entry(_read(ModelRequest, body).model_name))
        return _bytes(ModelResponse())

    async def _unload(self, body: bytes) -> bytes:
        await self._models.unload(self._entry(_read(ModelRequest, body).model_name))
        return _bytes(ModelResponse())

    def _entry(self, name: str, version: str = "") -> Entry:
        entry = next((one for one in self._models if one.name == name), None)
        if entry is None:
            raise failure(404, f"there is no model {name!r}; models: {', '.join(one.name for one in self._models)}")
        if version not in {"", entry.version}:
            raise failure(404, f"{name} has no version {version!r}; versions: {entry.version}")
        return entry


def _read(kind: Any, body: bytes) -> Any:
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise failure(400, f"the body is not a valid {kind.DESCRIPTOR.name}: {error}") from error


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString())
