"""Sockets of families that no network namespace holds: what a module gets, and what the operator is told of it."""

import errno

from agent.doctor import _engine
from modules.protocol.phases import Phase

OPENS = """
import plain, socket
def tried(family):
    try:
        socket.socket(family, socket.SOCK_STREAM).close()
    except OSError as error:
        return error.errno
    return 0
print("vsock", tried(socket.AF_VSOCK), flush=True)
plain.serve()
"""


async def test_doctor_says_whether_a_module_can_leave_by_vsock(device):
    """A virtual machine's socket to its host is refused by the engine, or else doctor says that it is not, and what to
    do: tried in a container of the engine that is here."""
    await device.attacked(OPENS)
    await device.phase(Phase.COMMITTED, slot="evil")
    await device.until(lambda: "vsock" in device.logs())
    refused = int(device.logs().split("vsock ")[1].split()[0]) in {errno.EPERM, errno.EACCES}
    found = await _engine("docker", device.engine)

    assert found.ok
    assert ("AF_VSOCK" in found.found) is not refused
