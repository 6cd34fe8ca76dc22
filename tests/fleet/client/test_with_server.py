"""The commands against a real fleet server: founded, a model registered, signed, checked, and fetched back."""

import base64
import json
from pathlib import Path

import pytest
import zxingcpp
from PIL import Image
from typer.testing import CliRunner

from fleet.client import config
from fleet.client.api import Fleet
from fleet.client.cli import app
from fleet.client.publishing import register
from fleet.client.publishing.register import Model
from fleet.client.signing.keys import key_file, load_signer
from fleet.client.signing.sign import sign
from fleet.client.signing.trusted import Trusted
from fleet.client.workspace import Workspace
from modules import canonical
from modules.errors import Invalid, LinkLost, Refused, Untrusted
from modules.names import ModuleRef
from modules.protocol import join_code
from modules.trust import roles
from tests.parts.mosquitto import HOST, free_port


def test_a_model_goes_from_file_to_signed_module(run, draft, user):
    """Registered as a draft, signed, verified: the server's digest is the publisher's own."""
    ref = draft("journey", "--tag", "run=7", "--probation", "30s", "--memory-mb", "64")

    assert [one["state"] for one in run("modules", "list") if one["ref"] == ref] == ["draft"]
    assert run("modules", "sign", ref, "--keys", user.keys)["state"] == "signed"
    assert run("modules", "verify", ref)["own_files"] == "the same"

    shown = run("models", "show", ref)
    team = load_signer(key_file(user.keys, "team-acme"), user.environment["EDGEFLEET_PASSPHRASE"])
    assert shown["signers"] == [team.public_key.keyid]
    assert shown["bytes"] >= sum(one["length"] for one in shown["manifest"]["files"])
    manifest = shown["manifest"]
    assert manifest["tags"] == {"run": "7"}
    assert manifest["proof"]["probation_s"] == 30
    assert manifest["proof"]["limits"]["memory_mb"] == 64


def test_signing_twice_changes_nothing(run, draft, user):
    """A repeated command finds the module signed."""
    ref = draft("twice", "--key", user.keys)

    assert run("modules", "sign", ref, "--keys", user.keys)["state"] == "signed"


def test_a_download_is_the_registered_file(run, draft, linear_file, tmp_path):
    """The files come back as they were, and nothing is overwritten."""
    ref = draft("back")

    run("models", "download", ref, "--to", tmp_path / "got")

    assert (tmp_path / "got/model/linear.onnx").read_bytes() == linear_file.read_bytes()
    assert "there already" in run("models", "download", ref, "--to", tmp_path / "got", code=1)["error"]["message"]


def test_a_draft_verifies_as_unsigned(run, draft):
    """Nobody takes a draft for something that was signed."""
    ref = draft("unsigned")
    assert run("models", "show", ref)["signers"] == []
    error = run("modules", "verify", ref, code=1)["error"]

    assert (error["code"], error["message"]) == ("untrusted", "nobody has signed it")


def test_changed_files_are_not_signed(run, draft, user):
    """What was changed in the workspace since registration gets no signature."""
    ref = draft("changed")
    folder = Workspace(user.home / "workspace").module(ModuleRef.parse(ref))
    (folder / "files/model/linear.onnx").write_bytes(b"something else")

    error = run("modules", "sign", ref, "--keys", user.keys, code=1)["error"]

    assert "linear.onnx has changed" in error["message"]


def test_a_draft_that_the_server_changed_is_not_signed(run, draft, user):
    """The publisher signs the bytes of the own workspace or nothing."""
    ref = draft("swapped")
    file = Workspace(user.home / "workspace").module(ModuleRef.parse(ref)) / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b'"description":""', b'"description":"x"'))

    assert run("modules", "sign", ref, "--keys", user.keys, code=1)["error"]["code"] == "untrusted"


def test_another_teams_key_is_refused(run, draft, user):
    """A key signs for its own team alone."""
    error = run("modules", "sign", draft("foreign"), "--keys", user.keys / "team-other.pem", code=1)["error"]

    assert error["code"] in {"untrusted", "bad-settings", "invalid"}


def test_a_wrong_passphrase_is_said(run, draft, user, monkeypatch):
    """The error names the key's file, never the key."""
    ref = draft("passphrase")
    monkeypatch.setenv("EDGEFLEET_PASSPHRASE", "another one entirely")

    error = run("modules", "sign", ref, "--keys", user.keys, code=1)["error"]

    assert "passphrase" in error["message"]
    assert error["element"].endswith("team-acme.pem")


def test_keys_are_founded_once(run, user, tmp_path):
    """A fleet that has its root gets no second one, and no key is made for nothing."""
    error = run("keys", "init", tmp_path / "more", "--team", "acme", code=1)["error"]

    assert "root of trust already" in error["message"]
    assert not (tmp_path / "more").exists()


class Interrupted(Trusted):
    """Somebody else of the team signs between reading the metadata and sending it."""

    def __init__(self, *parts, between):
        super().__init__(*parts)
        self._between = between

    def team_files(self, ref):
        present = super().team_files(ref)
        between, self._between = self._between, lambda: None
        between()
        return present


def test_signing_is_repeated_when_somebody_signed_in_between(draft, user, fleet, silent):
    """Two publishers of a team at once both get their module signed."""
    mine, theirs = ModuleRef.parse(draft("mine")), ModuleRef.parse(draft("theirs"))
    signers = [load_signer(key_file(user.keys, "team-acme"), user.environment["EDGEFLEET_PASSPHRASE"])]
    parts = {"signers": signers, "fleet": fleet, "workspace": Workspace(user.home / "workspace"), "step": silent}
    plain = Trusted(fleet, user.home)
    interrupted = Interrupted(fleet, user.home, between=lambda: sign(theirs, trusted=plain, **parts))

    assert sign(mine, trusted=interrupted, **parts).state == "signed"
    assert fleet.module(theirs).state == "signed"


class Hostile(Fleet):
    """A server that adds a module of its own to a team's metadata."""

    def tuf(self, name):
        data = super().tuf(name)
        return data.replace(b"modules/acme/", b"modules/evil/") if data and "team-acme" in name else data


def test_metadata_that_the_team_did_not_sign_is_never_extended(draft, user, fleet, silent, tmp_path):
    """A hostile server cannot have its own entries signed along with a new module."""
    ref = ModuleRef.parse(draft("hostile", "--key", user.keys))
    signers = [load_signer(key_file(user.keys, "team-acme"), user.environment["EDGEFLEET_PASSPHRASE"])]
    workspace = Workspace(user.home / "workspace")

    with Hostile(config.load()) as hostile, pytest.raises(Untrusted):
        sign(ref, signers=signers, fleet=hostile, trusted=Trusted(hostile, tmp_path), workspace=workspace, step=silent)


def test_another_root_than_the_pinned_one_is_refused(fleet, user):
    """A server that was set up anew is not silently trusted."""
    with pytest.raises(Untrusted, match="another root is pinned"):
        Trusted(fleet, user.home).pin(b"{}")


def test_nothing_is_sent_of_a_model_that_fails(run, fleet, tmp_path):
    """A file that is no model uses up no version and leaves nothing on the server."""
    (tmp_path / "model.onnx").write_bytes(b"no model")
    words = ("models", "register", tmp_path / "model.onnx", "-n", "broken", "--team", "acme", "--engine", "process")

    assert run(*words, code=1)["error"]["code"] == "invalid"
    assert fleet.reserve_version("acme", "broken") == "1"


def test_a_workspace_of_another_server_is_not_overwritten(user, run, linear_file, fleet, silent):
    """A folder of the same name and version stays, and the draft is not sent."""
    workspace = Workspace(user.home / "workspace")
    taken = workspace.module(ModuleRef.parse("acme/taken:1"))
    taken.mkdir(parents=True)
    model = Model(path=linear_file, team="acme", name="taken", engine="process")

    with pytest.raises(Exception, match="another module of this name") as caught:
        register.register(model, fleet, workspace, silent)

    assert caught.value.remedy
    with pytest.raises(Refused, match="no such module"):
        fleet.module(ModuleRef.parse("acme/taken:1"))


def test_a_draft_whose_registration_was_broken_off_can_be_signed(user, run, linear_file, fleet, silent, monkeypatch):
    """Ctrl-C, or a lost connection, while the server's answer is on its way: the very files are in the workspace."""
    send = Fleet.put_draft

    def broken_off(self, ref, manifest):
        send(self, ref, manifest)
        raise KeyboardInterrupt

    monkeypatch.setattr(Fleet, "put_draft", broken_off)
    with pytest.raises(KeyboardInterrupt):
        register.register(
            Model(path=linear_file, team="acme", name="brokenoff", engine="process"),
            fleet,
            Workspace(user.home / "workspace"),
            silent,
        )

    assert run("modules", "sign", "acme/brokenoff:1", "--keys", user.keys)["state"] == "signed"


def test_a_draft_that_the_server_refuses_leaves_no_files(user, run, linear_file, fleet, silent, monkeypatch):
    """What nobody can sign does not stay in the workspace."""

    def refused(self, ref, manifest):
        raise Refused("no")

    monkeypatch.setattr(Fleet, "put_draft", refused)
    workspace = Workspace(user.home / "workspace")
    with pytest.raises(Refused):
        register.register(
            Model(path=linear_file, team="acme", name="unwanted", engine="process"), fleet, workspace, silent
        )

    assert [ref for ref in workspace.modules() if ref.name == "unwanted"] == []


def test_a_blob_that_changes_on_the_way_is_refused(fleet):
    """The server recomputes every digest; its reason reaches the publisher."""
    with pytest.raises(Invalid):
        fleet.put_blob("sha256:" + "0" * 64, 3, iter([b"abc"]))


def test_a_join_bundle_is_private(run, tmp_path):
    """The bundle holds a secret, so only its owner can read the file."""
    file = tmp_path / "join.json"

    run("devices", "join", "--out", file, "--uses", 2, "--expires", "1h")
    bundle = json.loads(file.read_bytes())

    assert file.stat().st_mode & 0o777 == 0o600
    assert bundle["format"] == "edgefleet.join/1"
    assert json.loads(base64.b64decode(bundle["root"]))["signed"]["_type"] == "root"


def test_a_join_bundle_can_be_scanned(run, tmp_path):
    """What a scanner reads of the picture is the bundle, and the picture is as private."""
    file, picture = tmp_path / "join.json", tmp_path / "join.png"

    said = run("devices", "join", "--out", file, "--qr", picture)
    (read,) = zxingcpp.read_barcodes(Image.open(picture))

    assert said["qr"] == str(picture)
    assert picture.stat().st_mode & 0o777 == 0o600
    assert canonical.encode(join_code.decode(read.bytes)) == file.read_bytes()


def test_a_picture_of_no_known_kind_makes_no_bundle(run, tmp_path):
    """Nobody is let in by a bundle that nobody has."""
    before = len(run("devices", "joins", "list"))

    error = run("devices", "join", "--out", tmp_path / "join.json", "--qr", tmp_path / "join.gif", code=1)["error"]

    assert "write --qr FILE.svg or FILE.png" in error["remedy"]
    assert list(tmp_path.iterdir()) == []
    assert len(run("devices", "joins", "list")) == before


def test_a_rollout_without_devices_says_so(run, draft, user):
    """Nothing that would do nothing is started."""
    ref = draft("nowhere", "--key", user.keys)

    error = run("rollouts", "start", ref, "--slot", "s", "--selector", "*", code=1)["error"]

    assert error["code"] == "unfit"
    assert run("rollouts", "list") == []


@pytest.mark.parametrize(
    ("options", "where", "what"),
    [
        (("--selector", "site"), "selector", "cannot read 'site'"),
        (("--selector", "site=berlin"), "selector", "matches no device"),
        (("--device", "nobody"), "nobody", "no such device"),
        (("--wave", "0"), "policy.waves[0].count", "Expected"),
        (("--wave", "100%", "--wave", "5"), "policy.waves", "would have no device"),
        (("--success", "95", "--failure", "10"), "policy.waves, wave 1", "both cannot be"),
        (("--soak", "10"), "policy.soak", "not of the form"),
        (("--starts", "2020-01-01T00:00:00Z"), "policy.starts", "is over"),
        (("--deadline", "0s"), "policy.deadline", "no device could be in time"),
    ],
)
def test_what_can_never_be_met_is_refused_on_the_command_line(run, draft, user, options, where, what):
    """With what, where and what to do; nothing is there afterwards, not even of a dry run."""
    ref = draft("refused", "--key", user.keys)
    meant = () if {"--selector", "--device"} & set(options) else ("--selector", "*")
    for dry in ((), ("--dry-run",)):
        error = run("rollouts", "start", ref, "--slot", "s", *meant, *options, *dry, code=1)["error"]
        assert (error["element"], what in error["message"], error["remedy"] != "") == (where, True, True), error
    assert run("rollouts", "list") == []


def test_a_rollout_may_fall_back_to_hosts_that_the_publisher_named_and_no_other(run, draft, user):
    """What the publisher's ``--fallback-host`` names is signed, and decides what a rollout's ``--fallback`` may be."""
    ref = draft("cloudy", "--key", user.keys, "--fallback-host", "*.example.org")
    start = ("rollouts", "start", ref, "--slot", "s", "--selector", "*", "--fallback")

    assert run("models", "show", ref)["manifest"]["fallback_hosts"] == ["*.example.org"]
    # As far as the devices, of which there are none here.
    assert run(*start, "https://eu.example.org/score", code=1)["error"]["code"] == "unfit"
    refused = run(*start, "https://example.net/score", code=1)["error"]
    assert refused["code"] == "invalid"
    assert "example.net" in json.dumps(refused)


def test_a_wrong_token_is_not_kept(server, tmp_path, monkeypatch):
    """Login fails with a token that does not hold, and writes nothing."""
    monkeypatch.setenv("EDGEFLEET_HOME", str(tmp_path))
    done = CliRunner().invoke(app, ["login", server.url, "--token", "wrong", "--ca", str(server.data.ca)])

    assert done.exit_code == 1
    assert "token" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_another_certificate_authority_is_not_trusted(server, tmp_path, monkeypatch):
    """Without the fleet's CA the connection is refused, with the option to name it."""
    monkeypatch.setenv("EDGEFLEET_HOME", str(tmp_path))
    done = CliRunner().invoke(app, ["login", server.url, "--token", server.token])

    assert done.exit_code == 1
    assert "--ca FILE" in done.stderr


def test_a_server_that_is_away_is_named(run, monkeypatch):
    """The error says which address did not answer."""
    url = f"https://{HOST}:{free_port()}"
    monkeypatch.setenv("EDGEFLEET_URL", url)

    error = run("status", code=1)["error"]

    assert (error["code"], error["element"]) == (LinkLost.code, url)


def test_status_counts(run):
    """One look says whether the server answers and what is in the workspace."""
    found = run("status")

    assert found["server"]["status"] == "ok"
    assert found["modules"] == len(run("modules", "list"))
    assert Path(found["workspace"]).name == "workspace"


def test_events_are_shown_newest_first(run, draft, user):
    """What was founded and published can be looked up by whoever is woken."""
    draft("seen", "--key", user.keys)

    found = run("events", "--limit", "100")

    assert found[0]["kind"] == "team-published"
    assert "trust-founded" in [one["kind"] for one in found]
    assert [one["at"] for one in found] == sorted((one["at"] for one in found), reverse=True)


def test_a_team_moves_into_bins_by_itself(draft, run, user, fleet, silent, monkeypatch):
    """The release that is one too many for the team's role moves all into bins; nobody has to know, before or after."""
    first, second, third = (ModuleRef.parse(draft(name)) for name in ("one", "two", "three"))
    signers = [load_signer(key_file(user.keys, "team-acme"), user.environment["EDGEFLEET_PASSPHRASE"])]
    trusted = Trusted(fleet, user.home)
    parts = {"signers": signers, "fleet": fleet, "workspace": Workspace(user.home / "workspace"), "step": silent}
    before = run("teams", "list")[0]["releases"]
    sign(first, trusted=trusted, **parts)
    assert list(trusted.team_files(first)) == ["team-acme"]

    monkeypatch.setattr(roles, "MOST_IN_ONE_ROLE", 1)
    for ref in (second, third):
        assert sign(ref, trusted=trusted, **parts).state == "signed"
    assert sorted(trusted.team_files(third)) == [roles.bin_of("acme", third.target), "team-acme"]
    assert run("teams", "list")[0]["releases"] == before + 3
    assert all(trusted.signed_digest(ref) == fleet.module(ref).digest for ref in (first, second, third))


@pytest.mark.parametrize("said", [("--team-replicas", "2"), ("--team-memory", "1Gi"), ("--price-per-1000", "0.5")])
def test_a_target_is_bounded_and_priced_by_one_command(run, said):
    """Each of its options reaches the server, which knows no such target; with none, nothing is asked."""
    assert run("targets", "set", "nowhere", *said, code=1)["error"]["message"] == "there is no such target"
    assert "nothing is to be changed" in run("targets", "set", "nowhere", code=1)["error"]["message"]
