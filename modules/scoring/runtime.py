"""What everything that scores has in common: the contract, its requests, answers and errors, free of any protocol.

::

    Invalid   └── BadInput       the request's body is not what the model takes: the caller's mistake
    Unproved  └── RunFailed      the model's own code failed, died or took too long
    Transient └── Unavailable    there is nothing to run it on at this moment
"""

from typing import Any, Protocol

import msgspec

from modules.errors import Invalid, Transient, Unproved

Dimension = int | str | None
ProviderChoice = tuple[str, dict[str, str]]


class BadInput(Invalid):
    code = "bad-input"


class RunFailed(Unproved):
    code = "run-failed"


class Unavailable(Transient):
    code = "unavailable"


class Tensor(msgspec.Struct, frozen=True):
    """An input or output: its name, ONNX element type (``float32``, ``string``...) and shape; None is any length."""

    name: str
    dtype: str
    shape: tuple[Dimension, ...]


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What is served, and on what it really runs.

    ``provider_in_use`` is what the session says, not what was asked for; where it is None, ``provider_reason`` says
    why. An entry script has no tensors to show.
    """

    kind: str
    platform: str
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    providers_requested: tuple[str, ...] = ()
    provider_in_use: str | None = None
    provider_reason: str = ""
    onnxruntime: str | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it came: header names in lower case, ``query`` undecoded, ``id`` printable ASCII."""

    id: str
    method: str = "POST"
    path: str = "/score"
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. ``run_ms`` is the time in the model's own code, None where it did not run to its end."""

    body: bytes
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

    async def score(self, request: Request) -> Answer:
        """Answer one request.

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
