"""An engine behind SSH: reached by the real engine's own protocol, and given up in time when ssh hangs or fails."""

import os
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.refusals import TargetTrouble
from fleet.targets.container import engine as engines
from fleet.targets.container.host import Attached, ContainerHost
from modules.errors import Invalid
from tests.parts import docker as docker_parts
from tests.parts.presence import engine_socket
from tests.parts.programs import until

# What ``docker system dial-stdio`` does at the other end of a real ssh.
DIALS = """
import os, socket, sys, threading
engine = socket.socket(socket.AF_UNIX)
engine.connect(sys.argv[1])
def up():
    while data := os.read(0, 65536):
        engine.sendall(data)
    engine.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := engine.recv(65536):
    os.write(1, data)
"""


@pytest.fixture
def as_ssh(tmp_path, monkeypatch):
    """Puts a program in the place of ssh; it writes its arguments and its id down, and then does what it is told."""

    def put(does):
        path = tmp_path / "bin" / "ssh"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "$$ $@" >> {tmp_path}/asked\n{does}\n')
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
        return tmp_path / "asked"

    return put


@contextmanager
def host(address):
    found = ContainerHost(Attached(docker=address), fleet="f" * 12, blobs=None)
    try:
        yield found
    finally:
        found.close()


@pytest.mark.needs("docker")
def test_an_engine_behind_ssh_is_spoken_to(as_ssh, tmp_path):
    """Requests and a program's output come through, and ssh is told whom to reach, without a shell between."""
    (tmp_path / "dials.py").write_text(DIALS)
    asked = as_ssh(f"exec {shlex.join([sys.executable, str(tmp_path / 'dials.py'), engine_socket()])}")
    with docker_parts.engine(), host("ssh://Me@Engine:2222") as target:
        image = docker_parts.python_slim(docker_parts.client())
        created = target._api.create_container(image, ["sleep", "60"])
        try:
            target._api.start(created["Id"])
            assert engines.run(target._api, created["Id"], ["echo", "through"]) == (b"through\n", "")
        finally:
            target._api.remove_container(created["Id"], force=True)
    words = asked.read_text().splitlines()[0]
    assert words.endswith("-l Me -p 2222 -- Engine docker system dial-stdio")
    assert "BatchMode=yes" in words
    until(lambda: not alive(asked), "every ssh has ended", within_s=20)


def alive(asked):
    numbers = [line.split()[0] for line in asked.read_text().splitlines()]
    return [one for one in numbers if Path("/proc", one).exists()]


@pytest.mark.long
def test_an_ssh_that_hangs_is_given_up_and_ended(as_ssh, monkeypatch):
    """The target says in one sentence that it does not answer, and no ssh stays behind."""
    monkeypatch.setattr(engines, "_WITHIN_S", 1)
    asked = as_ssh("exec sleep 600")
    with host("ssh://engine") as target, pytest.raises(TargetTrouble, match="does not answer"):
        target.check()
    until(lambda: not alive(asked), "no ssh is left", within_s=20)


def test_what_ssh_complains_of_is_said(as_ssh):
    """Its own last words stand in the sentence, without what could move a terminal's cursor."""
    as_ssh("printf 'Host key\\033[2J verification failed.' >&2; exit 255")
    with (
        host("ssh://engine") as target,
        pytest.raises(TargetTrouble, match=r"Host key.* verif") as caught,
    ):
        target.check()
    assert "\x1b" not in str(caught.value)


def test_without_ssh_that_is_said(tmp_path, monkeypatch):
    """A machine that has no ssh, as some containers, says so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with host("ssh://engine") as target, pytest.raises(TargetTrouble, match="ssh cannot be started"):
        target.check()


@pytest.mark.parametrize("address", ["ssh://-oProxyCommand=x", "ssh://-l@engine", "ssh://engine:port", "ssh://a@b@c"])
def test_no_option_of_ssh_is_taken_for_an_address(address):
    """What begins as an option does is no host and no user."""
    with pytest.raises(Invalid):
        engines.check_address(address)
