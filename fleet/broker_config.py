"""mosquitto's configuration for one fleet, from the templates in ``deploy/broker`` and the data folder's certificates.

The rendered folder holds all that the broker needs, and only that: copies of its own certificate and key and of the two
CA certificates, never a CA's key.
"""

import os
import pwd
import shutil
import sysconfig
from pathlib import Path
from string import Template
from typing import Final

from fleet.authority import Authority
from fleet.folder import Folder, replace_file, write_secret
from fleet.revocation import FILE, PID_FILE
from modules.errors import BadSettings
from modules.protocol.topics import Topics

# Of devices, and of all memory: a session costs some 20 KiB, and a device's retained messages seldom as much again.
CONNECTIONS: Final = 10_000
MEMORY_MB: Final = 1024
# What may wait for one client. The server's next session gets all that is retained of each device at once: its status,
# report and facts, some 4 KB; what does not fit is lost until the device speaks again.
_WAITING: Final = 10_000
_WAITING_BYTES: Final = 16 << 20
# For a broker in a container.
RUN: Final = "run.sh"
_OF_A_DEVICE: Final = (4, 4 << 10)
_RULES: Final = {"DEVICE_ACL": "devices.acl", "SERVICE_ACL": "services.acl"}
_PLACES: Final = (
    Path(__file__).parents[1] / "deploy" / "broker",
    Path(sysconfig.get_path("data")) / "share" / "edgefleet" / "deploy" / "broker",
)


def render(
    target: Path,
    folder: Folder,
    *,
    device_port: int,
    service_port: int,
    prefix: str,
    host: str = "0.0.0.0",
    connections: int = CONNECTIONS,
    memory_mb: int = MEMORY_MB,
    user: str | None = None,
) -> Path:
    """Write configuration, access rules and certificates below ``target``; returns the configuration's path.

    ``user`` is the account that mosquitto becomes when root starts it; without one, the account that renders, which can
    read the files that it writes here. For another account the files are given to it.

    Raises:
        BadSettings: the data folder has no certificates, there is no such account, or it cannot be given the files.
        Invalid: ``prefix`` is not a valid topic prefix.
    """
    target = target.absolute()
    account = _account(user)
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    copies = {
        "DEVICE_CA": (folder.ca, "ca.pem"),
        "SERVICE_CA": (folder.service_ca, "service-ca.pem"),
        "CERTIFICATE": (folder.broker, "broker.pem"),
        "KEY": (folder.key(folder.broker), "broker.key"),
    }
    values = {"HOST": host, "DEVICE_PORT": str(device_port), "SERVICE_PORT": str(service_port)}
    values |= {"USER": account.pw_name, "PREFIX": Topics(prefix).prefix}
    if not folder.revoked.exists():
        replace_file(folder.revoked, Authority.load(folder.ca).revocations({}))
    values |= {"REVOKED": str(_copy(folder.revoked, target / FILE)), "PID_FILE": str(target / PID_FILE)}
    values |= {"MAX_CONNECTIONS": str(connections), "MEMORY_LIMIT": str(memory_mb << 20)}
    messages, size = _OF_A_DEVICE
    values |= {"MAX_QUEUED": str(max(_WAITING, messages * connections))}
    values |= {"MAX_QUEUED_BYTES": str(max(_WAITING_BYTES, size * connections))}
    for name, (source, file) in copies.items():
        values[name] = str(_copy(source, target / file))
    for name, file in _RULES.items():
        values[name] = str(_fill(file, target / file, values))
    configuration = _fill("mosquitto.conf", target / "mosquitto.conf", values)
    (target / RUN).write_text(_template(RUN))
    _give(target, account)
    replace_file(folder.broker_place, f"{target}\n".encode())
    return configuration


def access_rules(prefix: str) -> dict[str, str]:
    """What the files of access rules say for these topics, by file."""
    values = {"PREFIX": Topics(prefix).prefix}
    return {file: Template(_template(file)).substitute(values) for file in _RULES.values()}


def _account(user: str | None) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user) if user else pwd.getpwuid(os.geteuid())
    except KeyError as error:
        raise BadSettings("there is no such account", element=user or str(os.geteuid())) from error


def _copy(source: Path, target: Path) -> Path:
    try:
        data = source.read_bytes()
    except OSError as error:
        raise BadSettings(str(error), element=str(source), remedy="make the data folder with: init") from error
    target.unlink(missing_ok=True)
    write_secret(target, data)
    return target


def _fill(template: str, target: Path, values: dict[str, str]) -> Path:
    target.write_text(Template(_template(template)).substitute(values))
    return target


def _template(name: str) -> str:
    place = next((one for one in _PLACES if (one / name).is_file()), None)
    if place is None:
        raise BadSettings("the broker's templates are not installed", element=name)
    return (place / name).read_text()


def _give(folder: Path, account: pwd.struct_passwd) -> None:
    if account.pw_uid == os.geteuid():
        return
    try:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, account.pw_uid, account.pw_gid)
    except PermissionError as error:
        raise BadSettings(
            "only root can give files away", element=account.pw_name, remedy="render as that account"
        ) from error
