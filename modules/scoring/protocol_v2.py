"""The documents of the Open Inference Protocol, version 2: what server and model say of themselves."""

from typing import Any, Final

from modules import __version__
from modules.scoring.runtime import Metadata, Tensor

# ONNX element type -> the protocol's name.
_DATATYPES: Final = {"float16": "FP16", "float32": "FP32", "float64": "FP64", "bool": "BOOL", "string": "BYTES"} | {
    f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


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
