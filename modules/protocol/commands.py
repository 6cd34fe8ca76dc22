"""Commands to one device, signed by the director like an order, and what the device answers, signed by the device.

A command comes at ``down/cmd/<name>/<id>`` and its answers go to ``up/cmd`` (both QoS 1, not retained). The
server publishes a command again, unchanged, until it has the last answer; a device that knows the id says what it
answered before, and does nothing twice. Only names of :data:`COMMANDS` exist.

``try-module`` alone brings bytes along, which a person wants a module to be asked, and is larger for them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from modules import canonical
from modules.bounds import MAX_REAL, Line, Number, Real, Sentence, Share, WholeTime, Word
from modules.errors import Invalid
from modules.names import DeviceField, SlugField
from modules.protocol.batch import BatchOrder
from modules.protocol.report import Reason

LIMIT: Final = 16 << 10
# Of what a module is asked: as much as is left, encoded twice, of the 384 KiB that the broker takes in a message.
TRIAL_BODY: Final = 192 << 10
_TRIAL_LIMIT: Final = 260 << 10
# Of what a module answers to it, and of a document that says so.
TRIED_BODY: Final = 1 << 20
TRIED_LIMIT: Final = 2 << 20
# One piece of a result, and all pieces of one together.
PIECE: Final = 64 << 10
RESULT_LIMIT: Final = 4 << 20
# Answers to one command, of which many may have no piece.
MAX_PARTS: Final = 5000
ANSWER_LIMIT: Final = 128 << 10
MAX_ARGUMENTS: Final = 16
# A command lives no longer than this, in seconds; a device that was away for longer does not get it any more.
LONGEST_LIFE_S: Final = 7 * 86_400

CommandId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
State = Literal["running", "done", "failed", "refused"]
# After these there is no further answer.
ENDS: Final = frozenset({"done", "failed", "refused"})


class Kind(NamedTuple):
    """What a command takes: whether it names a slot, its arguments, each a number with its least and its most.

    ``batch``: whether it carries a batch job; such a one is given by starting or cancelling the job, and not otherwise.
    ``trial``: whether it says what a module is asked.
    """

    slot: bool = False
    arguments: Mapping[str, tuple[float, float]] = MappingProxyType({})
    batch: bool = False
    trial: bool = False


TRY: Final = "try-module"
# The closed list. Bounds are inclusive; times in seconds.
COMMANDS: Final[dict[str, Kind]] = {
    "ping": Kind(),
    "restart-module": Kind(slot=True),
    # ``lines``: how many of the newest; ``follow_s``: for how long new ones are sent as they come, 0: not at all.
    "logs": Kind(slot=True, arguments={"lines": (1, 10_000), "follow_s": (0, 3600)}),
    "diagnose": Kind(),
    # ``seconds``: for how long requests of samples are timed on the device.
    "profile": Kind(slot=True, arguments={"seconds": (1, 300)}),
    "collect-now": Kind(),
    "rotate-key": Kind(),
    "restart-agent": Kind(),
    # A batch job for when the device is idle; the same job again changes nothing.
    "batch-start": Kind(batch=True),
    "batch-cancel": Kind(batch=True),
    # Asks what serves in a slot, as an application there would; ``seconds``: for how long an answer is waited for.
    TRY: Kind(slot=True, arguments={"seconds": (1, 60)}, trial=True),
    # Stops and removes everything of edgefleet on the device, its identity last.
    "decommission": Kind(),
}


# A media type, as a header has it: nothing that could begin another header.
MediaType = Annotated[str, msgspec.Meta(pattern=r"^[ -~]{0,100}\Z")]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What a module is asked: ``/score`` with a body, or for the OpenAPI document that says what it takes."""

    path: Literal["score", "swagger.json"] = "score"
    content_type: MediaType = "application/json"
    accept: MediaType = ""
    body: Annotated[bytes, msgspec.Meta(max_length=TRIAL_BODY)] = b""


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it, and who answered, by the marks of the gateway; the result of the command, as JSON.

    ``ms``: from the question to the last byte of the answer.
    """

    status: Annotated[int, msgspec.Meta(ge=100, le=599)]
    ms: Annotated[float, msgspec.Meta(ge=0, le=MAX_REAL)]
    content_type: Line = ""
    body: Annotated[bytes, msgspec.Meta(max_length=TRIED_BODY)] = b""
    module: Line = ""
    served_by: Word = ""
    provider: Word = ""
    version: Word = ""
    request_id: Line = ""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of the envelope (type ``COMMAND_TYPE``). Times are Unix seconds."""

    format: Literal["edgefleet.command/1"] = "edgefleet.command/1"
    id: CommandId
    device: DeviceField
    name: Word
    issued: WholeTime
    expires: WholeTime
    slot: SlugField | None = None
    arguments: Annotated[dict[Word, Real], msgspec.Meta(max_length=MAX_ARGUMENTS)] = {}
    batch: BatchOrder | None = None
    trial: Trial | msgspec.UnsetType = msgspec.UNSET


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of the envelope (type ``ANSWER_TYPE``): answer number ``part`` to one command, counted from 1.

    ``data`` is the next piece of the result, whose kind ``content`` says (a media type); the pieces in the order of
    their parts are the result, and at most :data:`RESULT_LIMIT` bytes.
    """

    format: Literal["edgefleet.answer/1"] = "edgefleet.answer/1"
    id: CommandId
    device: DeviceField
    name: Word
    part: Number
    state: State
    progress: Share | None = None
    note: Sentence = ""
    reason: Reason | None = None
    content: Word = ""
    data: Annotated[bytes, msgspec.Meta(max_length=PIECE)] = b""


def check(command: Command) -> Kind:
    """What the closed list says of a command that holds.

    Raises:
        Invalid: the name is not in the list, a slot is missing or named in vain, an argument is unknown or out of
            bounds, or the times make no sense.
    """
    kind = COMMANDS.get(command.name)
    if kind is None:
        raise Invalid(
            "there is no such command", element=command.name[:60], remedy="use " + ", ".join(sorted(COMMANDS))
        )
    if kind.slot and command.slot is None:
        raise Invalid("this command needs a slot", element=command.name, remedy="name one of the device's slots")
    if not kind.slot and command.slot is not None:
        raise Invalid("this command takes no slot", element=command.name, remedy="leave the slot out")
    if kind.batch != (command.batch is not None):
        why = "a batch job is started and cancelled as such" if kind.batch else "this command takes no batch job"
        raise Invalid(why, element=command.name, remedy="see: edgefleet batch start, edgefleet batch cancel")
    if kind.trial != isinstance(command.trial, Trial):
        raise Invalid(
            "this command says what a module is asked, and no other does",
            element=command.name,
            remedy="use: edgefleet try",
        )
    for name, value in command.arguments.items():
        allowed = kind.arguments.get(name)
        element = f"{command.name} {name}"
        if allowed is None:
            raise Invalid("this command has no such argument", element=element, remedy="leave it out")
        if not allowed[0] <= value <= allowed[1]:
            raise Invalid(f"not a number from {allowed[0]} to {allowed[1]}", element=element, remedy="correct it")
    if not command.issued < command.expires <= command.issued + LONGEST_LIFE_S:
        raise Invalid(
            f"it has to expire after it was issued, and {LONGEST_LIFE_S} seconds later at most",
            element=command.name,
            remedy="issue it anew",
        )
    return kind


def encode(command: Command) -> bytes:
    """The bytes that are signed; checked first, so that no device is sent what it must refuse.

    Raises:
        Invalid: as :func:`check`, or it is too large.
    """
    check(command)
    data = canonical.encode(command)
    if len(data) > (most := limit_of(command.name)):
        raise Invalid(f"{len(data)} bytes is more than the {most} allowed", element=command.name)
    return data


def limit_of(name: str) -> int:
    """The most bytes of a command of this name."""
    kind = COMMANDS.get(name)
    return _TRIAL_LIMIT if kind and kind.trial else LIMIT


def decode(data: bytes) -> Command:
    """Read a command.

    Raises:
        Invalid: too large, not a command, something in it out of bounds, or as :func:`check`.
    """
    command = canonical.decode(data, Command, limit=_TRIAL_LIMIT, what="command")
    if len(data) > limit_of(command.name):
        raise Invalid(f"{len(data)} bytes is more than the {LIMIT} allowed", element=command.name[:60])
    check(command)
    return command
