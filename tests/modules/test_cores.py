"""Cores granted by cgroup quota and affinity, on recorded trees of both cgroup versions."""

import os

import pytest

from modules import cores

V1 = "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
V2 = "31 25 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


def tree(root, *, groups, mounts, files):
    """A root folder with /proc/self and the given cgroup files."""
    for path, text in {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def test_v2_quota(tmp_path):
    """A cgroup v2 quota of the process's own group is found, in cores."""
    root = tree(tmp_path, groups="0::/a/b\n", mounts=V2, files={"sys/fs/cgroup/a/b/cpu.max": "50000 100000\n"})
    assert cores.quotas(root) == [0.5]
    assert cores.granted(root) == 0.5


def test_v2_tightest_of_all_ancestors(tmp_path):
    """A quota of a group above counts as well, and the tightest one decides."""
    files = {
        "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
        "sys/fs/cgroup/a/cpu.max": "25000 100000\n",
        "sys/fs/cgroup/cpu.max": "75000 100000\n",
    }
    assert cores.granted(tree(tmp_path, groups="0::/a/b\n", mounts=V2, files=files)) == 0.25


def test_v1_quota(tmp_path):
    """A cgroup v1 quota is found beside other controllers, and -1 means none."""
    folder = "sys/fs/cgroup/cpu,cpuacct"
    files = {
        f"{folder}/docker/x/cpu.cfs_quota_us": "40000\n",
        f"{folder}/docker/x/cpu.cfs_period_us": "100000\n",
        f"{folder}/cpu.cfs_quota_us": "-1\n",
        f"{folder}/cpu.cfs_period_us": "100000\n",
    }
    groups = "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n0::/elsewhere\n"
    assert cores.quotas(tree(tmp_path, groups=groups, mounts=V1, files=files)) == [0.4]


def test_v1_in_a_container(tmp_path):
    """Where the group's path is the host's and not mounted, the mount's top is the container's own group."""
    folder = "sys/fs/cgroup/cpu,cpuacct"
    files = {f"{folder}/cpu.cfs_quota_us": "30000\n", f"{folder}/cpu.cfs_period_us": "100000\n"}
    assert cores.granted(tree(tmp_path, groups="4:cpu,cpuacct:/docker/abc\n", mounts=V1, files=files)) == 0.3


def test_no_cgroups(tmp_path):
    """Without any quota the affinity mask decides."""
    assert cores.granted(tmp_path) == len(os.sched_getaffinity(0))


def test_a_group_outside_the_namespace_is_not_followed(tmp_path):
    """A path with ``..``, as the kernel shows for groups outside the namespace, leads nowhere outside the mount."""
    files = {"sys/fs/cgroup/cpu.max": "max 100000\n", "sys/fs/cpu.max": "1000 100000\n"}
    assert cores.quotas(tree(tmp_path, groups="0::/../other\n", mounts=V2, files=files)) == []


def test_this_machine():
    """On the machine at hand, something between nothing and all cores is granted."""
    assert 0 < cores.granted() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("granted", "threads"), [(0.2, 1), (1.0, 1), (1.9, 1), (4.0, 4)])
def test_threads(granted, threads):
    """When a fraction of a core is granted it adds no thread, and there is always one."""
    assert cores.threads(granted) == threads
