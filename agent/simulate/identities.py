"""Keys and certificates of simulated devices: many are enrolled at once, over the same HTTPS request as one device.

``devices/NAME.pem`` in the state folder holds a key and its certificate; ``join.json`` is the bundle they came from.
They are for trying things out: nothing is synced, and whoever can read the folder is all of these devices.
"""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import CryptoSigner

from agent.enroll import certified
from agent.fleet_address import Sender
from modules import canonical
from modules.errors import BadSettings, LinkLost
from modules.names import DeviceId, device_id
from modules.protocol.enrollment import LIMIT, JoinBundle
from modules.signing import signer_from_pem

BUNDLE: Final = "join.json"
DEVICES: Final = "devices"
# Connections at once: the server certifies one device after another, these keep it busy.
_AT_ONCE: Final = 8
_TRIES: Final = 5
_BREAK_S: Final = 0.5


def names(count: int, prefix: str) -> list[DeviceId]:
    """``sim-00001`` and so on."""
    return [device_id(f"{prefix}-{number:05}") for number in range(1, count + 1)]


def place(state: Path, name: DeviceId) -> Path:
    return state / DEVICES / f"{name}.pem"


def bundle(state: Path) -> JoinBundle:
    """The bundle that the devices of a state folder came from.

    Raises:
        BadSettings: there is none.
        Invalid: it cannot be read.
    """
    return _read(state / BUNDLE)


def _read(path: Path) -> JoinBundle:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadSettings(
            f"there is no join bundle: {error.strerror}", element=str(path), remedy="enrol devices first"
        ) from error
    return canonical.decode(data, JoinBundle, limit=LIMIT, what="join bundle")


def enroll(state: Path, wanted: list[DeviceId], *, progress: Callable[[int], None]) -> int:
    """Enrol those of these devices that have no identity yet; returns how many. ``progress`` is told how many are done.

    Raises:
        LinkLost: the server does not answer.
        Untrusted: it refuses: the token is used up, or a name belongs to another key.
    """
    join = bundle(state)
    (state / DEVICES).mkdir(mode=0o700, parents=True, exist_ok=True)
    missing = [name for name in wanted if not place(state, name).exists()]
    own = threading.local()

    def one(name: DeviceId) -> None:
        if not hasattr(own, "sender"):
            own.sender = Sender(join)
        # Of a name that was removed, the operator's word that it may come back.
        again = state / f"{name}.json"
        _enroll(_read(again) if again.exists() else join, state, name, own.sender)
        again.unlink(missing_ok=True)

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="enroll") as workers:
        try:
            for done, _ in enumerate(workers.map(one, missing), start=1):
                progress(done)
        except BaseException:
            workers.shutdown(wait=False, cancel_futures=True)
            raise
    return len(missing)


def _enroll(join: JoinBundle, state: Path, name: DeviceId, sender: Sender) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    for left in reversed(range(_TRIES)):
        try:
            answer = certified(join, key, name=name, send=sender.post)
            break
        except LinkLost:
            # The same key may ask again: the server answers it twice with the same name.
            if not left:
                raise
            time.sleep(_BREAK_S)
    pem, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password)
    path = place(state, name)
    partial = path.with_suffix(".new")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(secret + answer.certificate.encode())
    partial.replace(path)


def signer(state: Path, name: DeviceId) -> CryptoSigner:
    """What a device signs with.

    Raises:
        BadSettings: it has not been enrolled.
    """
    path = place(state, name)
    try:
        secret, end, _ = path.read_bytes().partition(b"-----END PRIVATE KEY-----\n")
    except OSError as error:
        raise BadSettings(
            f"the device is not enrolled: {error.strerror}", element=name, remedy="enrol as many devices as you run"
        ) from error
    return signer_from_pem(secret + end, element=name)
