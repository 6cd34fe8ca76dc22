"""Messages of the model repository extension over gRPC, which the package with the protocol's own leaves out."""

from typing import Any, Final

from google.protobuf import (  # type: ignore[import-untyped]  # it has no types of its own
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

_Field = descriptor_pb2.FieldDescriptorProto
_TEXT, _YES_NO, _MODELS = _Field.TYPE_STRING, _Field.TYPE_BOOL, _Field.TYPE_MESSAGE
# Fields in the order of their numbers. What else a client sends (settings to load with) is for other servers.
_FIELDS: Final = {
    "ModelIndex": {"name": _TEXT, "version": _TEXT, "state": _TEXT, "reason": _TEXT},
    "RepositoryIndexRequest": {"repository_name": _TEXT, "ready": _YES_NO},
    "RepositoryIndexResponse": {"models": _MODELS},
    "RepositoryModelRequest": {"repository_name": _TEXT, "model_name": _TEXT},
    "RepositoryModelResponse": {},
}


def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="model_repository.proto", package="edgefleet", syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            one = message.field.add(name=field, number=number, type=kind, label=_Field.LABEL_OPTIONAL)
            if kind == _MODELS:
                one.label, one.type_name = _Field.LABEL_REPEATED, ".edgefleet.ModelIndex"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"edgefleet.{name}")) for name in _FIELDS}


_MESSAGES: Final = _messages()
IndexRequest: Final = _MESSAGES["RepositoryIndexRequest"]
IndexResponse: Final = _MESSAGES["RepositoryIndexResponse"]
# Loading and unloading have the same shape.
ModelRequest: Final = _MESSAGES["RepositoryModelRequest"]
ModelResponse: Final = _MESSAGES["RepositoryModelResponse"]
