"""Who may ask, where the server listens on TCP: whoever ``modules/endpoint/keys.py`` lets in."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from modules.endpoint.keys import EndpointKeys
from modules.errors import BadSettings, Untrusted
from modules.scoring.http.replies import Header, message

# What load balancers and orchestrators ask without a key.
_SERVICE: Final = b"/inference.GRPCInferenceService/"
OPEN: Final = frozenset(
    {b"/", b"/v2/health/live", b"/v2/health/ready", _SERVICE + b"ServerLive", _SERVICE + b"ServerReady"}
)
_CHALLENGE: Final[tuple[Header, ...]] = ((b"www-authenticate", b"Bearer"),)


class Access:
    """The keys in a file.

    Raises:
        BadSettings: the file cannot be used, or names web pages, which are named elsewhere here.
    """

    def __init__(self, file: Path) -> None:
        self._keys = EndpointKeys(file)
        if self._keys.origins:
            raise BadSettings(
                "the scoring server takes no cors_origins from it", element=str(file), remedy="set AML_CORS_ORIGINS"
            )

    def refresh(self) -> None:
        """Read the file again if it has changed."""
        self._keys.refresh()

    def check(self, url: bytes, headers: Iterable[Header]) -> None:
        """Let a request in by its head.

        Raises:
            Reply: 401, which says what is missing.
        """
        if self._keys.open or url.partition(b"?")[0] in OPEN:
            return
        given = next((value for name, value in headers if name == b"authorization"), b"")
        try:
            self._keys.check(given)
        except Untrusted as error:
            raise message(401, str(error), _CHALLENGE) from error
