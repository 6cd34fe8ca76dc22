"""From what a host has and what a module can use to ONNX Runtime's execution providers, in order. Pure."""

from typing import Final

from modules.errors import Unfit
from modules.manifest import Runtime
from modules.needs import ON_CPU, HostFacts, offered

# Every execution provider of ONNX Runtime's releases: https://onnxruntime.ai/docs/execution-providers/
KNOWN: Final = frozenset(ON_CPU) | {
    "ACLExecutionProvider",
    "ArmNNExecutionProvider",
    "AzureExecutionProvider",
    "CANNExecutionProvider",
    "CUDAExecutionProvider",
    "CoreMLExecutionProvider",
    "DmlExecutionProvider",
    "JsExecutionProvider",
    "MIGraphXExecutionProvider",
    "NnapiExecutionProvider",
    "NvTensorRTRTXExecutionProvider",
    "QNNExecutionProvider",
    "RknpuExecutionProvider",
    "ROCMExecutionProvider",
    "SNPEExecutionProvider",
    "TensorrtExecutionProvider",
    "TvmExecutionProvider",
    "VSINPUExecutionProvider",
    "VitisAIExecutionProvider",
    "WebGpuExecutionProvider",
    "WebNNExecutionProvider",
}


def choose(facts: HostFacts, runtime: Runtime) -> tuple[str, ...]:
    """The runtime's providers that the host offers, in the publisher's order; the first must be the one in use.

    Raises:
        Unfit: it offers none.
    """
    here = offered(facts, runtime)
    chosen = tuple(provider for provider in runtime.providers if provider in here)
    if not chosen:
        raise Unfit(
            f"the host offers none of {', '.join(runtime.providers) or 'no providers'}",
            element="runtime.providers",
            remedy="add CPUExecutionProvider to the runtime, or another runtime to the module",
        )
    return chosen
