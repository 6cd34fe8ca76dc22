"""A fleet server as the SDK speaks to it: as one operator, for one team, from one packing place."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from securesystemslib.signer import Signer

from fleet.client import config
from fleet.client.api import Fleet
from fleet.client.screen import Screen, Step
from fleet.client.sdk.exceptions import WorkspaceException, told_as
from fleet.client.sdk.workspace_file import KEYS, TEAM, Described
from fleet.client.signing.offline_keys import team_signers
from fleet.client.signing.trusted import Trusted
from fleet.client.workspace import Workspace as Packed
from modules.errors import BadSettings, Invalid, LinkLost
from modules.names import Slug, slug


class Connection:
    """What a :class:`fleet.client.sdk.workspace.Workspace` stands on; nothing is asked before it is needed."""

    def __init__(self, described: Described) -> None:
        self._described = described
        self._team: Slug | None = None

    @property
    def name(self) -> str:
        return self._described.name

    @property
    def url(self) -> str:
        """The fleet server's address."""
        return self._described.server.url

    @property
    def home(self) -> Path:
        """This user's folder, the same that commands use."""
        return config.home()

    @property
    def packed(self) -> Packed:
        """The publisher's own copies of modules and images."""
        return Packed(self.home / "workspace")

    @contextmanager
    def fleet(self) -> Iterator[Fleet]:
        """The server, for the block."""
        with Fleet(self._described.server) as fleet:
            yield fleet

    def trusted(self, fleet: Fleet) -> Trusted:
        return Trusted(fleet, self.home)

    def team(self, fleet: Fleet) -> Slug:
        """The team that registers: the one that was named, or the only one.

        Raises:
            Invalid: the fleet has several, and none is named.
            EdgefleetError: as :class:`Fleet`.
        """
        if self._team is None:
            self._team = slug(self._described.team, what="team") if self._described.team else self._only(fleet)
        return self._team

    def named_team(self) -> str:
        """The team that was named, if any."""
        return self._described.team

    def _only(self, fleet: Fleet) -> Slug:
        known = [one.team for one in self.trusted(fleet).teams()]
        if len(known) != 1:
            raise Invalid(
                f"nothing says for which team models are registered (the fleet has: {', '.join(known) or 'none'})",
                element="team",
                remedy=f'write "team" into the workspace\'s file, or set {TEAM}',
            )
        return known[0]

    def signers(self, team: Slug) -> Sequence[Signer]:
        """The team's key, ready to sign; none where no place of it is known, and models stay drafts.

        Raises:
            BadSettings: as :func:`fleet.client.signing.offline_keys.team_signers`.
        """
        return team_signers(self._described.keys, team)

    def say_draft(self, ref: object) -> None:
        """Tell that a model waits for its signature."""
        Screen(as_json=False).remark(
            f"{ref} is a draft, which no device takes: edgefleet modules sign {ref} --keys FOLDER; "
            f'"keys" in the workspace\'s file, or {KEYS}, has models signed at once'
        )

    @contextmanager
    def progress(self) -> Iterator[Step]:
        """A line per piece of work on a terminal; nothing elsewhere."""
        with Screen(as_json=False).progress() as step:
            yield step


@contextmanager
def asked(connection: Connection) -> Iterator[Fleet]:
    """The server for the block; that it is away or does not know us is the workspace's fault."""
    with told_as(WorkspaceException, of=(LinkLost, BadSettings)), connection.fleet() as fleet:
        yield fleet
