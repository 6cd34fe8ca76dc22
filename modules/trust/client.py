"""python-tuf's client, set up for a device: small limits, our own transport, and a clock that we set.

With ``modules.trust.updater`` the only file that reaches into python-tuf beyond its documented interface. Each place
that does so is guarded, so that a version which moved things says so at once instead of checking expiry against the
wrong clock.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.api.metadata import Root, Signed, TargetFile, Targets

from modules import names
from modules.errors import BadSettings, LinkLost, Refused, Untrusted
from modules.names import Slug
from modules.trust import bins, roles
from modules.trust.updater import FetcherInterface, Updater, UpdaterConfig
from modules.trust.verified import Verified

# Gets one metadata file by its published name (``2.root.json``, ``timestamp.json``), at most ``limit`` bytes, and
# blocks until it is here. None when the other side says that there is no such file; silence is an error, LinkLost.
FetchMetadata = Callable[[str, int], bytes | None]

_BASE: Final = "metadata/"
_TEAM: Final = roles.team_role(Slug(""))
_NOT_FOUND: Final = 404
_CACHED_BINS: Final = 64
_INSTALL: Final = "install a version that edgefleet was tested with"

# What python-tuf may raise besides its own errors where metadata holds values that nobody has thought of.
_SURPRISES: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

_log = logging.getLogger(__name__)


class Fetcher(FetcherInterface):
    """The transport that python-tuf asks, on top of whatever gets files for us."""

    def __init__(self, fetch: FetchMetadata) -> None:
        self._ask = fetch

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """One metadata file, whole.

        Raises:
            DownloadHTTPError: with status 404, there is no such file.
            DownloadLengthMismatchError: it is longer than allowed.
            LinkLost: no answer; other errors of the tree pass through as they are.
            Invalid: metadata leads to a file that nobody can have published.
        """
        name = unquote(url.removeprefix(_BASE))
        # What metadata says of the length of other metadata is foreign, too.
        max_length = min(max_length, roles.limit(names.metadata_role(name)))
        try:
            data = self._ask(name, max_length)
        except OSError as error:
            raise LinkLost(f"getting it failed: {error}", element=name) from error
        if data is None:
            raise DownloadHTTPError(f"there is no {name}", _NOT_FOUND)
        if len(data) > max_length:
            raise DownloadLengthMismatchError(f"{name} is longer than {max_length} bytes")
        return data

    def _fetch(self, url: str) -> Iterator[bytes]:
        return iter((self.download_bytes(url, roles.TARGETS_LIMIT),))


class Client(Updater):
    """One pass of the TUF client workflow over the cache in ``folder``.

    Args:
        folder: the metadata cache. It may be lost or torn at any time; it is then filled again.
        root: the trusted root that came with the join bundle.
        fetch: gets metadata files.
        now: the time that expiry is held against.
        verified: what earlier passes have verified, and this one need not.

    Raises:
        BadSettings: this python-tuf keeps its reference time elsewhere.
        RepositoryError: the root is no root metadata.
    """

    def __init__(
        self, folder: Path, *, root: bytes, fetch: FetchMetadata, now: datetime, verified: Verified | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _check_python_tuf()
        super().__init__(
            metadata_dir=str(folder),
            metadata_base_url=_BASE,
            fetcher=Fetcher(fetch),
            config=UpdaterConfig(
                max_root_rotations=128,
                max_delegations=8,
                root_max_length=roles.limit(roles.ROOT),
                timestamp_max_length=roles.limit(roles.TIMESTAMP),
                snapshot_max_length=roles.limit(roles.SNAPSHOT),
                targets_max_length=roles.TARGETS_LIMIT,
            ),
            bootstrap=root,
        )
        if not isinstance(getattr(self._trusted_set, "reference_time", None), datetime):
            raise BadSettings("this python-tuf has no reference time that we can set", element="tuf", remedy=_INSTALL)
        self._trusted_set.reference_time = now
        # Where that moved, python-tuf's own is used, which is as strict and verifies the whole cache again.
        self._trusted_set._load_data = verified or Verified()  # noqa: SLF001 - there is no other place for it
        # Delegated roles that were verified and say what they may: with the key ids that may sign each.
        self._delegated_roles: dict[str, tuple[Signed, tuple[str, ...]]] = {}

    @property
    def top_level_targets(self) -> Targets:
        return self._trusted_set.targets

    def newest_root(self) -> bytes:
        """The file of the root that this pass came to."""
        return Path(self._dir, "root_history", f"{self._trusted_set.root.version}.root.json").read_bytes()

    def loaded(self) -> dict[str, tuple[Signed, tuple[str, ...]]]:
        """Every role that has been verified in this pass, root first, with the key ids that may sign it."""
        trusted = self._trusted_set
        top = {role: (trusted[role], _keyids(trusted.root, role)) for role in roles.TOP_LEVEL}
        return top | self._delegated_roles

    def follow_cached(self) -> None:
        """Bring the delegated roles that are in the cache up to date, so that they are still usable without network.

        A team whose role does not verify must not hold up the others: what is wrong with it is raised when one of its
        own targets is asked for.
        """
        for role in self._delegated():
            if Path(self._dir, f"{role}.json").exists():
                try:
                    self._load_targets(role, roles.TARGETS)
                except (RepositoryError, DownloadError, Refused, *_SURPRISES) as error:
                    _log.warning("trust metadata of %s is of no use at present: %s", role, error)

    def forget_old_bins(self) -> None:
        """Keep the cache small: a bin that is gone is fetched again where an order needs it."""
        with os.scandir(self._dir) as entries:
            held = [entry for entry in entries if roles.is_bin(entry.name.removesuffix(".json"))]
        if len(held) > _CACHED_BINS:
            for entry in sorted(held, key=lambda one: one.stat().st_mtime_ns)[:-_CACHED_BINS]:
                Path(entry.path).unlink()

    def find(self, path: str) -> TargetFile | None:
        """The target's entry, or None where no role lists it; gets the team's role and bin when they are needed."""
        if any(not self._is_published(role) for role in self._responsible(path)):
            return self.top_level_targets.targets.get(path)
        return self.get_targetinfo(path)

    def find_floor(self, path: str) -> TargetFile | None:
        """A floor's entry, or None; as :meth:`find`, but a team's role has all of its floors, and no bin has one."""
        if found := self.top_level_targets.targets.get(path):
            return found
        for role in self._responsible(path):
            if self._is_published(role) and (found := self._load_targets(role, roles.TARGETS).targets.get(path)):
                return found
        return None

    def teams(self) -> dict[Slug, tuple[str, ...]]:
        """The publishing teams that targets names, with the key ids that may sign for each."""
        return {
            Slug(role.removeprefix(_TEAM)): _keyids(self.top_level_targets, role)
            for role in self._delegated()
            if role.startswith(_TEAM)
        }

    def team(self, team: Slug) -> Targets | None:
        """What a team has signed, verified; None where it is not among what was published."""
        role = roles.team_role(team)
        return self._load_targets(role, roles.TARGETS) if self._is_published(role) else None

    def team_bin(self, team: Slug, name: str) -> Targets:
        """One bin of a team that has bins, verified.

        Raises:
            RepositoryError: it does not verify, or was not published.
        """
        self._load_targets(roles.team_role(team), roles.TARGETS)
        return self._load_targets(name, roles.team_role(team))

    def _load_targets(self, role: str, parent_role: str) -> Targets:
        """As python-tuf does, and then hold what the role delegates against what it may."""
        found = super()._load_targets(role, parent_role)
        if parent_role == roles.TARGETS:
            if role.startswith(_TEAM):
                bins.check_delegation(Slug(role.removeprefix(_TEAM)), found, self.top_level_targets)
            self._delegated_roles[role] = (found, _keyids(self.top_level_targets, role))
        elif parent_role != roles.ROOT:
            bins.check_bin(role, found)
            delegator = self._trusted_set[parent_role]
            assert isinstance(delegator, Targets)  # noqa: S101 - python-tuf has just verified against it
            self._delegated_roles[role] = (found, _keyids(delegator, role))
        return found

    def _persist_file(self, filename: str, data: bytes) -> None:
        """As python-tuf does, without its temporary files of other names, which a power cut leaves behind."""
        partial = Path(f"{filename}.partial")
        partial.write_bytes(data)
        partial.replace(filename)

    def _persist_root(self, version: int, data: bytes) -> None:
        """As python-tuf does, where the root is not there already: that it is new is seldom."""
        with suppress(OSError):
            if Path(self._dir, "root_history", f"{version}.root.json").read_bytes() == data:
                return
        super()._persist_root(version, data)

    def _update_root_symlink(self) -> None:
        """Nobody reads it: each pass begins with the root that the join bundle brought."""

    def _responsible(self, path: str) -> list[str]:
        delegations = self.top_level_targets.delegations
        return [role for role, _ in delegations.get_roles_for_target(path)] if delegations else []

    def _is_published(self, role: str) -> bool:
        return f"{role}.json" in self._trusted_set.snapshot.meta and role in self._delegated()

    def _delegated(self) -> tuple[str, ...]:
        delegations = self.top_level_targets.delegations
        named = delegations.roles if delegations and delegations.roles else ()
        # A role's name becomes a file's: one that cannot be published cannot be followed either.
        return tuple(role for role in named if names.is_metadata(f"{role}.json"))


@contextmanager
def explained() -> Iterator[None]:
    """Turn python-tuf's errors into ours: who cannot be reached is tried again, what does not verify is refused."""
    try:
        yield
    except DownloadLengthMismatchError as error:
        raise Untrusted(
            f"it is longer than allowed: {error}", element="trust metadata", remedy="find out who answers the device"
        ) from error
    except DownloadError as error:
        raise LinkLost(str(error), element="trust metadata", remedy="let the device reach its fleet server") from error
    except ExpiredMetadataError as error:
        raise Untrusted(
            str(error),
            element="trust metadata",
            remedy="let the fleet server or the owner sign it again, or set the device's clock right",
        ) from error
    except (RepositoryError, *_SURPRISES) as error:
        raise Untrusted(
            f"{type(error).__name__}: {str(error)[:300]}",
            element="trust metadata",
            remedy="compare the fleet server's metadata with what the publishers signed",
        ) from error


def _check_python_tuf() -> None:
    """What a team delegates is checked in python-tuf's own step, so that must be there.

    Raises:
        BadSettings: this python-tuf has another.
    """
    if not callable(getattr(Updater, "_load_targets", None)):
        raise BadSettings("this python-tuf loads roles in a way that we cannot check", element="tuf", remedy=_INSTALL)


def _keyids(delegator: Root | Targets, role: str) -> tuple[str, ...]:
    return tuple(sorted(delegator.get_delegated_role(role).keyids))
