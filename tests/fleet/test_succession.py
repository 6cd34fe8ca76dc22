"""Keys that change hands, as the server takes them: by the TUF rules, all or nothing, and only forward."""

import os
import stat
import time
from datetime import UTC, datetime

import pytest
from securesystemslib.signer import CryptoSigner
from sqlalchemy import insert, select
from tuf.api.metadata import Metadata as Envelope

from fleet import endings, online_keys
from fleet.blobs import Blobs
from fleet.command_tables import commands
from fleet.db import Database
from fleet.folder import Folder
from fleet.metadata import Metadata
from fleet.orders import Orders
from fleet.refusals import Missing
from fleet.registry import Registry
from fleet.setup import initialise
from fleet.tables import devices, events
from modules import canonical
from modules.errors import BadSettings, Invalid, Untrusted
from modules.names import DeviceId
from modules.protocol import commands as command_wire
from modules.protocol.commands import Command
from modules.protocol.order import LIMIT
from modules.signing import COMMAND_TYPE, ORDER_TYPE, opened, sign
from modules.trust import drafts, team_files
from modules.trust.device import Trust
from tests.doubles.keys import MemoryRoleVersions
from tests.doubles.publisher import Publisher

DAY_S = 86400


class Site:
    """The server's metadata on a data folder of its own, the owner's keys, and a clock that tests move."""

    def __init__(self, folder):
        self.now = time.time()
        self.data = Folder(folder / "data")
        initialise(self.data, self.clock)
        self.database = Database.at(self.data.database)
        self.blobs = Blobs(self.data.blobs)
        self.start()
        self.owner = Publisher()
        self.owner.prepare(self.metadata.online_keys())
        first = {name: getattr(self.owner.founded, name) for name in ("root", "targets", "director")}
        self.metadata.bootstrap(**first, teams={self.owner.team: self.owner.metadata})

    def start(self):
        self.metadata = Metadata(self.database, self.blobs, Registry(self.blobs), self.data, self.clock)

    def clock(self):
        return self.now

    @property
    def date(self):
        return datetime.fromtimestamp(self.now, UTC)

    def file(self, role):
        return self.metadata.file(f"{role}.json")

    def version(self, role):
        return Envelope.from_bytes(self.file(role)).signed.version

    def next_root(self, *signers, keys=None, change=lambda _root: None):
        """The next root, after ``change`` had its way with it, signed by these."""
        file = Envelope.from_bytes(drafts.next_root(self.file("root"), keys=keys or {}, now=self.date))
        change(file.signed)
        for signer in signers:
            file.sign(signer, append=True)
        return file.to_bytes()

    def next_targets(self, *, change=lambda _targets: None, signer=None, **parts):
        made = drafts.next_targets(self.file("targets"), now=self.date, **parts)
        file = Envelope.from_bytes(made.targets)
        change(file.signed)
        file.sign(signer or self.owner.targets_signer)
        return file.to_bytes(), made.director

    def next_team(self, targets, signer):
        files = {"team-acme": self.file("team-acme")}
        return team_files.renew(files, team=self.owner.team, targets=targets, signers=[signer], now=self.date)[
            "team-acme"
        ]

    def send(self, **parts):
        given = {"root": None, "targets": None, "director": None, "teams": {}} | parts
        return self.metadata.succeed(**given)

    def events(self, kind):
        with self.database.read() as connection:
            return list(connection.scalars(select(events.c.message).where(events.c.kind == kind)))


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def device(site, tmp_path):
    """A device of this fleet, which has seen the present metadata."""
    (tmp_path / "device").mkdir()

    def fetch(name, _limit):
        try:
            return site.metadata.file(name)
        except Missing:
            return None

    trust = Trust(
        tmp_path / "device",
        root=site.metadata.newest_root(),
        fetch=fetch,
        read_target=lambda _path, digest, _length: site.blobs.read(digest),
        versions=MemoryRoleVersions(),
    )
    trust.refresh(site.date)
    trust.director_keys()
    return trust


def new_keys(count):
    return [CryptoSigner.generate_ed25519() for _ in range(count)]


def publics(signers):
    return [signer.public_key for signer in signers]


class TestRoot:
    def test_two_old_and_two_new_keys_make_a_root(self, site, device):
        """All three root keys change hands, and a device follows."""
        new = new_keys(3)
        root = site.next_root(*site.owner.root_signers[:2], *new[:2], keys={"root": publics(new)})
        assert site.send(root=root) == ["root"]
        device.refresh(site.date)

        again = site.next_root(*new[1:])
        assert site.send(root=again) == ["root"]
        device.refresh(site.date)
        assert site.version("root") == 3

    @pytest.mark.parametrize(
        ("who", "message"),
        [
            (lambda old, new: [old[0], *new], "1 of 2 of the present root keys signed"),
            (lambda _old, new: new, "0 of 2 of the present root keys signed"),
            (lambda old, new: [*old[:2], new[0]], "1 of 2 of the new root keys signed"),
            (lambda old, _new: old, "0 of 2 of the new root keys signed"),
        ],
    )
    def test_too_few_signatures_are_refused(self, site, device, who, message):
        """One old key alone, or the new keys alone, name nobody; server and device stay where they were."""
        new = new_keys(3)
        root = site.next_root(*who(site.owner.root_signers, new), keys={"root": publics(new)})
        with pytest.raises(Untrusted, match=message):
            site.send(root=root)
        assert site.version("root") == 1
        device.refresh(site.date)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda root: setattr(root, "version", root.version + 1), "version 3, and version 2 is next"),
            (lambda root: setattr(root, "version", 1), "version 1, and version 2 is next"),
            (lambda root: setattr(root, "expires", datetime(2026, 1, 1, tzinfo=UTC)), "it expired at 2026-01-01"),
            (lambda root: setattr(root.roles["root"], "threshold", 1), "threshold would be 1, and is 2 today"),
            (lambda root: setattr(root, "consistent_snapshot", False), "without|no versions"),
            (lambda root: root.add_key(root.keys[root.roles["root"].keyids[0]], "targets"), "is a key of root already"),
            (
                lambda root: root.add_key(root.keys[root.roles["timestamp"].keyids[0]], "snapshot"),
                "is a key of|another key",
            ),
        ],
    )
    def test_a_root_that_weakens_the_fleet_is_refused(self, site, change, message):
        """A skipped version, an expired root, a lower threshold, one key for two roles: refused, though signed."""
        root = site.next_root(*site.owner.root_signers[:2], change=change)
        with pytest.raises((Untrusted, Invalid), match=message):
            site.send(root=root)
        assert site.version("root") == 1

    def test_a_key_of_another_kind_is_refused(self, site):
        """RSA would verify, and is nothing that edgefleet makes or tries."""
        rsa = CryptoSigner.generate_rsa()
        keys = {"root": [*publics(site.owner.root_signers), rsa.public_key]}
        with pytest.raises(Invalid, match="is of the kind rsassa"):
            site.send(root=site.next_root(*site.owner.root_signers, keys=keys))

    def test_one_key_under_two_ids_does_not_count_twice(self, site):
        """Whoever holds one key cannot be two holders."""

        def twice(root):
            one = root.keys[root.roles["root"].keyids[0]]
            root.add_key(type(one)("f" * 64, one.keytype, one.scheme, one.keyval), "root")

        with pytest.raises(Invalid, match="is a key of root already"):
            site.send(root=site.next_root(*site.owner.root_signers, change=twice))

    def test_the_same_root_again_changes_nothing(self, site):
        """Sent again, because the answer was lost: no event, no new version."""
        root = site.next_root(*site.owner.root_signers[:2])
        assert site.send(root=root) == ["root"]
        assert site.send(root=root) == []
        assert len(site.events("metadata-replaced")) == 1

    def test_online_keys_that_the_server_has_not_are_refused(self, site):
        """A root that names a stranger's timestamp key would leave the fleet without news."""
        stranger = new_keys(1)
        with pytest.raises(Invalid, match="root names another key for it"):
            site.send(root=site.next_root(*site.owner.root_signers, keys={"timestamp": publics(stranger)}))
        assert site.version("timestamp") == 1


class TestTargets:
    def test_a_lost_team_is_refused(self, site):
        """Targets that no longer name a team would stop its modules on every device."""

        def drop(targets):
            targets.delegations.roles.clear()
            targets.delegations.keys.clear()

        targets, _ = site.next_targets(change=drop)
        with pytest.raises(Invalid, match="no longer names this team"):
            site.send(targets=targets)
        assert site.version("targets") == 1

    def test_a_stale_version_is_refused(self, site):
        """Versions go forward by one, so that two owners never overwrite each other."""
        site.now += 60
        for version in (1, 3):
            targets, _ = site.next_targets(change=lambda one, to=version: setattr(one, "version", to))
            with pytest.raises(Untrusted, match=f"version {version}, and version 2 is next"):
                site.send(targets=targets)

    def test_the_director_list_names_no_key_of_another_role(self, site):
        """The snapshot's thief must not become a director: the list is refused, the old director stays."""
        snapshot = site.metadata._keys.present("snapshot").public_key
        targets, director = site.next_targets(directors=[site.metadata.director.public_key, snapshot])
        with pytest.raises(Invalid, match="is a key of snapshot already"):
            site.send(targets=targets, director=director)
        assert site.version("targets") == 1

    def test_a_director_that_is_not_here_is_refused(self, site):
        """With a stranger as the director this server could order nothing."""
        targets, director = site.next_targets(directors=publics(new_keys(1)))
        with pytest.raises(Invalid, match="another director than this server's"):
            site.send(targets=targets, director=director)
        with pytest.raises(Invalid, match="their list is missing"):
            site.send(targets=targets)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda it: setattr(it.delegations.roles["team-acme"], "paths", ["*/*/*/*"]), "for their own paths"),
            (lambda it: setattr(it.delegations.roles["team-acme"], "terminating", False), "looked for elsewhere"),
        ],
    )
    def test_a_team_gets_no_more_than_its_own_paths(self, site, change, message):
        """A delegation in another shape than edgefleet's is refused."""
        targets, _ = site.next_targets(change=change)
        with pytest.raises(Invalid, match=message):
            site.send(targets=targets)

    def test_all_or_nothing(self, site):
        """A good root with bad targets changes neither."""
        root = site.next_root(*site.owner.root_signers)
        targets, _ = site.next_targets(signer=new_keys(1)[0])
        with pytest.raises(Untrusted):
            site.send(root=root, targets=targets)
        assert (site.version("root"), site.version("targets")) == (1, 1)

    def test_a_replaced_team_key_comes_with_the_teams_metadata(self, site, device):
        """Without the team's metadata signed by its new key, the new key is refused: devices would lose the team."""
        new = new_keys(1)[0]
        targets, _ = site.next_targets(teams={site.owner.team: [new.public_key]})
        with pytest.raises(Untrusted, match="0 of 1 signatures hold"):
            site.send(targets=targets)
        team = site.next_team(targets, new)
        assert site.send(targets=targets, teams={site.owner.team: team}) == ["targets", "team-acme"]
        device.refresh(site.date)
        device.manifest_target("modules/acme/digits/1.json")


class TestOnline:
    def test_a_staged_key_is_used_once_it_is_named(self, site, device):
        """Snapshot and timestamp keys change hands in one step; the old files are gone, devices follow."""
        old = {role: site.metadata.online_keys()[role]["keyid"] for role in ("snapshot", "timestamp")}
        staged = {role: online_keys.stage(site.data, role) for role in ("snapshot", "timestamp")}
        assert {role: key["keyid"] for role, key in site.metadata.staged_keys().items()} == {
            role: key.keyid for role, key in staged.items()
        }
        site.now += DAY_S + 1
        site.metadata.renew()  # not named yet: the old ones sign
        device.refresh(site.date)

        keys = {role: [key] for role, key in staged.items()}
        site.send(root=site.next_root(*site.owner.root_signers[:2], keys=keys))
        assert site.metadata.staged_keys() == {}
        assert {role: site.metadata.online_keys()[role]["keyid"] for role in staged} == {
            role: key.keyid for role, key in staged.items()
        }
        device.refresh(site.date)
        files = b"".join(path.read_bytes() for path in site.data.root.glob("tuf-*"))
        assert not any(keyid.encode() in files for keyid in old.values())
        assert not list(site.data.root.glob("*.next.key"))
        site.start()
        site.now += DAY_S + 1
        site.metadata.renew()
        device.refresh(site.date)

    @pytest.mark.needs("root")
    def test_a_key_that_an_administrator_makes_is_the_servers(self, site):
        """Made as root beside a server of another account, it can be read by that account, and by nobody else."""
        os.chown(site.data.root, 65534, 65534)
        online_keys.stage(site.data, "snapshot")
        made = site.data.staged_key("snapshot").stat()
        assert (made.st_uid, stat.S_IMODE(made.st_mode), made.st_nlink) == (65534, 0o600, 1)

    def test_a_second_key_waits_for_the_first(self, site):
        """Only one key waits, so that nobody names one that is gone."""
        online_keys.stage(site.data, "director")
        with pytest.raises(BadSettings, match="waits already"):
            online_keys.stage(site.data, "director")
        with pytest.raises(BadSettings, match="no key of this role"):
            online_keys.stage(site.data, "targets")

    def test_a_stop_before_the_old_key_is_deleted_is_made_good(self, site):
        """Named, but the power went before the file was put in its place: the next start does that."""
        staged = online_keys.stage(site.data, "director")
        kept = site.data.staged_key("director").read_bytes(), site.data.online_key("director").read_bytes()
        targets, director = site.next_targets(directors=[staged])
        site.send(targets=targets, director=director)
        site.data.staged_key("director").write_bytes(kept[0])
        site.data.online_key("director").write_bytes(kept[1])

        site.start()
        assert site.metadata.director.public_key.keyid == staged.keyid
        assert site.data.online_key("director").read_bytes() == kept[0]
        assert not site.data.staged_key("director").exists()

    def test_without_the_named_director_the_server_does_not_start(self, site):
        """A second server that lacks the new key says which file to bring, and signs nothing with the old one."""
        old = site.data.online_key("director").read_bytes()
        staged = online_keys.stage(site.data, "director")
        targets, director = site.next_targets(directors=[staged])
        site.send(targets=targets, director=director)
        site.data.online_key("director").write_bytes(old)
        with pytest.raises(BadSettings, match="another director"):
            site.start()

    def test_with_a_new_director_every_order_is_signed_again(self, site, device):
        """In bounded batches, the numbers going on; what the stolen key signed is refused by the device's key set."""
        orders = Orders(site.metadata.director_in, life_s=30 * DAY_S)
        names = [DeviceId(f"dev-{number:03}") for number in range(250)]
        with site.database.write() as connection:
            connection.execute(insert(devices), [missing({"id": one, "labels": {}}) for one in names])
            orders.issue_all(connection, site.now, names)
        stolen = site.metadata.director
        with site.database.write() as connection:
            assert orders.renew(connection, site.now, limit=100) == 0

        staged = online_keys.stage(site.data, "director")
        targets, director = site.next_targets(directors=[staged])
        site.send(targets=targets, director=director)
        done = []
        with site.database.write() as connection:
            while count := orders.renew(connection, site.now, limit=100):
                done.append(count)
        assert done == [100, 100, 50]
        device.refresh(site.date)
        allowed = device.director_keys().values()
        with site.database.read() as connection:
            for envelope in connection.scalars(select(devices.c.order_envelope)):
                assert opened(envelope, payload_type=ORDER_TYPE, keys=allowed, limit=LIMIT)
                with pytest.raises(Untrusted):
                    opened(envelope, payload_type=ORDER_TYPE, keys=[stolen.public_key], limit=LIMIT)

    def test_with_a_new_director_every_open_command_is_signed_again(self, site):
        """What waits goes on under the new key; what is over stays as it was signed."""
        old, name = site.metadata.director, DeviceId("dev-1")
        with site.database.write() as connection:
            connection.execute(insert(devices), [missing({"id": name, "labels": {}})])
            for number, ident, look_at in ((1, "1" * 32, site.now), (2, "2" * 32, None)):
                command = Command(id=ident, device=name, name="ping", issued=int(site.now), expires=int(site.now) + 60)
                envelope = sign(canonical.encode(command), payload_type=COMMAND_TYPE, signers=[old])
                row = {"number": number, "id": ident, "device": name, "envelope": envelope, "look_at": look_at}
                connection.execute(insert(commands), [missing(row | {"arguments": {}}, commands)])
        targets, director = site.next_targets(directors=[online_keys.stage(site.data, "director")])
        site.send(targets=targets, director=director)
        new = site.metadata.director
        with site.database.read() as connection:
            kept = {row.id: row.envelope for row in connection.execute(select(commands.c.id, commands.c.envelope))}
        for ident, signer in (("1" * 32, new), ("2" * 32, old)):
            allowed = [signer.public_key]
            payload = opened(kept[ident], payload_type=COMMAND_TYPE, keys=allowed, limit=LIMIT).payload
            assert command_wire.decode(payload).id == ident


def missing(row, table=devices):
    """The row with whatever else the table demands."""
    found = dict(row)
    for column in table.columns:
        if not column.nullable and column.name not in row and column.server_default is None:
            found[column.name] = 0 if column.type.python_type in {int, float, bool} else ""
    return found


def test_the_alarm_at_half_life_comes_once(site):
    """Half of a role's life over: one event for that version, and a warning until it is signed again."""

    def look():
        with site.database.write() as connection:
            every = endings.found(connection, site.data, site.now)
            endings.tell(connection, site.now, every)
        offline = ("root", "targets", "team-acme")
        return [one.split()[0] for one in endings.warnings(every, site.now) if one.startswith(offline)]

    def told():
        return [message for message in site.events("ends-soon") if "edgefleet keys renew" in message]

    assert look() == []
    site.now += 91 * DAY_S
    for _ in range(3):
        site.now += 3601
        assert look() == ["targets", "team-acme"]
    assert [message.split()[0] for message in told()] == ["targets", "team-acme"]

    targets, _ = site.next_targets()
    site.send(targets=targets)
    assert look() == ["team-acme"]
    assert len(told()) == 2


def test_after_a_restored_backup_versions_may_be_skipped(site, device):
    """Devices saw targets 3; the backup has 1: a 4 that says so is taken, and the device follows."""
    targets, _ = site.next_targets(above=3)
    with pytest.raises(Untrusted, match="version 4, and version 2 is next"):
        site.send(targets=targets)
    assert site.send(targets=targets, skip=True) == ["targets"]
    device.refresh(site.date)
    below, _ = site.next_targets(change=lambda it: setattr(it, "version", 2))
    with pytest.raises(Untrusted, match="version 2, and version 5 is next"):
        site.send(targets=below, skip=True)
    for absurd in (100_000_001, 2**40, 10**30):
        ahead, _ = site.next_targets(change=lambda it, to=absurd: setattr(it, "version", to))
        with pytest.raises(Invalid, match="no room for those after it"):
            site.send(targets=ahead, skip=True)


def change_root_keys(site):
    new = new_keys(3)
    site.send(root=site.next_root(*site.owner.root_signers[:2], *new[:2], keys={"root": publics(new)}))
    site.owner.root_signers = new


def change_targets(site):
    old, site.owner.targets_signer = site.owner.targets_signer, new_keys(1)[0]
    keys = {"targets": publics([site.owner.targets_signer])}
    targets, _ = site.next_targets()
    site.send(root=site.next_root(*site.owner.root_signers[:2], keys=keys), targets=targets)
    with pytest.raises(Untrusted):
        site.send(targets=site.next_targets(signer=old)[0])


def change_team(site):
    site.owner.team_signer = new_keys(1)[0]
    targets, _ = site.next_targets(teams={site.owner.team: publics([site.owner.team_signer])})
    team = site.next_team(targets, site.owner.team_signer)
    site.send(targets=targets, teams={site.owner.team: team})


def change_director(site):
    targets, director = site.next_targets(directors=[online_keys.stage(site.data, "director")])
    site.send(targets=targets, director=director)


def change_online(role):
    def change(site):
        keys = {role: [online_keys.stage(site.data, role)]}
        site.send(root=site.next_root(*site.owner.root_signers[:2], keys=keys))

    return change


@pytest.mark.parametrize(
    "change",
    [
        change_root_keys,
        change_targets,
        change_team,
        change_director,
        change_online("snapshot"),
        change_online("timestamp"),
    ],
    ids=["root", "targets", "team", "director", "snapshot", "timestamp"],
)
def test_a_device_that_was_away_for_forty_days_follows(site, device, change):
    """Twice the role's keys changed while it was off, and everything that it knew of the online roles has expired."""
    device.manifest_target("modules/acme/digits/1.json")
    for _ in range(2):
        for _day in range(20):
            site.now += DAY_S
            site.metadata.renew()
        change(site)
    device.refresh(site.date)
    assert device.manifest_target("modules/acme/digits/1.json") is None
    assert list(device.director_keys()) == [site.metadata.director.public_key.keyid]
    device.require_current(site.date, teams=[site.owner.team])


def test_a_device_far_behind_follows_many_roots(site, device):
    """Five roots further, a month apart, a device comes to the newest by itself."""
    for _ in range(5):
        site.now += 31 * DAY_S
        change_root_keys(site)
        site.metadata.renew()
    targets, _ = site.next_targets()
    site.send(targets=targets)
    device.refresh(site.date)
    assert site.version("root") == 6


def test_what_is_refused_is_an_event(site):
    """Somebody sends a root with one signature: the owner can see that somebody tried."""
    with pytest.raises(Untrusted):
        site.send(root=site.next_root(site.owner.root_signers[0]), by="token 7")
    assert "1 of 2 of the root keys signed" in site.events("metadata-refused")[0]
