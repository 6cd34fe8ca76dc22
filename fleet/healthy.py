"""``python -m fleet.healthy``: whether the server in this container answers and can work, for the image's health check.

It is a process of its own every half minute, so it loads nothing of the server. It knows the settings of the
environment, not the options of ``serve``.
"""

import http.client
import os
import ssl
import sys
from typing import Final

_PREFIX: Final = "EDGEFLEET_FLEET_"
_WITHIN_S: Final = 5
# As pydantic reads them.
_OFF: Final = frozenset({"0", "f", "false", "n", "no", "off"})
_SAID: Final = 500


def main() -> int:
    """0 where it is well; else 1, with the server's own words."""
    host = os.environ.get(_PREFIX + "HOST", "0.0.0.0")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    port = int(os.environ.get(_PREFIX + "PORT", "8443"))
    if os.environ.get(_PREFIX + "TLS", "true").lower() in _OFF:
        connection = http.client.HTTPConnection(host, port, timeout=_WITHIN_S)
    else:
        # To itself: nobody is in between, and the certificate may be of whatever authority the operator has chosen.
        trusting = ssl._create_unverified_context()  # noqa: S323, SLF001 - the library's name for exactly that
        connection = http.client.HTTPSConnection(host, port, timeout=_WITHIN_S, context=trusting)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        said = answer.read(_SAID).decode(errors="replace")
    except OSError as error:
        said, well = f"it does not answer: {error}", False
    except http.client.HTTPException as error:
        said, well = f"what answers is no fleet server: {error!r}", False
    else:
        well = answer.status == http.client.OK
    finally:
        connection.close()
    sys.stdout.write(said + "\n")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
