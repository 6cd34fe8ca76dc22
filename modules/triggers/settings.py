"""What the trigger is told, by the variables of its container: the image sets them, whoever runs it may set others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec

from modules.errors import BadSettings
from modules.triggers.paths import Paths

FOLDER: Final = "folder"
TOPIC: Final = "topic"
DATA: Final = "/data"
# What a topic of MQTT may be; wildcards are for inputs alone.
_TOPIC: Final = r"^[^\x00]{1,65535}\Z"
_NAMES: Final = {
    "kind": "EDGEFLEET_TRIGGER", "input": "EDGEFLEET_TRIGGER_INPUT", "output": "EDGEFLEET_TRIGGER_OUTPUT",
    "data": "EDGEFLEET_TRIGGER_DATA", "settle_s": "EDGEFLEET_TRIGGER_SETTLE_S", "broker": "EDGEFLEET_TRIGGER_BROKER",
    "password_file": "EDGEFLEET_TRIGGER_PASSWORD_FILE", "ca": "EDGEFLEET_TRIGGER_CA",
    "certificate": "EDGEFLEET_TRIGGER_CERTIFICATE", "key": "EDGEFLEET_TRIGGER_KEY",
    "client": "EDGEFLEET_TRIGGER_CLIENT", "port": "EDGEFLEET_TRIGGER_PORT",
}  # fmt: skip
# With them the scoring server asks for what the trigger has not got.
_NOT_HERE: Final = ("EDGEFLEET_ACCESS_FILE", "EDGEFLEET_TLS_CERTIFICATE", "EDGEFLEET_TLS_KEY")
_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


class TriggerSettings(msgspec.Struct, frozen=True, kw_only=True, rename=_NAMES.get):
    """``kind`` is ``folder`` or ``topic``; inputs and outputs are patterns of paths below ``data``, or topics.

    A file is an input once nothing has changed in it for ``settle_s`` seconds. ``client`` names the session that the
    broker keeps while the container is away, so every container has its own. ``port`` is the scoring server's.
    """

    kind: str
    input: Annotated[str, msgspec.Meta(pattern=_TOPIC)]
    output: Annotated[str, msgspec.Meta(pattern=_TOPIC)]
    data: str = DATA
    settle_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 1.0
    broker: str = ""
    password_file: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    client: Annotated[str, msgspec.Meta(max_length=128)] = ""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 5001


class Address(msgspec.Struct, frozen=True):
    """A broker's address; ``mqtts`` is TLS."""

    host: str
    port: int
    tls: bool
    user: str = ""


def read(environment: Mapping[str, str]) -> TriggerSettings:
    """The settings of this process.

    Raises:
        BadSettings: one is missing, or cannot be used; the message names its variable.
        Invalid: as :class:`Paths`.
    """
    given: dict[str, Any] = {name: environment[name] for name in _NAMES.values() if environment.get(name)}
    try:
        settings = msgspec.convert(given, TriggerSettings, strict=False)
    except msgspec.ValidationError as error:
        raise BadSettings(str(error), element="environment", remedy="correct that variable") from error
    for name in _NOT_HERE:
        if environment.get(name):
            raise BadSettings(
                "a trigger asks the scoring server of its own container, without a key and without TLS", element=name,
                remedy="leave it out: the port of this container is for health alone, so publish it to nobody",
            )  # fmt: skip
    if settings.kind == FOLDER:
        Paths(settings.input, settings.output)
    elif settings.kind == TOPIC:
        check_topics(settings.input, settings.output)
        address(settings.broker)
    else:
        raise BadSettings(f"{settings.kind!r} is no trigger", element=_NAMES["kind"], remedy=f"{FOLDER} or {TOPIC}")
    if bool(settings.certificate) != bool(settings.key):
        raise BadSettings(
            "a certificate needs its key, and a key its certificate", element=_NAMES["certificate"],
            remedy="set both, or neither",
        )  # fmt: skip
    for what in ("password_file", "ca", "certificate", "key"):
        if (file := getattr(settings, what)) and not Path(file).is_file():
            raise BadSettings(
                f"there is no such file in this container: {file}",
                element=_NAMES[what],
                remedy="mount it: docker run -v FILE:FILE:ro",
            )
    return settings


def address(url: str) -> Address:
    """A broker's address as ``mqtts://user@host:8883``.

    Raises:
        BadSettings: it is none, or has a password, which belongs into a file.
    """
    element, example = _NAMES["broker"], "write it as mqtts://broker.example:8883"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadSettings(f"this is not an address: {error}", element=element, remedy=example) from error
    if parts.password:
        raise BadSettings(
            "an address that many can read has a password in it", element=element,
            remedy=f"name a file with the password in {_NAMES['password_file']}",
        )  # fmt: skip
    if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        raise BadSettings(f"{url!r} is not a broker's address", element=element, remedy=example)
    return Address(parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "mqtts", parts.username or "")


def check_topics(given: str, answers: str) -> None:
    """Inputs may have wildcards, outputs not, and no output is an input again.

    Raises:
        BadSettings: they cannot be used.
    """
    if not given or not answers:
        raise BadSettings("a topic is missing", element=_NAMES["input" if not given else "output"], remedy="name it")
    if "#" in answers or "+" in answers:
        raise BadSettings("an answer goes to one topic", element=_NAMES["output"], remedy="leave + and # out")
    if is_covered(answers, given) or is_covered(poison(answers), given):
        raise BadSettings(
            "an output would be an input again", element=_NAMES["output"], remedy="name a topic that is no input"
        )


def poison(answers: str) -> str:
    """Where a message goes that cannot be answered."""
    return f"{answers}/poison"


def is_covered(topic: str, by: str) -> bool:
    """Whether a subscription brings that topic."""
    levels = by.split("/")
    # $share/GROUP/topic is the topic, divided among a group.
    levels = levels[2:] if levels[0] == "$share" else levels
    names = topic.split("/")
    for at, level in enumerate(levels):
        if level == "#":
            return True
        if at >= len(names) or level not in ("+", names[at]):
            return False
    return len(names) == len(levels)
