"""Which of this server's keys gives orders: the one that the owner's newest targets metadata names.

Asked in the transaction that an order is signed in, because the owner may have named another since the last one, even
through another server of this fleet.
"""

from securesystemslib.signer import CryptoSigner
from sqlalchemy import Connection, func, select
from tuf.api.metadata import Metadata, Targets

from fleet.blobs import Blobs
from fleet.online_keys import OnlineKeys
from fleet.tables import tuf_metadata
from modules.errors import BadSettings
from modules.names import Digest
from modules.signing import decode_keys
from modules.trust import roles


class Directors:
    """Remembers the director's key for as long as targets is the same."""

    def __init__(self, keys: OnlineKeys, blobs: Blobs) -> None:
        self._keys, self._blobs = keys, blobs
        self._seen: tuple[int, CryptoSigner] | None = None

    def named(self, connection: Connection) -> CryptoSigner:
        """The key that signs from this transaction on; before there is a root, the one that init made.

        Raises:
            BadSettings: the owner named none that this server has.
        """
        of_targets = tuf_metadata.c.role == roles.TARGETS
        version = connection.execute(select(func.max(tuf_metadata.c.version)).where(of_targets)).scalar_one()
        if version is None:
            return self._keys.present("director")
        if self._seen is None or self._seen[0] != version:
            row = select(tuf_metadata.c.data).where(of_targets, tuf_metadata.c.version == version)
            targets = Metadata[Targets].from_bytes(connection.execute(row).scalar_one()).signed
            digest = Digest("sha256:" + targets.targets[roles.DIRECTOR_PATH].hashes["sha256"])
            self._seen = version, self._pick(digest)
        return self._seen[1]

    def _pick(self, digest: Digest) -> CryptoSigner:
        signer = self._keys.named("director", decode_keys(self._blobs.read(digest)))
        if signer is None:
            raise BadSettings(
                "the owner has named another director than this server's key",
                element="director",
                remedy="bring tuf-director.key from the server that has it, or make a new one and have the owner name "
                "it: edgefleet-fleet keys new director",
            )
        return signer
