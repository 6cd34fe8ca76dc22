"""bfloat16: the upper half of a float32, for which NumPy has no type.

Here it travels as float32, which holds each of its values exactly. It is rounded where it enters a graph or leaves as
bytes; ONNX Runtime takes and gives it in values of its own alone.
"""

import ctypes
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

NAME: Final = "bfloat16"
CARRIER: Final = "float32"
LARGEST: Final = 3.3895313892515355e38
WIDTH: Final = 2
# The number of the type in ONNX.
_ONNX: Final = 16
_QUIET: Final = np.uint16(0x40)


def carrier(dtype: str) -> str:
    """The type of the NumPy arrays that hold values of this element type."""
    return CARRIER if dtype == NAME else dtype


def narrowed(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16, of two equally near ones the even one; NaN stays NaN."""
    bits = np.asarray(values, np.float32, order="C").view(np.uint32)
    nearest = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), (bits >> 16).astype(np.uint16) | _QUIET, nearest)


def widened(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def run(session: Any, feeds: dict[str, Any], names: frozenset[str], options: Any, ort: Any) -> list[Any]:
    """Run an ONNX Runtime session, the inputs called ``names`` of which are bfloat16; ``ort`` is its package."""
    # ONNX Runtime looks into these arrays, and does not keep them.
    kept = {name: narrowed(value) for name, value in feeds.items() if name in names}
    given = {
        name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(kept[name], _ONNX)
        if name in kept
        else ort.OrtValue.ortvalue_from_numpy(np.asarray(value, order="C"))
        for name, value in feeds.items()
    }
    return [_array(one) for one in session.run_with_ort_values(None, given, options)]


def _array(value: Any) -> NDArray[Any]:
    if value.element_type() != _ONNX:
        array: NDArray[Any] = value.numpy()
        return array
    if value.device_name() != "cpu":
        # Its address is none of this process's memory.
        raise RuntimeError(f"a bfloat16 output stayed on the {value.device_name()}")
    content = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return widened(np.frombuffer(content, "<u2")).reshape(value.shape())
