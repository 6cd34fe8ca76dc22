"""What everything that scores has in common: the contract, its requests, answers and errors, free of any protocol.

::

    Invalid   └── BadInput       the request's body is not what the model takes: the caller's mistake
    Unproved  └── RunFailed      the model's own code failed
                  └── RunEnded       it died, or took so long that it was ended
    Transient ├── Unavailable    there is nothing to run it on at this moment
              └── Busy           too many requests wait already
"""

from collections.abc import AsyncIterator, Awaitable
from typing import Any, Protocol

import msgspec

from modules.errors import Invalid, Transient, Unproved

Dimension = int | str | None
ProviderChoice = tuple[str, dict[str, str]]


class BadInput(Invalid):
    code = "bad-input"


class RunFailed(Unproved):
    code = "run-failed"


class RunEnded(RunFailed):
    code = "run-ended"


class Unavailable(Transient):
    code = "unavailable"


class Busy(Transient):
    code = "busy"


class Tensor(msgspec.Struct, frozen=True):
    """An input or output: its name, ONNX element type (``float32``, ``string``...) and shape; None is any length.

    Without ``ranked`` nobody knows how many dimensions it has, and the shape is empty as that of a lone number.
    """

    name: str
    dtype: str
    shape: tuple[Dimension, ...]
    ranked: bool = True


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What is served, and on what it really runs.

    ``provider_in_use`` is what the session says, not what was asked for; where it is None, ``provider_reason`` says
    why. An entry script has no tensors to show, but may declare JSON schemas of its own, which not every version of
    OpenAPI can hold (``openapi_versions``, None for all). Up to ``batch_size`` requests share a run; where each has its
    own, ``batch_reason`` says why.
    """

    kind: str
    platform: str
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    providers_requested: tuple[str, ...] = ()
    provider_in_use: str | None = None
    provider_reason: str = ""
    onnxruntime: str | None = None
    batch_size: int = 1
    batch_reason: str = ""
    request_schema: dict[str, Any] = {}
    answer_schema: dict[str, Any] = {}
    openapi_versions: tuple[str, ...] | None = None


Buffer = bytes | bytearray | memoryview
# What an answer can hold: whole, in parts that are sent one after another without being joined, or as it is made.
Body = Buffer | tuple[Buffer, ...] | AsyncIterator[bytes]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it came: header names in lower case, ``query`` undecoded, ``id`` printable ASCII."""

    id: str
    method: str = "POST"
    path: str = "/score"
    query: str = ""
    raw_headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes | bytearray = b""

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers as text; few requests need it, so it is made on demand."""
        return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in self.raw_headers)

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, by its name in lower case."""
        return next((value for one, value in self.raw_headers if one == name), None)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. ``run_ms`` is the time in the model's own code, None where it did not run to its end."""

    body: Body
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    run_ms: float | None = None
    failed: bool = False


class ModelRuntime(Protocol):
    """Something that scores. ``ready`` is false until :meth:`load` has returned, and whenever scoring is impossible."""

    @property
    def ready(self) -> bool: ...

    async def load(self) -> None:
        """Make ready, warmed up.

        Raises:
            EdgefleetError: it can never work so (the message is for the operator).
        """

    def score(self, request: Request) -> Answer | Awaitable[Answer]:
        """Answer one request: at once where that is quicker than waiting, else later (so it may be an ``async def``).

        Raises:
            BadInput: the body is not what the model takes.
            RunFailed: the model failed, died or took too long.
            Unavailable: try again later.
        """

    def metadata(self) -> Metadata: ...

    def example(self) -> dict[str, Any] | None:
        """A document for ``/score`` that has been run with success; None where none is known."""

    async def close(self) -> None:
        """Release everything; called once, after the last answer."""
