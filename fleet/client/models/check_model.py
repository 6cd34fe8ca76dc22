"""Is this file an ONNX model that can travel: whole, valid, and with nothing outside its own folder?"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec

from modules.errors import Invalid

# The first bytes of files that people take for ONNX models.
_SIGNATURES: Final = (
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"PK\x03\x04", "a zip archive (PyTorch and Keras save such)"),
    (b"\x89HDF", "an HDF5 file (Keras saves such)"),
    (b"\x1f\x8b", "a gzip file"),
    (b"<", "a web page or XML"),
    (b"version https://git-lfs", "a Git LFS pointer; the model itself was not downloaded"),
)
# Every ModelProto that ONNX has written begins with its field 1, the IR version.
_IR_VERSION_TAG: Final = b"\x08"
_EXPORT: Final = "export it to ONNX, for instance with torch.onnx, tf2onnx or skl2onnx"
_WHOLE: Final = "copy or export it again; it is probably cut off"


class Input(msgspec.Struct, frozen=True):
    """One input of a graph: its NumPy type, and its shape with None where a size is free; no type: not a tensor."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class OnnxModel(msgspec.Struct, frozen=True):
    """A model that passed: the graph's file, the files of its external data beside or below it, and its inputs."""

    file: Path
    external: tuple[str, ...]
    inputs: tuple[Input, ...]


def check_onnx(file: Path) -> OnnxModel:
    """Accept an ONNX file.

    Raises:
        Invalid: not ONNX, cut off, refused by ONNX's own checker, or external data missing, short, or outside the
            folder of the model.
    """
    import onnx  # noqa: PLC0415  a third of a second, for registering alone

    model = _parse(file)
    external = tuple(sorted(set(_external(model, file))))
    try:
        onnx.checker.check_model(str(file))
    except (onnx.checker.ValidationError, ValueError) as error:
        raise Invalid(
            f"ONNX's checker refuses it: {str(error).strip().splitlines()[0]}", element=str(file), remedy=_EXPORT
        ) from error
    initial = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_input(value) for value in model.graph.input if value.name not in initial)
    return OnnxModel(file, external, inputs)


def _parse(file: Path) -> Any:
    import onnx  # noqa: PLC0415  as above
    from google.protobuf.message import (  # type: ignore[import-untyped]  # noqa: PLC0415  comes with onnx, no stubs
        DecodeError,
    )

    try:
        data = file.read_bytes()
    except OSError as error:
        raise Invalid(f"cannot be read: {error.strerror}", element=str(file)) from error
    if not data:
        raise Invalid("the file is empty", element=str(file), remedy=_WHOLE)
    for signature, what in _SIGNATURES:
        if data.startswith(signature):
            raise Invalid(f"this is no ONNX model, but {what}", element=str(file), remedy=_EXPORT)
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError) as error:
        if data.startswith(_IR_VERSION_TAG):
            raise Invalid("the ONNX file is truncated or damaged", element=str(file), remedy=_WHOLE) from error
        raise Invalid("this is no ONNX model", element=str(file), remedy=_EXPORT) from error
    if not model.ir_version or not model.HasField("graph"):
        what = "the ONNX file is truncated: it has no graph" if model.ir_version else "this is no ONNX model"
        raise Invalid(what, element=str(file), remedy=_WHOLE if model.ir_version else _EXPORT)
    return model


def _external(model: Any, file: Path) -> Iterator[str]:
    """The files that tensors are kept in, as paths below the model's folder, each checked."""
    folder = file.resolve().parent
    for tensor in _tensors(model):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if not entries:
            continue
        location = entries.get("location", "")
        where = f"{file}: tensor {tensor.name!r}"
        path = PurePosixPath(location.replace("\\", "/"))
        inside = folder / path
        if not location or path.is_absolute() or ".." in path.parts or not inside.resolve().is_relative_to(folder):
            raise Invalid(
                f"its data is outside the model's folder, at {location!r}",
                element=where,
                remedy="save the model with its external data beside it, for instance with onnx.save_model",
            )
        if not inside.is_file():
            raise Invalid(f"its data file {location!r} is missing", element=where, remedy=f"put it into {folder}")
        end = int(entries.get("offset") or 0) + int(entries.get("length") or 0)
        if inside.stat().st_size < end:
            raise Invalid(f"its data file {location!r} is shorter than {end} bytes", element=where, remedy=_WHOLE)
        yield str(path)


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor that may be kept outside the file."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)


def _graph_tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from _graph_tensors(graph)


def _input(value: Any) -> Input:
    import onnx  # noqa: PLC0415  as above

    if not value.type.HasField("tensor_type"):
        return Input(value.name, "", ())
    tensor = value.type.tensor_type
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
    dtype = {"FLOAT": "float32", "DOUBLE": "float64"}.get(kind, kind.lower())
    shape = tuple(one.dim_value if one.HasField("dim_value") else None for one in tensor.shape.dim)
    return Input(value.name, dtype, shape)
