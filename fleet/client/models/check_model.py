"""Is this file an ONNX model that can travel: whole, and with nothing outside its own folder?

Whether it runs is for the scoring server to say, which every model is tried in: it serves graphs that ONNX's own
checker refuses. The checker is asked only where the server fails, for it often says more clearly why.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec

from fleet.client.models.links import followed
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
_SHOWN: Final = 200
_IR_VERSION_TAG: Final = b"\x08"
# ONNX Runtime's own format says so in its fifth to eighth byte.
_ORT_FORMAT: Final = b"ORTM"
EXPORT: Final = "export it to ONNX, for instance with torch.onnx, tf2onnx or skl2onnx"
_BYTES: Final = re.compile(r"[0-9]{1,18}", re.ASCII).fullmatch
_WHOLE: Final = "copy or export it again; it is probably cut off"


class OnnxModel(msgspec.Struct, frozen=True):
    """A model that passed: the graph's file, and the files of its external data by their places beside or below it.

    ``inputs`` has the inputs' names; None where only ONNX Runtime can read the file.
    """

    file: Path
    external: dict[str, Path]
    inputs: tuple[str, ...] | None


def check_onnx(file: Path) -> OnnxModel:
    """Accept an ONNX file, or one in ONNX Runtime's own format.

    Raises:
        Invalid: neither, cut off, or external data missing, short, or outside the folder of the model.
    """
    data = _read(file)
    if data[4:8] == _ORT_FORMAT:
        return OnnxModel(file, {}, None)
    model = _parse(data, file)
    external = dict(sorted(_external(model, file)))
    initial = {tensor.name for tensor in model.graph.initializer}
    return OnnxModel(file, external, tuple(one.name for one in model.graph.input if one.name not in initial))


def checker_says(file: Path) -> str:
    """What ONNX's own checker has against a graph, in a line; nothing where it has no objection."""
    import onnx  # noqa: PLC0415  a third of a second, for registering alone

    try:
        onnx.checker.check_model(str(file))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        return str(error).strip().splitlines()[0]
    return ""


def _read(file: Path) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise Invalid(f"cannot be read: {error.strerror}", element=str(file)) from error
    if not data:
        raise Invalid("the file is empty", element=str(file), remedy=_WHOLE)
    return data


def _parse(data: bytes, file: Path) -> Any:
    import onnx  # noqa: PLC0415  as above
    from google.protobuf.message import (  # type: ignore[import-untyped]  # noqa: PLC0415  comes with onnx, no stubs
        DecodeError,
    )

    for signature, what in _SIGNATURES:
        if data.startswith(signature):
            raise Invalid(f"this is not an ONNX model but {what}", element=str(file), remedy=EXPORT)
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError) as error:
        if data.startswith(_IR_VERSION_TAG):
            raise Invalid("the ONNX file is truncated or damaged", element=str(file), remedy=_WHOLE) from error
        raise Invalid("this is not an ONNX model", element=str(file), remedy=EXPORT) from error
    if not model.ir_version or not model.HasField("graph"):
        what = "the ONNX file is truncated: it has no graph" if model.ir_version else "this is not an ONNX model"
        raise Invalid(what, element=str(file), remedy=_WHOLE if model.ir_version else EXPORT)
    return model


def _external(model: Any, file: Path) -> Iterator[tuple[str, Path]]:
    """The files that tensors are kept in, with their paths below the model's folder, each checked."""
    for tensor in _tensors(model):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if not entries:
            continue
        location = entries.get("location", "")
        where = f"{file}: tensor {tensor.name!r}"
        path = PurePosixPath(location.replace("\\", "/"))
        if not location or "\0" in location or path.is_absolute() or ".." in path.parts:
            raise _outside(location, where)
        try:
            # A model that is a link itself may have its weights beside the link, or beside the file.
            folder = file.parent if (file.parent / path).exists() else file.resolve().parent
            inside = folder / path
            allowed = followed(inside, folder)
            there = inside.is_file()
        except (OSError, RuntimeError):  # a name that is too long; links in a circle
            allowed, there = True, False
        if not allowed:
            raise _outside(location, where)
        if not there:
            what = f"its data file {location[:_SHOWN]!r} is missing"
            raise Invalid(what, element=where, remedy=f"put it into {file.parent}")
        end = sum(_bytes(entries, key, where) for key in ("offset", "length"))
        if inside.stat().st_size < end:
            raise Invalid(f"its data file {location!r} is shorter than {end} bytes", element=where, remedy=_WHOLE)
        yield str(path), inside


def _bytes(entries: dict[str, str], key: str, where: str) -> int:
    said = entries.get(key) or "0"
    if not _BYTES(said):
        raise Invalid(f"the {key} of its data is not a number of bytes: {said[:40]!r}", element=where, remedy=_WHOLE)
    return int(said)


def _outside(location: str, where: str) -> Invalid:
    return Invalid(
        f"its data is outside the model's folder, at {location[:_SHOWN]!r}",
        element=where,
        remedy="put it beside the model: copy a linked file itself (cp -L), or save the model again with "
        "onnx.save_model",
    )


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
