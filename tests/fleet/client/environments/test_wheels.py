"""Wheels for an image: resolved by pip, locked by digest; from a folder with packages that these tests make."""

import hashlib

import pytest

from fleet.client.environments.requirements import read_lines
from fleet.client.environments.wheels import LOCK, forget, locked
from fleet.client.images.pip import Inside
from modules.errors import Invalid, NeedsOperator
from tests.parts.packages import source, wheel

INSIDE = Inside(python="3.11", libc="glibc", version="2.36", machine="x86_64")


@pytest.fixture
def lock(tmp_path):
    def run(*lines, pins=()):
        return locked(read_lines(lines, where="x"), INSIDE, pins, tmp_path / "store", lambda _: None)

    return run


def names(found):
    return [f"{one.name}=={one.version}" for one in found.wheels]


def test_a_set_is_locked_with_all_that_it_needs(shop, lock):
    """What a package needs is in the set, and every line of the lock has the digest of its file."""
    wheel(shop, "alpha", "1.0", "Beta_Two>=2")
    file = wheel(shop, "beta_two", "2.0")

    found = lock("alpha")

    assert names(found) == ["alpha==1.0", "beta-two==2.0"]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert found.lock.splitlines()[1] == f"beta-two==2.0 --hash=sha256:{digest}"


def test_the_same_requirements_give_the_same_set_until_it_is_renewed(shop, lock, tmp_path):
    """A newer version does not come in by itself; once forgotten, the set is today's."""
    wheel(shop, "alpha", "1.0")
    first = lock("alpha")
    wheel(shop, "alpha", "2.0")

    assert lock("alpha") == first
    forget(read_lines(["alpha"], where="x"), INSIDE, (), tmp_path / "store")
    assert names(lock("alpha")) == ["alpha==2.0"]


def test_a_set_that_another_command_made_meanwhile_stays(shop, lock, tmp_path):
    """Two builds at once: neither takes away the files that the other installs from."""
    wheel(shop, "alpha", "1.0")
    others = []

    def meanwhile(_):
        if not others:
            others.append(lock("alpha").wheels[0].file.stat().st_ino)

    found = locked(read_lines(["alpha"], where="x"), INSIDE, (), tmp_path / "store", meanwhile)

    assert [found.wheels[0].file.stat().st_ino] == others


def test_a_set_that_was_changed_on_disk_is_refused(shop, lock):
    """What is in the store is held to its lock each time."""
    wheel(shop, "alpha", "1.0")
    file = lock("alpha").wheels[0].file
    file.write_bytes(file.read_bytes() + b"x")

    with pytest.raises(Invalid, match="not those that were locked"):
        lock("alpha")


def test_what_the_server_has_is_taken_where_it_will_do(shop, lock):
    """A version that the image holds already is preferred, and is not brought a second time."""
    for version in ("1.0", "2.0"):
        wheel(shop, "alpha", version)
    wheel(shop, "gamma", "1.0", "alpha")

    found = lock("gamma", pins=["alpha==1.0"])

    assert names(found) == ["alpha==1.0", "gamma==1.0"]
    assert names(found.beside(["alpha==1.0"])) == ["gamma==1.0"]


def test_a_users_version_wins_over_the_servers(shop, lock):
    """Requirements that fight with what the server has are not refused: the user's stand beside them."""
    for version in ("1.0", "2.0"):
        wheel(shop, "alpha", version)

    found = lock("alpha==2.0", pins=["alpha==1.0"])

    assert names(found.beside(["alpha==1.0"])) == ["alpha==2.0"]


def test_packages_that_do_not_go_together(shop, lock):
    """A conflict names both sides."""
    wheel(shop, "alpha", "1.0", "gamma==1.0")
    wheel(shop, "beta", "1.0", "gamma==2.0")
    for version in ("1.0", "2.0"):
        wheel(shop, "gamma", version)

    with pytest.raises(NeedsOperator, match=r"do not go together.*alpha 1.0 depends on gamma==1.0.*beta 1.0"):
        lock("alpha", "beta")


def test_a_source_in_pure_python_becomes_a_wheel(shop, lock):
    """What has no wheel is built here, where that gives one for every machine."""
    source(shop, "oldone", "1.0")
    wheel(shop, "alpha", "1.0", "oldone")

    assert names(lock("alpha")) == ["alpha==1.0", "oldone==1.0"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"tag": "cp311-cp311-linux_x86_64"}, "must be compiled"),
        ({"broken": True}, "cannot be made one.*no compiler here"),
    ],
    ids=["compiled", "broken"],
)
def test_a_source_that_must_be_compiled_is_refused_by_name(shop, lock, more, says):
    """Nothing that was compiled for this machine goes into an image; the error names package, image and reason."""
    source(shop, "fastone", "1.5", **more)

    with pytest.raises(NeedsOperator, match=says) as refused:
        lock("fastone")

    assert refused.value.element == "fastone"
    assert "Python 3.11, glibc 2.36" in refused.value.message
    assert "--base-image" in refused.value.remedy


def test_a_wheel_for_another_python_is_none(shop, lock):
    """A wheel that would not run in the image is not taken, and those that would are told."""
    wheel(shop, "alpha", "0.9")
    wheel(shop, "alpha", "1.0", tag="cp27-cp27m-linux_x86_64")

    with pytest.raises(NeedsOperator, match=r"there are wheels from 0\.9 to 0\.9"):
        lock("alpha==1.0")


def test_a_package_that_nobody_has(shop, lock):
    """A misspelt name is said to be one."""
    with pytest.raises(NeedsOperator, match="no such package") as refused:
        lock("nunpy")

    assert refused.value.element == "nunpy"


def test_nothing_to_install(shop, lock):
    """An environment without packages is an empty lock."""
    assert lock().lock == ""


def test_the_lock_lies_beside_its_wheels(shop, lock):
    """A set can be carried to another machine as a folder."""
    wheel(shop, "alpha", "1.0")
    found = lock("alpha")

    assert (found.wheels[0].file.parent / LOCK).read_text() == found.lock
