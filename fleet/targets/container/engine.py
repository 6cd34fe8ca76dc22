"""A container host's engine: how it is reached, and its refusals in our words."""

import errno
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import docker
import docker.errors
import docker.tls
import docker.utils.socket
import requests
import urllib3.exceptions

from fleet.refusals import TargetTrouble
from fleet.targets.container.tunnel import Tunnel
from modules.errors import Invalid, NoSpace
from modules.words import printable

_FORMS: Final = re.compile(
    r"unix:///[^\s]{1,100}|(tcp|https)://[^\s/@]{1,250}:[0-9]{1,5}"
    r"|ssh://([^\s/@:-][^\s/@:]{0,99}@)?(\[[0-9a-fA-F:.]{2,45}\]|[^\s/@:\[\]-][^\s/@:\[\]]{0,249})(:[0-9]{1,5})?"
)
_UNIX: Final = "unix://"
#: what errors are about, for its address is not for everybody
HOST: Final = "container host"
_WITHIN_S: Final = 60
_RUNS_S: Final = 180.0
_WATCH_S: Final = 2.0
_SAID: Final = 8 << 20
_WORDS: Final = 500
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def check_address(address: str) -> str:
    """An engine's address as it may be attached.

    Raises:
        Invalid: it is of no kind that is known.
    """
    if not _FORMS.fullmatch(address):
        raise Invalid(
            f"{address[:100]!r} is not an engine's address",
            element="docker",
            remedy="write unix:///var/run/docker.sock, ssh://user@host, or tcp://host:2376 with TLS",
        )
    return address


def connect(
    address: str, *, ca: str = "", certificate: str = "", key: str = "", tunnel: Tunnel | None = None
) -> docker.APIClient:
    """Docker's own client, once the engine has said which version of its API it speaks.

    Args:
        address: as :func:`check_address` lets it pass.
        ca: file in PEM, whom to trust at a ``tcp://`` address.
        certificate: file in PEM, who we are there.
        key: its key.
        tunnel: to an engine behind SSH.

    Raises:
        TargetTrouble: the files cannot be used, or the engine does not answer.
    """
    with translated(address, tunnel.said if tunnel else str):
        if tunnel is not None:
            return docker.APIClient(base_url=f"{_UNIX}{tunnel.socket}", timeout=_WITHIN_S)
        if address.startswith(_UNIX):
            # The library leaves its socket open where nobody answers, once for each look.
            with socket.socket(socket.AF_UNIX) as trial:
                trial.connect(address.removeprefix(_UNIX))
        tls: Any = False
        if address.startswith(("tcp://", "https://")):
            tls = docker.tls.TLSConfig(client_cert=(certificate, key), ca_cert=ca, verify=True)
        return _Client(base_url=address, timeout=_WITHIN_S, tls=tls)


class _Client(docker.APIClient):
    """Docker's own, that believes whom it was told to believe."""

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        # Else the authorities of REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE would take the place of the one that was named.
        return super().merge_environment_settings(url, proxies, stream, self.verify if verify is None else verify, cert)


@contextmanager
def translated(address: str, said: Callable[[], str] = str) -> Iterator[None]:
    """What goes wrong inside is the target's trouble, with its own words.

    Args:
        address: the engine's, which only who may administer targets is told.
        said: what the way to the engine complained of, where it did.

    Raises:
        TargetTrouble: the engine does not answer, or refuses.
        NoSpace: this machine's own disk is full.
    """
    try:
        yield
    except docker.errors.APIError as error:
        words = str(error.explanation or error)[:_WORDS]
        raise TargetTrouble(f"the engine refuses: {words}", element=HOST, remedy="see the engine's log") from error
    except (docker.errors.DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise NoSpace(
                f"the fleet server's own disk takes no more: {error.strerror}",
                element=error.filename or "temporary files",
                remedy="make room there",
            ) from error
        raise TargetTrouble(
            "the engine does not answer",
            element=HOST,
            remedy="see whether it runs, and who may reach it",
            hidden=f"{address}: {said() or str(error)[:_WORDS]}",
        ) from error


def run(api: docker.APIClient, container: str, command: list[str]) -> tuple[bytes, str]:
    """What a program in a container printed, and the end of what it complained of where it failed.

    The library waits for its end without a limit, so the connection is ended for it where that takes too long, or the
    container has been paused: then nothing is heard until somebody has it go on, and that may be whoever waits here.
    """
    made = api.exec_create(container, command)
    stream = api.exec_start(made["Id"], socket=True)
    beneath = getattr(stream, "_sock", stream)
    over = threading.Event()
    threading.Thread(target=_watch, args=(api, container, beneath, over), name="exec-watch", daemon=True).start()
    out, told = bytearray(), bytearray()
    try:
        for number, data in docker.utils.socket.frames_iter(stream, tty=False):
            (out if number == docker.utils.socket.STDOUT else told).extend(data)
            if len(out) + len(told) > _SAID:
                break
    finally:
        over.set()
        stream.close()
        # The library keeps the socket beneath, and with it the way to the engine.
        beneath.close()
    if api.exec_inspect(made["Id"])["ExitCode"] == 0:
        return bytes(out), ""
    return b"", printable(told.decode(errors="replace").strip()[-_WORDS:]) or "it did not end in time, or was paused"


def _watch(api: docker.APIClient, container: str, beneath: Any, over: threading.Event) -> None:
    ends = time.monotonic() + _RUNS_S
    while not over.wait(_WATCH_S):
        if time.monotonic() >= ends or not _runs(api, container):
            _end(beneath)
            return


def _runs(api: docker.APIClient, container: str) -> bool:
    try:
        state = api.inspect_container(container)["State"]
    except (docker.errors.DockerException, requests.RequestException, OSError):
        return False
    return bool(state["Running"]) and not state.get("Paused")


def _end(beneath: Any) -> None:
    with suppress(OSError):
        beneath.shutdown(socket.SHUT_RDWR)
