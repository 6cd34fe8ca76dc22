"""Throw-away keys and a whole trust repository in memory: an owner, teams and a fleet server that really sign.

``Publisher`` plays all of them and keeps every file that was ever published, as a real server does. ``Responder`` is
the way a device reaches it, and where a test makes the way hostile.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_p256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from securesystemslib.signer import CryptoSigner

from modules import digests, manifest
from modules.names import Digest, ModuleRef, Slug
from modules.trust import metadata, publication, repository, roles, team_files
from modules.trust.device import RoleMark
from modules.trust.repository import OnlineKeys
from modules.trust.team_update import check_team_files

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ACME = Slug("acme")
OTHER = Slug("other")


def signer() -> CryptoSigner:
    """A new Ed25519 key."""
    return CryptoSigner.generate_ed25519()


def device_pem() -> tuple[bytes, bytes]:
    """A new P-256 key as PEM: private, public."""
    private = generate_p256(SECP256R1())
    return (
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    )


def release(ref: str, *, description: str = "") -> bytes:
    """The manifest of a small module, such as ``acme/digits:1``."""
    named = ModuleRef.parse(ref)
    model = b"an ONNX graph"
    entry = manifest.File(
        path="model.onnx", sha256=digests.sha256(model), length=len(model), blocks=digests.sha256(model)
    )
    return manifest.encode(
        manifest.Manifest(
            team=named.team,
            name=named.name,
            version=str(named.version),
            serve=manifest.OnnxGraph(file="model.onnx"),
            files=(entry,),
            runtimes=(manifest.Runtime(),),
            proof=manifest.Proof(prove="ready-only"),
            description=description,
        )
    )


class MemoryRoleVersions:
    """The role marks in memory; survives the loss of python-tuf's cache as the agent's database does."""

    def __init__(self) -> None:
        self.kept: dict[str, RoleMark] = {}

    def marks(self) -> Mapping[str, RoleMark]:
        return dict(self.kept)

    def keep(self, marks: Mapping[str, RoleMark]) -> None:
        # As the database does: text is UTF-8, numbers have 64 bits.
        for role, mark in marks.items():
            " ".join((role, *mark.keyids)).encode()
            mark.version.to_bytes(8, signed=True)
        self.kept.update(marks)


class Publisher:
    """The owner, the teams ``acme`` and ``other``, and the fleet server, with all their keys.

    ``files`` holds every metadata file ever published by its name, ``targets`` the small target files by digest.
    Every change is published at once, at the time ``now``. ``teams`` has each team's role, ``bins`` the bins of those
    that have some: teams with more than ``most`` releases. ``new`` makes each key that it begins with.
    """

    def __init__(
        self,
        *,
        now: datetime = NOW,
        most: int = roles.MOST_IN_ONE_ROLE,
        new: Callable[[], CryptoSigner] = signer,
    ) -> None:
        self.now, self.most = now, most
        self.root_signers = [new() for _ in range(3)]
        self.targets_signer, self.snapshot_signer, self.timestamp_signer = new(), new(), new()
        self.director = new()
        self.team_signers = {ACME: new(), OTHER: new()}
        founded = repository.create(
            root_signers=self.root_signers,
            targets_signers=[self.targets_signer],
            online=OnlineKeys(
                self.snapshot_signer.public_key, self.timestamp_signer.public_key, self.director.public_key
            ),
            teams={team: [key.public_key] for team, key in self.team_signers.items()},
            now=now,
        )
        self.root, self.targets_metadata, director_file = founded
        self.first_root = self.root
        self.teams = {
            team: repository.create_team(team=team, signers=[key], now=now) for team, key in self.team_signers.items()
        }
        self.bins: dict[str, bytes] = {}
        self.online: publication.Online | None = None
        self.files: dict[str, bytes] = {}
        self.targets: dict[Digest, bytes] = {digests.sha256(director_file): director_file}
        self.publish()

    def publish(self) -> None:
        """Sign snapshot and timestamp over the present files."""
        self.online = publication.publish_online(
            root=self.root,
            targets=self.targets_metadata,
            teams=self.teams,
            bins={name: metadata.version(data, name) for name, data in self.bins.items()},
            previous=self.online,
            snapshot_signer=self.snapshot_signer,
            timestamp_signer=self.timestamp_signer,
            now=self.now,
        )
        self.files |= publication.published(
            root=self.root, targets=self.targets_metadata, teams=self.teams, bins=self.bins, online=self.online
        )

    def team_files(self, team: Slug) -> dict[str, bytes]:
        """All files of a team by role."""
        own = {name: self.bins[name] for name in roles.bins(team) if name in self.bins}
        return {roles.team_role(team): self.teams[team]} | own

    def take(self, team: Slug, files: Mapping[str, bytes]) -> None:
        """Publish what a team has signed, once the server's own check has let it in."""
        check_team_files(
            root=self.root,
            targets=self.targets_metadata,
            team=team,
            old=self.team_files(team),
            new=files,
            now=self.now,
        )
        self.teams[team] = files.get(roles.team_role(team), self.teams[team])
        self.bins |= {name: data for name, data in files.items() if roles.is_bin(name)}
        self.publish()

    def release(self, ref: str, *, data: bytes | None = None) -> bytes:
        """Release a module of its team; returns the manifest."""
        named = ModuleRef.parse(ref)
        data = data if data is not None else release(ref)
        signed = team_files.release(
            self.team_files(named.team),
            team=named.team,
            path=named.target,
            data=data,
            targets=self.targets_metadata,
            signers=[self.team_signers[named.team]],
            now=self.now,
            most=self.most,
        )
        self.targets[digests.sha256(data)] = data
        self.take(named.team, signed)
        return data

    def set_floor(self, ref: str) -> None:
        """Let no version of the module older than this one run."""
        named = ModuleRef.parse(ref)
        signed = team_files.set_floor(
            self.team_files(named.team),
            team=named.team,
            name=named.name,
            minimum=named.version,
            signers=[self.team_signers[named.team]],
            now=self.now,
        )
        self.take(named.team, signed)

    def replace_director(self) -> CryptoSigner:
        """Revoke the director's key and name a new one."""
        self.name_directors([signer()])
        return self.director

    def name_directors(self, directors: list[CryptoSigner]) -> None:
        """Let these keys, and no others, give orders; the first is the director's."""
        self.director = directors[0]
        self.targets_metadata, document = repository.set_director_keys(
            self.targets_metadata,
            keys=[one.public_key for one in directors],
            signers=[self.targets_signer],
            now=self.now,
        )
        self.targets[digests.sha256(document)] = document
        self.publish()

    def replace_team_key(self, team: Slug) -> CryptoSigner:
        """Revoke a team's key, name a new one, and sign the team's metadata with it."""
        self.team_signers[team] = signer()
        self.targets_metadata = repository.delegate_team(
            self.targets_metadata,
            team=team,
            keys=[self.team_signers[team].public_key],
            signers=[self.targets_signer],
            now=self.now,
        )
        signed = team_files.renew(
            self.team_files(team),
            team=team,
            targets=self.targets_metadata,
            signers=[self.team_signers[team]],
            now=self.now,
        )
        self.take(team, signed)
        return self.team_signers[team]

    def replace_online_keys(self) -> None:
        """A new root that takes the snapshot and timestamp keys away and names new ones."""
        self.snapshot_signer, self.timestamp_signer = signer(), signer()
        self.change_root(
            {
                roles.SNAPSHOT: [self.snapshot_signer.public_key],
                roles.TIMESTAMP: [self.timestamp_signer.public_key],
            }
        )

    def change_root(self, keys) -> None:
        """The next root with these roles' keys replaced."""
        self.root = repository.change_root(self.root, keys=keys, signers=self.root_signers, now=self.now)
        self.publish()

    def later(self, **span: float) -> datetime:
        """Let time pass, as in ``later(days=3)``; returns the new time."""
        self.now += timedelta(**span)
        return self.now

    def copy_files(self) -> dict[str, bytes]:
        """What an attacker wrote down today, to play it back tomorrow."""
        return dict(self.files)


class Responder:
    """Answers a device out of ``files``; a test may put other files in its place, or break what comes back.

    ``tamper(name, data)`` changes every answer; ``asked`` lists the names in order.
    """

    def __init__(self, publisher: Publisher) -> None:
        self.files = publisher.files
        self.targets = publisher.targets
        self.asked: list[str] = []
        self.tamper: Callable[[str, bytes | None], bytes | None] = lambda _name, data: data

    def fetch(self, name: str, limit: int) -> bytes | None:
        self.asked.append(name)
        return self.tamper(name, self.files.get(name))

    def read_target(self, path: str, digest: Digest, length: int) -> bytes:
        self.asked.append(path)
        return self.tamper(path, self.targets[digest])
