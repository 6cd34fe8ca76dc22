"""What the API server says when it does not do what was asked: Status objects, with the texts of the real one."""

from collections.abc import Iterable
from typing import Any

from tests.doubles.kubernetes.kinds import Kind


class Refused(Exception):
    """Carries the Status object, and the headers that go with it."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.headers: dict[str, str] = {}
        self.status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            **({"reason": reason} if reason else {}),
            **({"details": details} if details else {}),
            "code": code,
        }


def _details(kind: Kind, name: str, causes: Iterable[dict[str, str]] = ()) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name} if name else {}
    if kind.group:
        found["group"] = kind.group
    found["kind"] = kind.plural
    if causes := list(causes):
        found["causes"] = causes
    return found


def not_found(kind: Kind, name: str) -> Refused:
    return Refused(404, "NotFound", f'{kind.resource} "{name}" not found', _details(kind, name))


def no_such_path() -> Refused:
    return Refused(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(kind: Kind, name: str) -> Refused:
    return Refused(409, "AlreadyExists", f'{kind.resource} "{name}" already exists', _details(kind, name))


def conflict(kind: Kind, name: str, why: str) -> Refused:
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}'
    return Refused(409, "Conflict", message, _details(kind, name))


def modified(kind: Kind, name: str) -> Refused:
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(kind, name, why)


def apply_conflict(message: str, causes: list[dict[str, str]]) -> Refused:
    return Refused(409, "Conflict", message, {"causes": causes})


def forbidden(kind: Kind, name: str, why: str, causes: Iterable[dict[str, str]] = ()) -> Refused:
    quoted = f' "{name}"' if name else ""
    return Refused(403, "Forbidden", f"{kind.resource}{quoted} is forbidden: {why}", _details(kind, name, causes))


def unauthorized() -> Refused:
    return Refused(401, "Unauthorized", "Unauthorized")


def bad_request(message: str) -> Refused:
    return Refused(400, "BadRequest", message)


def failed(message: str) -> Refused:
    """What an error without a type becomes: server-side apply says so of a configuration that has no such fields."""
    return Refused(500, "", message)


def too_large(message: str) -> Refused:
    return Refused(413, "RequestEntityTooLarge", message)


def no_method() -> Refused:
    message = "the server does not allow this method on the requested resource"
    return Refused(405, "MethodNotAllowed", message, {})


def no_media_type(accepted: list[str]) -> Refused:
    message = "the body of the request was in an unknown format - accepted media types include: " + ", ".join(accepted)
    return Refused(415, "UnsupportedMediaType", message, {})


def expired(message: str) -> Refused:
    return Refused(410, "Expired", message)


class Cause:
    """One objection to a field: what ``invalid`` collects."""

    def __init__(self, reason: str, field: str, message: str) -> None:
        self.reason, self.field, self.message = reason, field, message

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def required(field: str, why: str = "") -> Cause:
    return Cause("FieldValueRequired", field, "Required value" + (f": {why}" if why else ""))


def wrong(field: str, value: Any, why: str) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else _go(value)
    return Cause("FieldValueInvalid", field, f"Invalid value: {shown}: {why}")


def unsupported(field: str, value: Any, supported: Iterable[str]) -> Cause:
    said = ", ".join(f'"{one}"' for one in sorted(supported))
    return Cause("FieldValueNotSupported", field, f'Unsupported value: "{value}": supported values: {said}')


def barred(field: str, why: str) -> Cause:
    return Cause("FieldValueForbidden", field, f"Forbidden: {why}")


def duplicate(field: str, value: Any) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else _go(value)
    return Cause("FieldValueDuplicate", field, f"Duplicate value: {shown}")


def too_long(field: str, most: int) -> Cause:
    return Cause("FieldValueTooLong", field, f"Too long: may not be more than {most} bytes")


def invalid(kind: Kind, name: str, causes: list[Cause]) -> Refused:
    said = ", ".join(map(str, causes))
    message = f'{kind.dotted} "{name}" is invalid: ' + (said if len(causes) == 1 else f"[{said}]")
    listed = [{"reason": one.reason, "message": one.message, "field": one.field} for one in causes]
    details = {"name": name, **({"group": kind.group} if kind.group else {}), "kind": kind.name, "causes": listed}
    return Refused(422, "Invalid", message, details)


def _go(value: Any) -> str:
    return (
        {True: "true", False: "false", None: "null"}.get(value, str(value))
        if not isinstance(value, dict | list)
        else str(value)
    )
