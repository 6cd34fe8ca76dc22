"""A container host's engine: how it is reached, and its refusals in our words."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import docker
import docker.errors
import docker.tls
import requests

from fleet.refusals import TargetTrouble
from modules.errors import Invalid

_FORMS: Final = re.compile(r"unix:///[^\s]{1,100}|(tcp|https)://[^\s/@]{1,250}:[0-9]{1,5}|ssh://[^\s/]{1,250}")
_UNIX: Final = "unix://"
_WITHIN_S: Final = 60
_WORDS: Final = 500


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


def connect(address: str, *, ca: str = "", certificate: str = "", key: str = "") -> docker.APIClient:
    """Docker's own client, once the engine has said which version of its API it speaks.

    Args:
        address: as :func:`check_address` lets it pass.
        ca: file in PEM, whom to trust at a ``tcp://`` address.
        certificate: file in PEM, who we are there.
        key: its key.

    Raises:
        TargetTrouble: the files cannot be used, or the engine does not answer.
    """
    with translated(address):
        if address.startswith(_UNIX):
            # The library leaves its socket open where nobody answers, once for each look.
            with socket.socket(socket.AF_UNIX) as trial:
                trial.connect(address.removeprefix(_UNIX))
        tls: Any = False
        if address.startswith(("tcp://", "https://")):
            tls = docker.tls.TLSConfig(client_cert=(certificate, key), ca_cert=ca, verify=True)
        return docker.APIClient(
            base_url=address, timeout=_WITHIN_S, tls=tls, use_ssh_client=address.startswith("ssh://")
        )


@contextmanager
def translated(element: str) -> Iterator[None]:
    """What goes wrong inside is the target's trouble, with its own words.

    Raises:
        TargetTrouble: the engine does not answer, or refuses.
    """
    try:
        yield
    except docker.errors.APIError as error:
        words = str(error.explanation or error)[:_WORDS]
        raise TargetTrouble(f"the engine refuses: {words}", element=element, remedy="see the engine's log") from error
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise TargetTrouble(
            f"the engine does not answer: {str(error)[:_WORDS]}",
            element=element,
            remedy="see whether it runs, and who may reach it",
        ) from error
