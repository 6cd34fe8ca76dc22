"""Memory granted by cgroups and machine, on recorded trees of both cgroup versions."""

from modules import memory

V1 = "30 25 0:26 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n"
V2 = "31 25 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
MACHINE = "MemTotal:       1024 kB\nMemFree:         100 kB\n"


def tree(root, *, groups="", mounts="", files=None):
    """A root folder with /proc and the given cgroup files."""
    fixed = {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, "proc/meminfo": MACHINE}
    for path, text in {**fixed, **(files or {})}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def test_v2_tightest_of_all_ancestors(tmp_path):
    """The tightest limit of the process's own group and those above it counts, in bytes."""
    files = {"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "4096\n"}
    assert memory.granted(tree(tmp_path, groups="0::/a/b\n", mounts=V2, files=files)) == 4096


def test_v1(tmp_path):
    """So does that of version 1; a number larger than the machine is no limit."""
    folder = "sys/fs/cgroup/memory/docker/x"
    groups = "5:memory:/docker/x\n0::/elsewhere\n"
    root = tree(tmp_path, groups=groups, mounts=V1, files={f"{folder}/memory.limit_in_bytes": "8192\n"})
    assert memory.granted(root) == 8192
    (root / folder / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert memory.granted(root) == 1 << 20


def test_without_limits(tmp_path):
    """Without cgroups the machine's memory counts, and without that nothing is known."""
    assert memory.granted(tree(tmp_path)) == 1 << 20
    (tmp_path / "proc/meminfo").unlink()
    assert memory.granted(tmp_path) is None
