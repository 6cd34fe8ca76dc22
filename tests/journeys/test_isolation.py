"""What a module's container can reach: nothing. What can reach it: the gateway's group, through one socket."""

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts import digits
from tests.parts.pace import stretched

SLOT = "digits"
GROUP = 4242
# Runs inside the container; where it connects to is its argument.
LOOK = """
import errno, json, os, socket, sys
def code(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno, "name" if isinstance(error, socket.gaierror) else str(error))
    return "worked"
def connect(family, *address):
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(3)
        one.connect(address)
def write(path):
    with open(path, "w") as one:
        one.write("x")
def lines(path):
    return dict(line.split(":", 1) for line in open(path).read().splitlines())
status = lines("/proc/1/status")
print(json.dumps({
    "reached": {where: code(lambda: connect(socket.AF_INET6 if ":" in host else socket.AF_INET, host, port))
                for where, host, port in json.loads(sys.argv[1])},
    "names": code(lambda: socket.getaddrinfo("example.com", 443)),
    "interfaces": sorted(os.listdir("/sys/class/net")),
    "listening": [line.split()[1] for path in ("/proc/1/net/tcp", "/proc/1/net/tcp6", "/proc/1/net/udp")
                  for line in open(path).read().splitlines()[1:]],
    "capabilities": [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "user": status["Uid"].split()[0], "group": status["Gid"].split()[0],
    "written": {path: code(lambda: write(path)) for path in ("/x", "/usr/x", "/module/x", "/module/files/x", "/dev/x")},
    "raw": code(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)),
    "engine": [path for path in ("/var/run/docker.sock", "/run/docker.sock", "/run/podman") if os.path.exists(path)],
}))
"""
NOBODY = 65534
# Becomes nobody, in the groups that are its further arguments, and connects.
CONNECT = f"""
import os, socket, sys
os.setgroups([int(one) for one in sys.argv[2:]])
os.setgid({NOBODY})
os.setuid({NOBODY})
with socket.socket(socket.AF_UNIX) as one:
    one.connect(sys.argv[1])
"""


@pytest.fixture(scope="module")
def edge(system, shared_device, digits_module):
    made = shared_device("dev-isolation", gateway_group=str(GROUP if os.geteuid() == 0 else os.getgid()))
    system.ended(system.start_rollout(digits_module, made.name, slot=SLOT), said=made.said)
    return made


@pytest.fixture(scope="module")
def inside(edge, system):
    """What a program inside the module's container finds."""
    targets = [
        ("host", own_address(), edge.port),
        ("engine's bridge", "172.17.0.1", 80),
        ("metadata service", "169.254.169.254", 80),
        ("internet", "192.0.2.1", 443),
        ("internet, v6", "2001:db8::1", 443),
        ("gateway", "127.0.0.1", edge.port),
        ("broker", "127.0.0.1", system.broker.device_port),
    ]
    with edge.containers() as containers:
        (container,) = containers
        done = container.exec_run(["python", "-c", LOOK, json.dumps(targets)])
    assert done.exit_code == 0, done.output.decode()
    return json.loads(done.output)


def own_address():
    """An address of this machine that is not loopback, where it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(("192.0.2.1", 9))  # sends nothing
            return one.getsockname()[0]
        except OSError:
            return "172.17.0.1"


def test_it_can_open_no_connection(inside):
    """Host, metadata service, internet: no route. Gateway and broker on loopback: its own loopback is empty."""
    loopback = {"gateway": "ECONNREFUSED", "broker": "ECONNREFUSED"}
    outside = {"host", "engine's bridge", "metadata service", "internet", "internet, v6"}
    reached = inside["reached"]
    assert {where: reached[where] for where in loopback} == loopback
    assert {reached[where] for where in outside} <= {"ENETUNREACH", "EADDRNOTAVAIL"}
    assert inside["names"] == "name"
    assert inside["interfaces"] == ["lo"]


def test_it_has_no_privilege(inside):
    """No capability, none to be had, a user that is not root, no raw socket, no engine's socket in sight."""
    assert {int(mask, 16) for mask in inside["capabilities"]} == {0}
    assert inside["no_new_privileges"] == "1"
    assert int(inside["user"]) > 0
    assert inside["raw"] == "EPERM"
    assert inside["engine"] == []


def test_it_can_change_nothing(inside):
    """Its own root, the model and the script are read-only to it."""
    assert set(inside["written"].values()) <= {"EROFS", "EACCES"}
    assert inside["written"]["/module/files/x"] == "EROFS"


def test_it_listens_on_its_socket_alone(edge, inside):
    """No TCP or UDP socket inside, no port published outside; the gateway answers all the same."""
    assert inside["listening"] == []
    with edge.containers() as containers:
        (container,) = containers
        settings = container.attrs["NetworkSettings"]
        assert not any(settings["Ports"].values())
        assert list(settings["Networks"]) == ["none"]
        assert not container.attrs["HostConfig"]["PortBindings"]
        assert container.attrs["HostConfig"]["ReadonlyRootfs"]
    assert edge.score(SLOT, digits.QUESTIONS[0].body).status == 200


def test_only_the_gateways_group_can_connect(edge, inside):
    """Folder 2750, closed once the socket was bound, and socket 0660 of that group."""
    path = Path(edge.slot(SLOT).current.socket)
    folder, made = path.parent.stat(), path.stat()
    assert stat.S_IMODE(folder.st_mode) == 0o2750
    assert stat.S_IMODE(made.st_mode) == 0o660
    assert stat.S_ISSOCK(made.st_mode)
    assert {folder.st_gid, made.st_gid, int(inside["group"])} == {GROUP if os.geteuid() == 0 else os.getgid()}


@pytest.mark.needs("root")
@pytest.mark.parametrize(("groups", "works"), [([], False), ([GROUP], True)], ids=["stranger", "gateway's group"])
def test_a_local_user_is_kept_out(edge, groups, works):
    """A process of another user gets through to the module if, and only if, it is in the gateway's group."""
    done = subprocess.run(
        [sys.executable, "-c", CONNECT, edge.slot(SLOT).current.socket, *map(str, groups)],
        capture_output=True,
        text=True,
        timeout=stretched(30),
        check=False,
    )
    assert (done.returncode == 0) is works, done.stderr
    assert works or "PermissionError" in done.stderr
