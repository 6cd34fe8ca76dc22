"""One agent for each state folder, and no file of root's in a folder of the service's."""

import os
import pwd
import subprocess
import sys

import pytest

from agent.__main__ import main
from agent.occupied import holder, occupied
from agent.owner import act_as_owner, foreign
from modules.errors import BadSettings
from tests.agent.test_enroll import NAME, fleet  # noqa: F401 - a fixture
from tests.modules.test_images import docker_before_25
from tests.parts.pace import stretched
from tests.parts.warm import ROOT

NOBODY = pwd.getpwnam("nobody")


def test_a_second_agent_on_one_folder_is_refused_with_the_first_ones_process(tmp_path):
    """Both would take the broker session from each other; the second says who is there and what to do."""
    with (
        occupied(tmp_path),
        pytest.raises(BadSettings, match=rf"process {os.getpid()}.*systemctl stop"),
        occupied(tmp_path),
    ):
        pytest.fail("two agents on one folder")


def test_a_second_agent_on_one_runtime_folder_is_refused(tmp_path, monkeypatch, capsys):
    """With a state folder of its own it would still remove the sockets of the first one's modules."""
    monkeypatch.setenv("EDGEFLEET_AGENT_STATE", str(tmp_path))
    monkeypatch.setenv("EDGEFLEET_AGENT_RUNTIME", str(tmp_path / "run"))
    with occupied(tmp_path / "run", make=True):
        assert main(["run"]) == 1

    told = capsys.readouterr().err
    assert f"{tmp_path / 'run'}: an agent runs on this folder already (process {os.getpid()})" in told
    assert "set a runtime folder of its own for each agent" in told


def test_the_folder_is_free_again_however_the_agent_ended(tmp_path):
    """After SIGKILL nothing has to be removed by hand."""
    hold = f"from agent.occupied import occupied\nfrom pathlib import Path\nwith occupied(Path({str(tmp_path)!r})):"
    hold += "\n    print('held', flush=True)\n    input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        assert holder(tmp_path) == other.pid
        other.kill()
        other.wait()

    assert holder(tmp_path) is None
    with occupied(tmp_path):
        assert holder(tmp_path) == os.getpid()


def test_halt_is_refused_while_the_agent_runs(tmp_path, monkeypatch, capsys):
    """It would start at once again what was stopped; so it is not stopped at all, and the operator is told."""
    monkeypatch.setenv("EDGEFLEET_AGENT_STATE", str(tmp_path))
    with occupied(tmp_path):
        assert main(["halt"]) == 1

    assert "an agent runs on this folder already" in capsys.readouterr().err


def in_child(*arguments):
    """A child process, for one that became another user cannot take it back; the end of what it said, and its code."""
    # Not measured: coverage's file would be opened by a user who may not write where the tests run.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=env,
        check=False,
        capture_output=True,
        text=True,
        timeout=stretched(60),
    )
    return ended.returncode, ended.stderr[-500:]


@pytest.mark.needs("root")
def test_what_root_enrols_belongs_to_the_owner_of_the_state_folder(tmp_path, monkeypatch, fleet):  # noqa: F811
    """The service, which is not root, can read its own identity afterwards."""
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, NOBODY.pw_uid, NOBODY.pw_gid)
    for folder in (tmp_path, *(one for one in tmp_path.parents if one.name.startswith(("popen-", "pytest-")))):
        folder.chmod(0o755)
    bundle = tmp_path / "join.json"
    bundle.write_bytes(fleet.bundle())
    bundle.chmod(0o600)  # root's alone
    monkeypatch.setenv("EDGEFLEET_AGENT_STATE", str(state))
    arguments = ["enroll", str(bundle), "--name", NAME]
    # Loaded beforehand, for the Python of these tests may lie where only root may read.
    loaded = "import encodings.idna, agent.enroll, cryptography.hazmat.backends.openssl.backend, sys"
    enrol = f"{loaded}; from agent.__main__ import main; sys.exit(main({arguments!r}))"

    assert in_child("-c", enrol) == (0, "")

    made = [state / "identity", *(state / "identity").iterdir()]
    assert {path.name for path in made} >= {"identity", "key.pem", "device.json"}
    assert {path.stat().st_uid for path in made} == {NOBODY.pw_uid}


@pytest.mark.needs("root")
def test_nothing_of_root_s_rights_is_left(tmp_path):
    """Acting as the owner is for good: no way back to root."""
    os.chown(tmp_path, NOBODY.pw_uid, NOBODY.pw_gid)

    act = f"""
import os
from pathlib import Path
from agent.owner import act_as_owner, foreign
act_as_owner(Path({str(tmp_path)!r}))
assert (os.getuid(), os.geteuid(), 0 in os.getgroups()) == ({NOBODY.pw_uid}, {NOBODY.pw_uid}, False)
os.setuid(0)
"""
    code, said = in_child("-c", act)

    assert (code, said.strip().splitlines()[-1]) == (1, "PermissionError: [Errno 1] Operation not permitted")


@pytest.mark.needs("root")
def test_a_missing_state_folder_is_made_only_by_commands_that_fill_it(tmp_path):
    """A look leaves no trace."""
    act_as_owner(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    act_as_owner(tmp_path / "made", make=True)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o750


@pytest.fixture
def archive(tmp_path):
    """An image as docker save writes it, readable by root alone; the folders to it are open to all."""
    for folder in (tmp_path, *(one for one in tmp_path.parents if one.name.startswith(("popen-", "pytest-")))):
        folder.chmod(0o755)
    path = tmp_path / "image.tar"
    path.write_bytes(docker_before_25())
    path.chmod(0o600)
    return path


def imports(archive, state, monkeypatch, tmp_path):
    """What root's import says, on a device whose engine does not answer."""
    monkeypatch.setenv("EDGEFLEET_AGENT_STATE", str(state))
    monkeypatch.setenv("EDGEFLEET_AGENT_DOCKER_SOCKET", str(tmp_path / "docker.sock"))
    arguments = ["images", "import", str(archive)]
    # The service's user, and what is imported beforehand, for this Python may lie where only root may read.
    loaded = "import agent.side_load, agent.owner, sys; agent.owner.SERVICE_USER = 'nobody'"
    return in_child("-c", f"{loaded}; from agent.__main__ import main; sys.exit(main({arguments!r}))")


@pytest.mark.needs("root")
@pytest.mark.parametrize("there", [True, False], ids=["a state folder", "none yet"])
def test_what_root_imports_belongs_to_the_service(archive, tmp_path, monkeypatch, there):
    """Also from a file that the service may not read; without a folder, it is made for the service's user."""
    state = tmp_path / "state"
    if there:
        state.mkdir()
        os.chown(state, NOBODY.pw_uid, NOBODY.pw_gid)

    code, said = imports(archive, state, monkeypatch, tmp_path)

    assert (code, "no container engine answers here" in said) == (1, True)
    made = [state, state / "blobs", *(state / "blobs").iterdir()]
    assert len(made) >= 5
    assert {path.stat().st_uid for path in made} == {NOBODY.pw_uid}


@pytest.mark.needs("root")
def test_files_of_another_user_are_told_with_what_to_do(archive, tmp_path, monkeypatch):
    """What an earlier root has left is named by the import and by doctor, with the command that gives it back."""
    state = tmp_path / "state"
    (state / "blobs").mkdir(parents=True)
    os.chown(state, NOBODY.pw_uid, NOBODY.pw_gid)

    code, said = imports(archive, state, monkeypatch, tmp_path)

    assert code == 1
    assert f"{state}/blobs" in said
    assert f"chown -R --reference={state} {state}" in said
    assert foreign(state) == state / "blobs"
    subprocess.run(["chown", "-R", f"--reference={state}", str(state)], check=True)
    assert foreign(state) is None
    assert "no container engine answers here" in imports(archive, state, monkeypatch, tmp_path)[1]
