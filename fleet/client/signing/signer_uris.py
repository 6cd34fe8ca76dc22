"""Keys that are not files: HSMs and the clouds' key services, by securesystemslib's signer URIs.

The public half is read from where the key is, so that a URI is all there is to write down. What the service asks for
besides (credentials of a cloud, ``PYKCS11LIB`` for an HSM's library) is its own affair and comes from the environment.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import typer
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import (
    AWSSigner,
    AzureSigner,
    GCPSigner,
    HSMSigner,
    Key,
    Signature,
    Signer,
    VaultSigner,
)

from modules.errors import BadSettings
from modules.trust.succession import KINDS

SCHEMES: Final = ("file2", "hsm", "awskms", "gcpkms", "azurekms", "hv")
PIN_VARIABLE: Final = "EDGEFLEET_PIN"
_EXTRAS: Final = {
    "hsm": "pip install 'edgefleet[hsm]', and name the HSM's library in PYKCS11LIB",
    "awskms": "pip install 'securesystemslib[awskms]'",
    "gcpkms": "pip install 'securesystemslib[gcpkms]'",
    "azurekms": "pip install 'securesystemslib[azurekms]'",
    "hv": "pip install 'securesystemslib[vault]'",
}


def is_uri(place: str) -> bool:
    """Whether this names a signer, and not a file."""
    return place.partition(":")[0] in SCHEMES and ":" in place


def file_of(uri: str) -> Path:
    """The file of a ``file2:`` URI."""
    return Path(urlsplit(uri).path)


def load(uri: str) -> Signer:
    """The signer that a URI names, with the public key that is where the key is.

    Raises:
        BadSettings: what it needs is not installed, there is no such key, or one of a kind that devices do not verify.
    """
    scheme, _, rest = uri.partition(":")
    with_uri, key = _asked(uri, lambda: _IMPORT[scheme](uri, rest))
    if key.scheme not in KINDS:
        raise BadSettings(
            f"the key is of the kind {key.scheme}, which devices do not verify",
            element=uri,
            remedy="make an Ed25519 or P-256 key",
        )
    return _Told(uri, _asked(uri, lambda: Signer.from_priv_key_uri(with_uri, key, _secret)))


class _Told(Signer):
    """Another signer, whose troubles are told in our words."""

    def __init__(self, uri: str, signer: Signer) -> None:
        self._uri, self._signer = uri, signer

    @property
    def public_key(self) -> Key:
        return self._signer.public_key

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: Any = None) -> Signer:
        return cls(priv_key_uri, Signer.from_priv_key_uri(priv_key_uri, public_key, secrets_handler))

    def sign(self, payload: bytes) -> Signature:
        signature: Signature = _asked(self._uri, lambda: self._signer.sign(payload))
        return signature


def _asked(uri: str, ask: Callable[[], Any]) -> Any:
    scheme = uri.partition(":")[0]
    try:
        return ask()
    except UnsupportedLibraryError as error:
        raise BadSettings(f"{error}", element=uri, remedy=_EXTRAS.get(scheme, "install what it needs")) from error
    except BadSettings:
        raise
    except Exception as error:  # securesystemslib documents that signers raise whatever their service's library does
        said = str(error) or type(error).__name__
        raise BadSettings(
            f"the signer cannot be used: {said}",
            element=uri,
            remedy="see that the URI, the PIN and the service's own settings are right",
        ) from error


def _secret(name: str) -> str:
    """A PIN, from ``EDGEFLEET_PIN`` or the keyboard."""
    return os.environ.get(PIN_VARIABLE) or str(typer.prompt(f"The HSM's {name}", hide_input=True, err=True))


def _hsm(uri: str, rest: str) -> tuple[str, Key]:
    number, _, query = rest.partition("?")
    label = dict(parse_qsl(query)).get("label")
    _, key = HSMSigner.import_(int(number) if number else None, label, _secret)
    return uri, key


def _aws(_uri: str, rest: str) -> tuple[str, Key]:
    return AWSSigner.import_(rest, "ecdsa-sha2-nistp256")


def _gcp(_uri: str, rest: str) -> tuple[str, Key]:
    return GCPSigner.import_(rest)


def _azure(uri: str, _rest: str) -> tuple[str, Key]:
    parts = urlsplit(uri)
    place = parts.path.strip("/").split("/")
    if len(place) < 2 or place[0] != "keys":  # noqa: PLR2004
        raise BadSettings(
            "this names no key", element=uri, remedy="write azurekms://VAULT.vault.azure.net/keys/NAME/VERSION"
        )
    return AzureSigner.import_((parts.hostname or "").partition(".")[0], place[1])


def _vault(_uri: str, rest: str) -> tuple[str, Key]:
    return VaultSigner.import_(rest.partition("/")[0])


_IMPORT: Final = {"hsm": _hsm, "awskms": _aws, "gcpkms": _gcp, "azurekms": _azure, "hv": _vault}
