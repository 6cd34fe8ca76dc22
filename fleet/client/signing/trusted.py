"""What the team's keys have really signed, followed from the root that this user pinned; the server is not believed.

Whoever signs a team's metadata signs everything that is in it, so what the server hands out is verified first.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from fleet.client.api import Fleet
from fleet.client.new_file import replace_file
from modules.errors import BadSettings, LinkLost, Untrusted
from modules.names import Digest, ModuleRef, Slug
from modules.trust import roles, team_files
from modules.trust.client import Client, explained

# Nothing counts as expired: whoever signs metadata anew gives it a new life.
_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
_ADD_TEAM: Final = "edgefleet teams add {} --keys FOLDER"


class Team(msgspec.Struct, frozen=True, kw_only=True):
    """A publishing team as the owner's key names it, and how far it has come; ``expires`` in Unix seconds."""

    team: Slug
    keys: tuple[str, ...]
    releases: int = 0
    expires: float | None = None


class Present(NamedTuple):
    """The fleet's trust metadata as files, and the list of director keys that targets names; bins of some teams."""

    root: bytes
    targets: bytes
    teams: dict[Slug, bytes]
    director: bytes
    snapshot: bytes
    timestamp: bytes
    bins: Mapping[str, bytes] = MappingProxyType({})

    def team_files(self, team: Slug) -> dict[str, bytes]:
        """A team's role, and those of its bins that are here."""
        bins = {name: data for name, data in self.bins.items() if roles.team_of(name) == team}
        return {roles.team_role(team): self.teams[team]} | bins


class Trusted:
    """One fleet's trust metadata, cached below ``home``; versions seen once are not gone back on.

    Args:
        fleet: the server.
        home: this user's configuration folder.
    """

    def __init__(self, fleet: Fleet, home: Path) -> None:
        self._fleet = fleet
        self._folder = home / "trust" / hashlib.sha256(fleet.url.encode()).hexdigest()[:16]

    @property
    def root_file(self) -> Path:
        """Where the pinned root is."""
        return self._folder / "root.json"

    def pin(self, root: bytes) -> None:
        """Trust this root from now on, and no other that does not follow from it.

        Raises:
            Untrusted: another root is pinned for this address.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.root_file.exists() and self.root_file.read_bytes() != root:
            raise Untrusted(
                "another root is pinned for this fleet server",
                element=str(self.root_file),
                remedy="if the server was set up anew on purpose, remove that file and the folder beside it",
            )
        replace_file(self.root_file, root)

    def expect_team(self, team: Slug) -> None:
        """Only a team that the fleet's owner has named can ever sign; a fleet without a root has named none yet.

        Raises:
            BadSettings: the fleet has a root of trust, and does not know the team.
            Untrusted: its metadata does not follow from the pinned root.
            EdgefleetError: as :class:`Fleet`.
        """
        if not self.root_file.exists() and self._fleet.tuf("1.root.json") is None:
            return
        known = [one.team for one in self.teams()]
        if team not in known:
            names = ", ".join(known) or "none"
            raise BadSettings(
                f"this fleet has no team {team}, so nobody could sign the module (its teams are: {names})",
                element="--team",
                remedy=f"name one of them, or have the owner add it: {_ADD_TEAM.format(team)}",
            )

    def teams(self) -> list[Team]:
        """The teams that the owner has named, by name.

        Raises:
            BadSettings: the fleet has no root yet.
            Untrusted: something does not follow from the pinned root.
            EdgefleetError: as :class:`Fleet`.
        """
        with explained():
            client = self._client(_LONG_AGO)
            found = []
            for team, keys in client.teams().items():
                signed = client.team(team)
                releases = len(team_files.published(self._all(client, team).values())) if signed else 0
                expires = signed.expires.timestamp() if signed else None
                found.append(Team(team=team, keys=keys, releases=releases, expires=expires))
        return sorted(found, key=lambda one: one.team)

    def targets_metadata(self) -> bytes:
        """The owner's newest targets metadata, verified; expiry does not count.

        Raises:
            BadSettings: the fleet has no root yet.
            Untrusted: it does not follow from the pinned root.
            EdgefleetError: as :class:`Fleet`.
        """
        with explained():
            self._client(_LONG_AGO)
        return (self._cache / f"{roles.TARGETS}.json").read_bytes()

    def present(self, *, bins_of: Collection[str] = ()) -> Present:
        """What is in force, in its newest versions, verified; expiry does not count.

        Of the teams whose roles are in ``bins_of`` it has the bins, too.

        Raises:
            BadSettings: the fleet has no root yet.
            Untrusted: it does not follow from the pinned root.
            EdgefleetError: as :class:`Fleet`.
        """
        with explained():
            client = self._client(_LONG_AGO)
            named = [team for team in client.teams() if client.team(team) is not None]
            bins: dict[str, bytes] = {}
            for team in named:
                if roles.team_role(team) in bins_of:
                    bins |= self._all(client, team)
            listed = client.top_level_targets.targets[roles.DIRECTOR_PATH]
        director = b"".join(self._fleet.get_blob(Digest(f"sha256:{listed.hashes['sha256']}")))
        with explained():
            listed.verify_length_and_hashes(director)
        return Present(
            root=client.newest_root(),
            targets=(self._cache / f"{roles.TARGETS}.json").read_bytes(),
            teams={team: (self._cache / f"{roles.team_role(team)}.json").read_bytes() for team in named},
            director=director,
            snapshot=(self._cache / f"{roles.SNAPSHOT}.json").read_bytes(),
            timestamp=(self._cache / f"{roles.TIMESTAMP}.json").read_bytes(),
            bins={name: data for name, data in bins.items() if roles.is_bin(name)},
        )

    def team_metadata(self, ref: ModuleRef) -> bytes:
        """The newest metadata of the role of the module's team; as :meth:`team_files`."""
        return self.team_files(ref)[roles.team_role(ref.team)]

    def team_files(self, ref: ModuleRef) -> dict[str, bytes]:
        """The newest files of the module's team that a release of it may change, verified; expiry does not count.

        Raises:
            BadSettings: the fleet has no root yet, or does not know the team.
            Untrusted: something does not follow from the pinned root.
            EdgefleetError: as :class:`Fleet`.
        """
        with explained():
            client = self._client(_LONG_AGO)
            return self._files(client, ref.team, [roles.bin_of(ref.team, ref.target)])

    def all_team_files(self, team: Slug) -> dict[str, bytes]:
        """All of a team's newest files, its bins included; as :meth:`team_files`."""
        with explained():
            return self._all(self._client(_LONG_AGO), team)

    def _all(self, client: Client, team: Slug) -> dict[str, bytes]:
        return self._files(client, team, roles.bins(team))

    def _files(self, client: Client, team: Slug, bins: Iterable[str]) -> dict[str, bytes]:
        """The team's role and, where it has bins, these."""
        role = roles.team_role(team)
        signed = client.team(team)
        if signed is None:
            raise BadSettings(
                f"the fleet's owner has not made {team} a publishing team",
                element=role,
                remedy=f"name another team, or have the owner add it: {_ADD_TEAM.format(team)}",
            )
        names = [role]
        for name in bins if signed.delegations is not None else ():
            client.team_bin(team, name)
            names.append(name)
        return {name: (self._cache / f"{name}.json").read_bytes() for name in names}

    def signed_digest(self, ref: ModuleRef) -> str | None:
        """The digest that the team signed for a module, or None where it signed none; what has expired is refused.

        Raises:
            Untrusted: it does not follow from the pinned root, or is too old.
            EdgefleetError: as :class:`Fleet`.
        """
        with explained():
            found = self._client(datetime.now(UTC)).find(ref.target)
        return f"sha256:{found.hashes['sha256']}" if found else None

    @property
    def _cache(self) -> Path:
        return self._folder / "metadata"

    def _client(self, now: datetime) -> Client:
        if not self.root_file.exists():
            root = self._fleet.tuf("1.root.json")
            if root is None:
                raise BadSettings(
                    "this fleet has no root of trust yet",
                    element=self._fleet.url,
                    remedy="make its keys: edgefleet keys init FOLDER --team TEAM",
                )
            self.pin(root)
        client = Client(self._cache, root=self.root_file.read_bytes(), fetch=self._fetch, now=now)
        try:
            client.refresh()
        except LinkLost as error:
            raise LinkLost(error.message, element=self._fleet.url, remedy="see that the fleet server runs") from error
        return client

    def _fetch(self, name: str, _limit: int) -> bytes | None:
        return self._fleet.tuf(name)
