"""The owner of a fleet and its one team over the years: their keys, what they sign again, which keys they replace."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import httpx
from securesystemslib.signer import CryptoSigner

from fleet import online_keys
from fleet.folder import Folder
from modules import canonical
from modules import manifest as manifests
from modules.manifest import Manifest
from modules.trust import drafts, roles, team_files
from tests.doubles.publisher import Publisher, checked

TEAM = "team-acme"
_SAID = "sign it again: edgefleet keys renew "


class Owner:
    """Signs again what the server says is about to end, and nothing else; ``away``: nobody looks at what it says."""

    def __init__(self, http: httpx.Client, data: Folder, now: Callable[[], float]) -> None:
        self.http, self._data, self._now = http, data, now
        self.away = False
        self.holder = Publisher(http)
        self.holder.found()
        self.renewed: list[str] = []

    @property
    def date(self) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC)

    def file(self, role: str) -> bytes:
        return checked(self.http.get(f"/api/v1/tuf/{role}.json")).content

    def heeds(self, warnings: Iterable[str]) -> None:
        """Sign what the server's words for people name."""
        named = {words.partition(_SAID)[2].rstrip(")") for words in warnings if _SAID in words}
        if not self.away:
            for role in sorted(named):
                self.renews(role)

    def renews(self, role: str) -> None:
        if role == roles.ROOT:
            self._sends(root=self._root(*self.holder.root_signers[:2]))
        elif role == roles.TARGETS:
            self._sends(targets=self._targets()[0])
        else:
            self._sends(teams=self._team(self.file(roles.TARGETS)))
        self.renewed.append(role)

    def replaces_root(self) -> None:
        """All three keys change hands: two of the old and two of the new ones sign."""
        new = [CryptoSigner.generate_ed25519() for _ in range(3)]
        keys = {roles.ROOT: [one.public_key for one in new]}
        self._sends(root=self._root(*self.holder.root_signers[:2], *new[1:], keys=keys))
        self.holder.root_signers = new

    def replaces_team(self) -> None:
        """The targets key names another key of the team, which signs the team's metadata again."""
        self.holder.team_signer = CryptoSigner.generate_ed25519()
        targets, _ = self._targets(teams={self.holder.team: [self.holder.team_signer.public_key]})
        self._sends(targets=targets, teams=self._team(targets))

    def replaces_director(self) -> None:
        """By a key that was made on the server."""
        targets, director = self._targets(directors=[online_keys.stage(self._data, "director")])
        self._sends(targets=targets, director=director)

    def publishes(self, draft: Manifest) -> None:
        self._sends_team(
            team_files.release(
                {TEAM: self.file(TEAM)},
                team=self.holder.team,
                path=draft.ref.target,
                data=manifests.encode(draft),
                targets=self.file(roles.TARGETS),
                signers=[self.holder.team_signer],
                now=self.date,
            )
        )

    def raises_floor(self, lowest: Manifest) -> None:
        """No version before this one may run any more."""
        self._sends_team(
            team_files.set_floor(
                {TEAM: self.file(TEAM)},
                team=self.holder.team,
                name=lowest.ref.name,
                minimum=lowest.ref.version,
                signers=[self.holder.team_signer],
                now=self.date,
            )
        )

    def _root(self, *signers, keys=None) -> bytes:
        drafted = drafts.next_root(self.file(roles.ROOT), keys=keys or {}, now=self.date)
        return drafts.add_signatures(drafted, role=roles.ROOT, signers=signers)

    def _targets(self, **changed) -> tuple[bytes, bytes | None]:
        made = drafts.next_targets(self.file(roles.TARGETS), now=self.date, **changed)
        signers = [self.holder.targets_signer]
        return drafts.add_signatures(made.targets, role=roles.TARGETS, signers=signers), made.director

    def _team(self, targets: bytes) -> dict[str, bytes]:
        made = team_files.renew(
            {TEAM: self.file(TEAM)},
            team=self.holder.team,
            targets=targets,
            signers=[self.holder.team_signer],
            now=self.date,
        )
        return {self.holder.team: made[TEAM]}

    def _sends(self, **parts) -> None:
        json = {"Content-Type": "application/json"}
        checked(self.http.post("/api/v1/tuf-update", content=canonical.encode(parts), headers=json))

    def _sends_team(self, files: dict[str, bytes]) -> None:
        checked(self.http.post(f"/api/v1/tuf/teams/{self.holder.team}", content=files[TEAM]))
