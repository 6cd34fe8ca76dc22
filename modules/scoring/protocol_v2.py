"""The Open Inference Protocol, version 2, over HTTP: what is below ``/v2``."""

from typing import Any, Final

from modules import __version__
from modules.scoring.replies import RETRY, Handler, Reply, allow, document, message
from modules.scoring.runtime import Metadata, ModelRuntime, Request, Tensor

# ONNX element type -> the protocol's name.
_DATATYPES: Final = {"float16": "FP16", "float32": "FP32", "float64": "FP64", "bool": "BOOL", "string": "BYTES"} | {
    f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


class InferenceProtocol:
    """The routes, for one runtime."""

    def __init__(self, runtime: ModelRuntime, *, name: str, version: str) -> None:
        self._runtime = runtime
        self._name = name
        self._version = version

    def routes(self) -> dict[str, Handler]:
        model = f"/v2/models/{self._name}"
        found: dict[str, Handler] = {
            "/v2": lambda _: document(server_metadata()),
            "/v2/health/live": lambda _: document({"live": True}),
            "/v2/health/ready": self._ready,
        }
        for path in (model, f"{model}/versions/{self._version}"):
            found |= {path: self._model, f"{path}/ready": self._ready}
        return found

    def find(self, path: str) -> Handler | None:
        """The handler of a path that is not fixed."""
        del path
        return None

    def _ready(self, request: Request) -> Reply:
        allow(request.method, ("GET", "HEAD"))
        return document({"ready": self._runtime.ready}, 200 if self._runtime.ready else 503)

    def _model(self, request: Request) -> Reply:
        allow(request.method, ("GET", "HEAD"))
        if not self._runtime.ready:
            return message(503, "the module is not ready", RETRY)
        return document(model_metadata(self._runtime.metadata(), name=self._name, version=self._version))


def server_metadata() -> dict[str, Any]:
    return {"name": "edgefleet", "version": __version__, "extensions": []}


def model_metadata(metadata: Metadata, *, name: str, version: str) -> dict[str, Any]:
    """Inputs and outputs with -1 for free dimensions; none for an entry script, whose tensors nobody knows."""
    return {
        "name": name,
        "versions": [version],
        "platform": metadata.platform,
        "inputs": [_tensor(one) for one in metadata.inputs],
        "outputs": [_tensor(one) for one in metadata.outputs],
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else -1 for size in tensor.shape]
    return {"name": tensor.name, "datatype": _DATATYPES.get(tensor.dtype, tensor.dtype), "shape": shape}
