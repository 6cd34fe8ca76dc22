"""What this device signs with: its present key, which is another one after a renewal."""

from pathlib import Path

from securesystemslib.signer import Key, SecretsHandler, Signature, Signer

from agent import identity as identities
from modules.signing import signer_from_pem


class OwnKey(Signer):
    """Given once to all that sign; :meth:`reload` makes them sign with the key that the identity's folder has now."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.reload()

    def reload(self) -> None:
        """Take the key from the folder.

        Raises:
            BadSettings: it cannot be read.
        """
        pair = identities.present(self._folder)
        self._signer = signer_from_pem(identities.key_of(pair.key.read_bytes()), element=str(pair.key))

    @property
    def public_key(self) -> Key:
        return self._signer.public_key

    def sign(self, payload: bytes) -> Signature:
        return self._signer.sign(payload)

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> "OwnKey":
        """Not by an address: the key lies in the identity's folder."""
        raise NotImplementedError
