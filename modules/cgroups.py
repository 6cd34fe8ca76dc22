"""The cgroups that contain this process, of versions 1 and 2, whichever hierarchy holds a controller.

A limit may stand in the process's own group or in any above it, so all are given, the innermost first.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def folders(controller: str, root: Path = Path("/")) -> Iterator[tuple[Path, int]]:
    """(folder, cgroup version) of each group, from this process's own up to the mount's top.

    ``controller`` is ``cpu`` or ``memory``; ``root`` is where /proc and /sys are found.
    """
    own = dict(_own_groups(controller, root))
    for mount, version in _mounts(controller, root):
        group = own.get(version)
        if group is None:
            continue
        # In a container the path in /proc may be the host's and not exist below the mount: the top then is our group.
        relative = PurePosixPath(group.lstrip("/"))
        for path in (relative, *relative.parents):
            folder = root / mount.lstrip("/") / path
            if ".." not in path.parts and folder.is_dir():
                yield folder, version


def text(path: Path) -> str:
    """A small file's text; empty where the kernel has none, which means that nothing is limited there."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _own_groups(controller: str, root: Path) -> Iterator[tuple[int, str]]:
    """(cgroup version, path) of this process, from lines such as ``4:cpu,cpuacct:/a`` and ``0::/a``."""
    for line in text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            yield 2, path
        elif controller in controllers.split(","):
            yield 1, path


def _mounts(controller: str, root: Path) -> Iterator[tuple[str, int]]:
    """(mount point, cgroup version) of the hierarchies that can hold the controller's limits."""
    for line in text(root / "proc/self/mountinfo").splitlines():
        fields, _, filesystem = line.partition(" - ")
        kind, _, options = filesystem.partition(" ")
        point = fields.split(" ")[4].encode().decode("unicode_escape")
        if kind == "cgroup2":
            yield point, 2
        elif kind == "cgroup" and controller in options.rpartition(" ")[2].split(","):
            yield point, 1
