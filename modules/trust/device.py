"""What a device trusts: which releases are published, who may give orders, and below which versions it never goes.

Root metadata comes with the join bundle and is the beginning of everything. From there python-tuf follows the chain;
this file adds what outlives python-tuf's cache, the highest version seen of each role, and answers the agent's
questions. All of it blocks: run it in one worker thread.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import msgspec
from securesystemslib.signer import Key
from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import TargetFile

from modules import names, signing
from modules.bounds import MAX_COUNT
from modules.errors import LinkLost, Untrusted
from modules.names import Digest, ModuleRef, Slug, Version
from modules.trust import roles
from modules.trust.client import Client, FetchMetadata, explained
from modules.trust.verified import Verified

# Gets a small target file: (target path, digest, length in bytes). Blocks; raises LinkLost when it cannot be had.
ReadTarget = Callable[[str, Digest, int], bytes]

# Before any metadata was signed, so that nothing counts as expired.
_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)


class RoleMark(msgspec.Struct, frozen=True):
    """The highest version seen of a role, and the sorted ids of the keys that could sign it then."""

    version: int
    keyids: tuple[str, ...]


class RoleVersions(Protocol):
    """Where the marks are kept: not in python-tuf's cache, which may be lost."""

    def marks(self) -> Mapping[str, RoleMark]:
        """Every mark by role name."""
        ...

    def keep(self, marks: Mapping[str, RoleMark]) -> None:
        """Replace these marks, all or none, on stable storage before it returns."""
        ...


class Target(msgspec.Struct, frozen=True):
    """A published file: its length in bytes and its digest, as its publisher signed them."""

    length: int
    sha256: Digest


class Trust:
    """The device's view of the trust metadata.

    Args:
        folder: a folder of its own; what is in it may be deleted at any time.
        root: root metadata from the join bundle.
        fetch: gets metadata files by their published names.
        read_target: gets the bytes of a small target.
        versions: where the highest versions seen are kept.
    """

    def __init__(
        self, folder: Path, *, root: bytes, fetch: FetchMetadata, read_target: ReadTarget, versions: RoleVersions
    ) -> None:
        self._cache = folder / "metadata"
        self._director_file = folder / "director.json"
        self._root = root
        self._fetch = fetch
        self._read_target = read_target
        self._versions = versions
        self._client: Client | None = None
        self._checked: set[str] = set()
        self._verified = Verified()

    def refresh(self, now: datetime) -> None:
        """Get what is new from the fleet server and verify it. What was trusted before stays so if this fails.

        Args:
            now: the time to hold expiry against, with its zone.

        Raises:
            LinkLost: the server did not answer, or has no metadata.
            Untrusted: it does not verify, is expired, or is older than what was seen before.
        """
        self._adopt(self._fetch, now)

    def load_offline(self) -> None:
        """Go on with the metadata in the cache, even if it has expired meanwhile; asks nobody.

        Call :meth:`require_current` before anything new is accepted.

        Raises:
            LinkLost: there is none yet, or it is torn; one contact with the server mends that.
            Untrusted: it does not verify, or is older than what was seen before.
        """
        self._adopt(self._from_cache, _LONG_AGO)

    @property
    def expires(self) -> datetime:
        """When the first of the top-level roles expires; new orders are refused from then on."""
        loaded = self._current().loaded()
        return min(loaded[role][0].expires for role in roles.TOP_LEVEL)

    def require_current(self, now: datetime, *, teams: Iterable[Slug] = ()) -> None:
        """Go on only if nothing that a new order rests on has expired: the top-level roles and those of ``teams``.

        Raises:
            Untrusted: something has; names the role.
        """
        loaded = self._current().loaded()
        for role in (*roles.TOP_LEVEL, *map(roles.team_role, teams)):
            if role in loaded and loaded[role][0].is_expired(now):
                raise Untrusted(
                    f"it expired at {loaded[role][0].expires:%Y-%m-%d %H:%M} UTC, so nothing new is accepted",
                    element=f"trust metadata, {role}",
                    remedy="let the device reach its fleet server, and see that the role was signed again",
                )

    def manifest_target(self, path: str) -> Target | None:
        """What the publisher signed for a module's manifest, or None if the release was never published.

        Raises:
            Invalid: the path is not a module's.
            LinkLost: the team's metadata had to be fetched and could not.
            Untrusted: the team's metadata does not verify.
        """
        ModuleRef.from_target(path)
        found = self._find(path)
        return _target(found) if found else None

    def floor(self, team: Slug, name: Slug) -> Version | None:
        """The lowest version of a module that its publisher still allows, if it has said so.

        Raises:
            LinkLost, Untrusted: as :meth:`manifest_target`.
            Invalid: the floor has no version.
        """
        path = roles.floor_path(team, name)
        found = self._find(path, Client.find_floor)
        return roles.floor_version(path, found.custom) if found else None

    def director_keys(self) -> Mapping[str, Key]:
        """The keys that may sign orders and commands, by key id.

        Raises:
            LinkLost: the list is new and could not be fetched.
            Untrusted: there is no such list, or other bytes came for it.
        """
        found = self._current().top_level_targets.targets.get(roles.DIRECTOR_PATH)
        if found is None:
            raise Untrusted(
                "the owner has named no director",
                element=roles.DIRECTOR_PATH,
                remedy="sign the director's key with the offline targets key",
            )
        if found.length > signing.KEYS_LIMIT:
            raise Untrusted(f"{found.length} bytes are more than a list of keys may have", element=roles.DIRECTOR_PATH)
        try:
            data = self._director_file.read_bytes()
            found.verify_length_and_hashes(data)
        except (OSError, LengthOrHashMismatchError):  # not there yet, replaced since, or torn
            target = _target(found)
            data = self._read_target(roles.DIRECTOR_PATH, target.sha256, target.length)
            _verify(found, data)
            self._director_file.write_bytes(data)  # verified again at each reading, so a torn write does no harm
        return signing.decode_keys(data)

    def _adopt(self, fetch: FetchMetadata, now: datetime) -> None:
        with explained():
            client = Client(self._cache, root=self._root, fetch=fetch, now=now, verified=self._verified)
            client.refresh()
            client.follow_cached()
            self._check_marks(client, anew=True)
            client.forget_old_bins()
        self._client = client

    def _from_cache(self, name: str, _limit: int) -> bytes | None:
        if name != "timestamp.json":
            return None  # python-tuf has looked in its cache before it asks; only the timestamp it always asks for
        try:
            return (self._cache / name).read_bytes()
        except FileNotFoundError:
            return None

    def _current(self) -> Client:
        if self._client is None:
            raise LinkLost(
                "no trust metadata has been read yet",
                element="trust metadata",
                remedy="let the device reach its server",
            )
        return self._client

    def _find(self, path: str, look: Callable[[Client, str], TargetFile | None] = Client.find) -> TargetFile | None:
        client = self._current()
        with explained():
            found = look(client, path)
            self._check_marks(client)
        return found

    def _check_marks(self, client: Client, *, anew: bool = False) -> None:
        loaded, known = client.loaded(), set() if anew else self._checked
        if loaded.keys() <= known:
            return
        seen = self._versions.marks()
        changed = {}
        for role, (signed, keyids) in loaded.items():
            if signed.version > MAX_COUNT:
                raise Untrusted(
                    f"a version of {len(str(signed.version))} digits is out of bounds",
                    element=f"trust metadata, {role}",
                    remedy="find out who signed it, and have the owner replace the role's key",
                )
            mark, before = RoleMark(signed.version, keyids), seen.get(role)
            if before is not None and mark.version < before.version and not _key_withdrawn(role, before, mark):
                raise Untrusted(
                    f"version {mark.version} came after version {before.version} had been seen",
                    element=f"trust metadata, {role}",
                    remedy="find out who answers the device; after a restored backup, sign the role above that version",
                )
            if mark != before:
                changed[role] = mark
        if changed:
            self._versions.keep(changed)
        self._checked = set(loaded)


def _key_withdrawn(role: str, before: RoleMark, mark: RoleMark) -> bool:
    """Whether a key that could sign the role no longer can: the owner's way out when a thief signed a huge version.

    A key that was merely added gives no reason to go back. Root's versions follow each other one by one, so root
    never needs this way out.
    """
    return role != roles.ROOT and not set(before.keyids) <= set(mark.keyids)


def _target(found: TargetFile) -> Target:
    sha256 = found.hashes.get("sha256")
    if sha256 is None:
        raise Untrusted("it is signed without a sha256", element=found.path, remedy="publish it with edgefleet")
    return Target(found.length, names.digest(f"sha256:{sha256}"))


def _verify(found: TargetFile, data: bytes) -> None:
    try:
        found.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise Untrusted(
            f"other bytes came than were signed: {error}",
            element=found.path,
            remedy="find out who answers the device",
        ) from error
