"""NVIDIA GPUs on hosts with the desktop or data-centre driver; Jetson's own driver looks different and is not covered.

A GPU counts when the kernel driver offers its device node. Whether a container can be given it depends on the NVIDIA
container toolkit as well, which only a start can tell.
"""

import re
from typing import Final

from hardware.finding import Finding
from hardware.system import System
from modules.needs import Accelerator

PROVIDERS: Final = ("TensorrtExecutionProvider", "CUDAExecutionProvider")
_DRIVER: Final = "/proc/driver/nvidia"
_SHARED_NODES: Final = ("nvidiactl", "nvidia-uvm")
_QUERY: Final = ("nvidia-smi", "--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits")


def probe(system: System) -> Finding:
    nodes = system.list("/dev")
    numbers = sorted(int(node.removeprefix("nvidia")) for node in nodes if re.fullmatch(r"nvidia\d+", node))
    version = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\d[\d.]+)", system.read(f"{_DRIVER}/version"))
    driver = version[1] if version else ""
    if not numbers:
        if driver:
            return Finding(
                notes=(f"NVIDIA driver {driver} is loaded, and there is no /dev/nvidia0 (run nvidia-modprobe)",)
            )
        return Finding(notes=("no NVIDIA GPU: no /dev/nvidia0",))
    names, told = _names(system), _told(system)
    shared = tuple(f"/dev/{node}" for node in _SHARED_NODES if node in nodes)
    accelerators = []
    for number in numbers:
        name, memory = told.get(number, ("", 0))
        accelerators.append(
            Accelerator(
                kind="nvidia",
                name=names.get(number, name) or "NVIDIA GPU",
                providers=PROVIDERS,
                devices=(f"/dev/nvidia{number}", *shared),
                memory_mb=memory,
                driver=driver,
            )
        )
    notes = [f"{one.name}, because there is {one.devices[0]}" for one in accelerators]
    if not told:
        notes.append("the GPU's memory is unknown, because nvidia-smi does not answer")
    return Finding(accelerators=tuple(accelerators), notes=tuple(notes))


def _names(system: System) -> dict[int, str]:
    """The driver's own names, by number of the device node."""
    found = {}
    for bus in system.list(f"{_DRIVER}/gpus"):
        information = system.read(f"{_DRIVER}/gpus/{bus}/information")
        fields = dict(re.findall(r"^([^:\n]+):\s*(.+?)\s*$", information, re.MULTILINE))
        if fields.get("Device Minor", "").isdigit() and "Model" in fields:
            found[int(fields["Device Minor"])] = fields["Model"]
    return found


def _told(system: System) -> dict[int, tuple[str, int]]:
    """(name, memory in MiB) by number, as nvidia-smi tells."""
    rows = (line.split(", ") for line in system.run(_QUERY).splitlines())
    return {
        int(row[0]): (row[1], int(row[2]))
        for row in rows
        if len(row) == len(("index", "name", "memory")) and row[2].isdigit()
    }
