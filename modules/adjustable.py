"""What an order may say about a module beyond its digest: settings and a fallback address, as its publisher allows.

The fleet asks before it writes an order, the device before it follows one: both with these rules.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from modules.errors import Invalid
from modules.manifest import Manifest, check_setting


def check_settings(manifest: Manifest, settings: Mapping[str, object]) -> None:
    """Accept only settings that the manifest declares adjustable, within its bounds.

    Raises:
        Invalid: another setting, or a value out of bounds; names it and says what may be set.
    """
    for name, value in settings.items():
        if name not in manifest.adjustable:
            allowed = ", ".join(sorted(manifest.adjustable)) or "none"
            raise Invalid("the module does not let this be set", element=f"settings.{name}", remedy=f"set: {allowed}")
        check_setting(name, manifest.adjustable[name], value)


def check_fallback(url: str | None, patterns: Sequence[str]) -> None:
    """Accept only an https address whose host is allowed; ``*.`` at the beginning of a pattern stands for one name.

    Raises:
        Invalid: no https address, or another host.
    """
    if url is None:
        return
    parts = urlsplit(url)
    host = parts.hostname or ""
    below = host.partition(".")[2]
    if parts.scheme != "https" or parts.username or not host:
        raise Invalid("this is no https address", element="fallback", remedy="write https://host/path")
    if host not in patterns and f"*.{below}" not in patterns:
        raise Invalid(
            f"neither the module's publisher nor this device allows the host {host}",
            element="fallback",
            remedy=f"use one of: {', '.join(patterns) or 'none'}",
        )
