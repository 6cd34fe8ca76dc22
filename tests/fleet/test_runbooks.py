"""Each runbook of docs/runbooks.md, run as it stands there: what the thief could do, and what devices take after.

Device ``device`` is in touch all the time; ``late`` saw the fleet at its beginning, and then nothing until the end.
"""

import shutil
from datetime import UTC, datetime

import msgspec
import pytest

from fleet.authority import Authority
from fleet.folder import Folder
from modules.errors import Untrusted
from modules.names import Slug
from modules.signing import signer_from_pem
from modules.trust import repository, roles
from tests.doubles.keys import signer as new_signer
from tests.doubles.publisher import checked
from tests.parts.key_site import KeySite, signed_by
from tests.parts.pages import sections

# Each command is a process of its own, as an operator calls it: dozens of them, a second each on a busy machine.
pytestmark = [pytest.mark.needs("mosquitto"), pytest.mark.timeout(600)]

RUNBOOKS = sections("docs/runbooks.md")
CEREMONY = sections("docs/keys.md")


@pytest.fixture
def site(tmp_path):
    made = KeySite(tmp_path)
    yield made
    made.close()


@pytest.fixture
async def fleet(site):
    """A site with its keys at their holders, two releases, and two devices that run the first."""
    site.found()
    releases = site.publish("acme/team-acme.pem", b"one", b"two")
    device, late = site.device(), site.device("late")
    for one in (device, late):
        await one.accept(releases[0], signer=site.director())
    return site, releases, device, late


def run(site, heading, block=0, **instead):
    return site.terminal.paste(RUNBOOKS[heading][block], instead=instead)


def refusal(answer):
    assert answer.status_code in {400, 409, 422, 403}, answer.text
    return answer.json()["detail"]


async def both_take(fleet, *, counter=2):
    """Device and late device take an order of the server's director for the second release."""
    site, releases, *devices = fleet
    for one in devices:
        await one.accept(releases[1], signer=site.director(), counter=counter)


@pytest.mark.long
async def test_the_root_ceremony(site):
    """docs/keys.md as a walk-through: keys part, root is renewed on two machines, every role gets new keys."""
    stands, ceremony, more = (CEREMONY[name] for name in ("How they stand", "The root ceremony", "New keys for a role"))
    init, renewed, by_anna, by_ben, sent, at_once = ceremony
    site.terminal.paste(init)
    assert "2 of 3" in site.terminal.paste(stands[0])
    release = site.publish("acme/team-acme.pem", b"one")[0]
    device, late = site.device(), site.device("late")
    await late.accept(release, signer=site.director())

    assert "0 of 2 of the root keys signed" in site.terminal.paste(renewed)
    assert "1 of 2 of the root keys signed" in site.terminal.paste(by_anna)
    assert "too few keys have signed" in site.terminal.paste("edgefleet keys submit ceremony", fails=True)
    assert "Nothing is missing" in site.terminal.paste(by_ben)
    site.terminal.paste(sent)
    site.terminal.paste(at_once)
    assert site.status()["root"]["version"] == 3
    await device.accept(release, signer=site.director())

    for block in more:
        site.terminal.paste(block)
    stands = site.status()
    assert stands["root"]["keys"] == [site.keyid(f"{who}.pem") for who in ("dora/root-1", "emil/root-2", "fay/root-3")]
    assert stands["team-acme"]["keys"] == [site.keyid("acme/team-acme-2.pem")]
    assert all(one["staged"] is None for one in stands.values())
    for one in (device, late):
        await one.accept(release, signer=site.director(), counter=2)


@pytest.mark.long
async def test_one_root_key_is_lost(fleet):
    """With Carol's key gone, Dora's takes its place; a device far behind follows."""
    site, _, _, _ = fleet
    lost = site.keyid("carol/root-3.pem")
    (site.desk / "carol/root-3.pem").unlink()
    run(site, "One root key is lost", KEYID=lost)

    keys = site.status()["root"]["keys"]
    assert lost not in keys
    assert site.keyid("dora/root-4.pem") in keys
    assert len(keys) == 3
    await both_take(fleet)


@pytest.mark.long
async def test_one_root_key_is_stolen(fleet):
    """One key makes no root, before and after; with it and an honest key, a root is refused once it is out."""
    site, releases, device, _ = fleet
    thief, anna = site.signer("carol/root-3.pem"), site.signer("anna/root-1.pem")
    evil = new_signer()
    alone = signed_by(site.root(), thief, change=lambda root: root.add_key(evil.public_key, "root"))
    assert "1 of 2 of the present root keys signed" in refusal(site.send(root=alone))
    device.tampered["2.root.json"] = alone
    with pytest.raises(Untrusted):
        await device.accept(releases[0], signer=site.director())
    device.tampered.clear()

    said = run(site, "One root key is stolen", KEYID=thief.public_key.keyid)
    assert "needs all of them" in said
    keys = site.status()["root"]["keys"]
    assert thief.public_key.keyid not in keys
    assert len(keys) == 3
    assert "1 of 2" in refusal(site.send(root=signed_by(site.root(), thief, anna)))
    await both_take(fleet)


@pytest.mark.long
async def test_two_root_keys_are_lost_or_stolen(fleet):
    """A new fleet: who has the old root refuses the new one's, who enrols with the new bundle has it."""
    site, releases, device, _ = fleet
    heading = "Two root keys are lost or stolen"
    run(site, heading, 0)
    data = Folder(site.desk / "new-fleet")
    with site.another_server(data) as server:
        run(site, heading, 1, **{"NEW-SERVER": server.url})
        run(site, heading, 2)
        with server.client() as http:
            root = checked(http.get("/api/v1/tuf/root.json")).content
            device.tampered |= {"2.root.json": root, "timestamp.json": http.get("/api/v1/tuf/timestamp.json").content}
    with pytest.raises(Untrusted):
        await device.accept(releases[0], signer=site.director())
    assert (site.desk / "new-state/identity/root.json").read_bytes() == root


async def test_the_targets_key_is_lost(fleet):
    """Two root keys name another, which signs the targets metadata again in the same step."""
    site, _, _, _ = fleet
    (site.desk / "owner/targets.pem").unlink()
    run(site, "The targets key is lost")
    assert site.status()["targets"]["keys"] == [site.keyid("owner/targets-2.pem")]
    await both_take(fleet)


@pytest.mark.long
async def test_the_targets_key_is_stolen(fleet):
    """The thief names a team of his own; after the change he names none, his team is ours, devices refuse his list."""
    site, releases, _, late = fleet
    thief, evil = site.signer("owner/targets.pem"), Slug("evil")
    now, his_team = datetime.now(UTC), new_signer()
    body = {
        "team": evil,
        "targets": repository.delegate_team(
            site.file("targets"), team=evil, keys=[his_team.public_key], signers=[thief], now=now
        ),
        "metadata": repository.create_team(team=evil, signers=[his_team], now=now),
    }
    checked(site.http().post("/api/v1/tuf-teams", json=msgspec.to_builtins(body)))
    assert "evil" in run(site, "The targets key is stolen")
    site.terminal.paste("edgefleet keys make owner/evil.pem")
    site.terminal.paste("edgefleet keys rotate team-evil --new-key owner/evil.pem --key owner/targets-2.pem")

    stands = site.status()
    assert stands["targets"]["keys"] == [site.keyid("owner/targets-2.pem")]
    assert stands["team-evil"]["keys"] == [site.keyid("owner/evil.pem")]
    his = signed_by(site.file("targets"), thief)
    assert "0 of 1 signatures hold" in refusal(site.send(targets=his))
    late.tampered[f"{stands['targets']['version']}.targets.json"] = his
    with pytest.raises(Untrusted):
        await late.accept(releases[1], signer=site.director(), counter=2)
    late.tampered.clear()
    await both_take(fleet)


@pytest.mark.long
async def test_a_teams_key_is_lost(fleet):
    """The owner names another; every release is found as before."""
    site, _, _, _ = fleet
    (site.desk / "acme/team-acme.pem").unlink()
    run(site, "A team's key is lost")
    assert site.status()["team-acme"]["keys"] == [site.keyid("acme/team-acme-2.pem")]
    await both_take(fleet)


@pytest.mark.long
async def test_a_teams_key_is_stolen(fleet):
    """The thief published; after the change he does not, and below the floor nothing is accepted, whoever orders it."""
    site, releases, device, late = fleet
    thief = site.signer("acme/team-acme.pem")
    site.send_team(signed_by(site.file("team-acme"), thief))
    run(site, "A team's key is stolen")

    answer = site.http().post("/api/v1/tuf/teams/acme", content=signed_by(site.file("team-acme"), thief))
    assert "0 of 1 signatures hold" in refusal(answer)
    for one in (device, late):
        with pytest.raises(Untrusted, match="below-floor"):
            await one.accept(releases[0], signer=site.director(), counter=2)
    await both_take(fleet)


@pytest.mark.long
async def test_the_directors_key_is_stolen(fleet):
    """The thief orders what is published, and pushes the counter; after the change his orders are refused."""
    site, releases, device, late = fleet
    thief = site.director()
    await device.accept(releases[1], signer=thief, counter=1_000_000)
    with pytest.raises(Untrusted, match="old-order"):
        await device.accept(releases[0], signer=thief, counter=2)
    run(site, "The director's key is stolen")

    assert site.director().public_key.keyid != thief.public_key.keyid
    for one in (device, late):
        with pytest.raises(Untrusted, match="0 of 1 signatures hold"):
            await one.accept(releases[1], signer=thief, counter=1_000_001)
    await both_take(fleet)


@pytest.mark.long
async def test_the_snapshot_or_timestamp_key_is_stolen(fleet):
    """The thief shows a device a number so high that honest news looks old; new keys undo that."""
    site, releases, device, _ = fleet
    thief = signer_from_pem(site.data.online_key(roles.TIMESTAMP).read_bytes())
    ahead = signed_by(site.file("timestamp"), thief, change=lambda one: setattr(one, "version", 1_000_000))
    device.tampered["timestamp.json"] = ahead
    await device.accept(releases[0], signer=site.director())
    device.tampered.clear()
    with pytest.raises(Untrusted):
        await device.accept(releases[0], signer=site.director())
    run(site, "The snapshot or timestamp key is stolen")

    await both_take(fleet)
    device.tampered["timestamp.json"] = ahead
    with pytest.raises(Untrusted):
        await device.accept(releases[1], signer=site.director(), counter=2)


@pytest.mark.long
async def test_the_device_ca_is_stolen(fleet):
    """Whoever has the CA may be any device, and still brings no order and no release to one."""
    site, releases, device, late = fleet
    authority = Authority.load(site.data.ca)
    assert authority is not None
    thief = site.director()
    with pytest.raises(Untrusted, match="0 of 1 signatures hold"):
        await device.accept(releases[1], signer=new_signer(), counter=2)
    run(site, "The device CA is stolen")

    for one in (device, late):
        with pytest.raises(Untrusted, match="0 of 1 signatures hold"):
            await one.accept(releases[1], signer=thief, counter=2)
    await both_take(fleet)


@pytest.mark.long
async def test_the_servers_data_folder_is_lost_and_restored_from_a_backup(fleet):
    """What devices saw after the backup was made is older there; with new keys and higher versions they go on."""
    site, releases, device, late = fleet
    heading = "The server's data folder is lost, and restored from a backup"
    site.stop()
    shutil.copytree(site.data.root, site.folder / "backup")
    site.start()
    site.terminal.paste("edgefleet keys renew targets team-acme --key owner/targets.pem --key acme/team-acme.pem")
    await device.accept(releases[0], signer=site.director(), counter=900)
    site.stop()
    shutil.rmtree(site.data.root)
    shutil.copytree(site.folder / "backup", site.data.root)
    site.start()
    with pytest.raises(Untrusted):
        await device.accept(releases[0], signer=site.director(), counter=901)
    with pytest.raises(AssertionError, match="Error:"):
        site.terminal.paste("edgefleet keys status")
    site.stop()

    run(site, heading, 0)
    site.start()
    run(site, heading, 1)
    await both_take((site, releases, device, late))
    assert site.status()["targets"]["version"] > 1000


@pytest.mark.long
async def test_what_cannot_be_done_is_refused_with_what_to_do(fleet):
    """The last key of a role, a server's key from elsewhere, an unknown role or key, a key that signs nothing of it."""
    site, _, _, _ = fleet
    stands = site.status()
    owner, anna = "--key owner/targets.pem", "--key anna/root-1.pem"
    for command, said in {
        f"revoke targets {stands['targets']['keys'][0]} {anna}": "too few keys would be left: 0, and 1 must sign",
        f"revoke director {stands['director']['keys'][0][:8]} {owner}": "edgefleet-fleet keys new director",
        f"revoke root {stands['root']['keys'][0][:4]} {anna}": "4 letters are too few",
        f"revoke root 00000000 {anna}": "name one of:",
        f"rotate director {owner}": "no new key of director waits on the fleet server",
        f"rotate director --new-key ben/root-2.pem {owner}": "made on the fleet server and never leaves it",
        f"rotate targets {anna}": "no new key is named",
        f"rotate team-nobody --new-key ben/root-2.pem {owner}": "there is no such role",
        f"rotate root --new-key ben/root-2.pem {anna}": "too few keys are named: 1, and 2 must sign",
        f"rotate targets --new-key anna/root-1.pem {anna} --key ben/root-2.pem": "is a key of root already",
        f"renew root {anna}": "1 of 2 of the root keys signed",
        f"renew root {owner}": "may sign none of it",
        "renew snapshot": "signs it by itself",
        "sign nowhere --key anna/root-1.pem": "bring the whole folder",
        "submit nowhere": "bring the whole folder",
        "make anna/root-1.pem": "keys are never overwritten",
    }.items():
        assert said in site.terminal.paste(f"edgefleet keys {command}", fails=True), command
        assert '"error"' in site.terminal.paste(f"edgefleet keys {command} --json", fails=True)
    assert site.status() == stands


@pytest.mark.long
async def test_nonsense_is_refused_and_changes_nothing(fleet):
    """Whatever is sent as new metadata is an answer in words, and the server goes on."""
    site, _, _, _ = fleet
    stands, root, targets = site.status(), site.root(), site.file("targets")
    deep = b"[" * 10_000
    for parts in (
        *({name: data} for name in ("root", "targets") for data in (b"", b"{}", b"null", deep, b"\xff\x00", root[:-9])),
        {"root": targets},
        {"targets": root},
        {"teams": {"acme": root}},
        {"teams": {"acme": targets}},
        {"teams": {"../x": root}},
        {"teams": {"nobody": site.file("team-acme")}},
        {"targets": targets.replace(b'"version":1', b'"version":' + b"9" * 40)},
        {"root": root.replace(b'"expires":"2', b'"expires":"9')},
    ):
        refusal(site.send(**parts))
    assert site.http().get("/healthz").is_success
    assert site.status() == stands
    assert "Traceback" not in site.server.log()


@pytest.mark.long
async def test_the_server_on_the_same_machine_is_told_where_the_keys_are(site):
    """Made beside the server and left there, they keep it from starting again; moved away, they do not."""
    site.terminal.paste("edgefleet keys init keys --team acme")
    site.stop()
    with pytest.raises(AssertionError, match="this server can read offline keys"):
        site.start(insecure_demo_keys="false")
    (site.desk / "keys").rename(site.folder / "away")
    site.start(insecure_demo_keys="false")
    assert site.http().get("/healthz").json()["notes"] == []
    assert "may read the offline keys" not in site.terminal.paste("edgefleet status")


def test_every_runbook_is_run():
    """A runbook that is added gets a test: each heading of the page is one of these."""
    tried = {name.removeprefix("test_").replace("_", " ") for name in globals() if name.startswith("test_")}
    headings = {heading.lower().replace("'s", "s").replace(",", "") for heading in RUNBOOKS}
    assert headings <= tried
