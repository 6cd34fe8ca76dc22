"""A second team: devices accept what it publishes, and the first team's key does not sign for it."""

from datetime import UTC, datetime

import pytest

from fleet.client.signing.keys import key_file
from modules.names import ModuleRef
from modules.trust.device import Trust
from tests.doubles.keys import MemoryRoleVersions


@pytest.fixture
def device(fleet, tmp_path):
    """A device's own verifier, which follows the server from the root of its join bundle."""

    class Device:
        trust = Trust(
            tmp_path / "device",
            root=fleet.tuf("1.root.json"),
            fetch=lambda name, _limit: fleet.tuf(name),
            read_target=lambda *_: None,
            versions=MemoryRoleVersions(),
        )

        def accepts(self, ref):
            """The digest that it would run under this name; None where nobody has signed it."""
            self.trust.refresh(datetime.now(UTC))
            target = self.trust.manifest_target(ModuleRef.parse(ref).target)
            return target and target.sha256

    return Device()


@pytest.fixture
def register(run, linear_file):
    def make(team, name, **more):
        return run("models", "register", linear_file, "-n", name, "--team", team, "--engine", "process", **more)

    return make


def test_a_second_team_publishes_what_devices_accept(run, register, device, user, tmp_path):
    """Added with the owner's key, it signs with its own; a device that knew the first team only follows."""
    first = register("acme", "first")["ref"]
    run("modules", "sign", first, "--keys", user.keys)
    assert device.accepts(first)

    made = run("teams", "add", "vision", "--keys", user.keys, "--team-keys", tmp_path / "vision")
    assert made == {"team": "vision", "key": str(tmp_path / "vision/team-vision.pem")}
    ref = register("vision", "eyes")["ref"]
    assert device.accepts(ref) is None
    signed = run("modules", "sign", ref, "--keys", tmp_path / "vision")

    assert (signed["state"], device.accepts(ref)) == ("signed", signed["digest"])
    assert device.accepts(first)


def test_the_first_teams_key_does_not_sign_for_the_second(run, register, device, user):
    """Nor the second's for the first: the server refuses it, and a device finds nothing signed."""
    run("teams", "add", "audio", "--keys", user.keys)
    theirs, ours = register("audio", "ears")["ref"], register("acme", "mouth")["ref"]

    for ref, key in ((theirs, "team-acme"), (ours, "team-audio")):
        error = run("modules", "sign", ref, "--keys", key_file(user.keys, key), code=1)["error"]
        assert (error["code"], "0 of 1 signatures hold" in error["message"]) == ("untrusted", True)
        assert device.accepts(ref) is None


def test_only_the_owners_key_adds_a_team(run, user, fleet):
    """A team's key names no further team."""
    words = ("teams", "add", "mutiny", "--keys", key_file(user.keys, "team-acme"), "--team-keys", user.keys)

    assert run(*words, code=1)["error"]["code"] == "untrusted"
    assert "mutiny" not in [one["team"] for one in run("teams", "list")]
    # The key that was made meanwhile is used as soon as the owner does it.
    assert run("teams", "add", "mutiny", "--keys", user.keys)["key"].endswith("team-mutiny.pem")


def test_the_list_of_teams(run, register, user):
    """Each team with its key's id, how many releases it has signed, and until when that holds."""
    run("modules", "sign", register("other", "listed")["ref"], "--keys", user.keys)

    found = {one["team"]: one for one in run("teams", "list")}

    assert {"acme", "other"} <= set(found)
    assert found["other"]["releases"] == 1
    assert found["other"]["expires"] > datetime.now(UTC).timestamp()
    assert found["other"]["keys"] != found["acme"]["keys"]


def test_an_unknown_team_is_told_with_the_command_that_adds_it(run, register):
    """Nobody converts a model for a team that could never sign it."""
    error = register("nobody", "lost", code=1)["error"]

    assert "this fleet has no team nobody" in error["message"]
    assert "edgefleet teams add nobody --keys FOLDER" in error["remedy"]


def test_a_team_that_is_there_is_not_made_again(run, user, tmp_path):
    """And no key is made for nothing."""
    error = run("teams", "add", "acme", "--keys", user.keys, "--team-keys", tmp_path / "more", code=1)["error"]

    assert "has a team acme already" in error["message"]
    assert not (tmp_path / "more").exists()
