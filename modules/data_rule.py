"""Where the data of a module's requests may go: a rule of its publisher's, signed with the manifest.

The server asks it before it writes an order, and the device before it follows one: the device's word counts.
"""

from typing import Annotated

import msgspec

from modules.bounds import Line, Region
from modules.errors import Invalid


class DataRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What kind of data it is, and the regions to which it may go; none given: anywhere; an empty list: nowhere."""

    kind: Annotated[Line, msgspec.Meta(min_length=1)]
    regions: Annotated[tuple[Region, ...], msgspec.Meta(max_length=64)] | None = None

    def check_hosts(self, hosts: tuple[str, ...]) -> None:
        """What never leaves its site has no hosts to go to.

        Raises:
            Invalid: there are some.
        """
        if self.regions == () and hosts:
            raise Invalid(
                f"the data ({self.kind}) never leave the site, and there are hosts for a fallback",
                element="fallback_hosts",
                remedy="name no host, or the regions to which the data may go",
            )

    def check(self, region: str) -> None:
        """Let requests go to an endpoint in this region; empty: nobody says where it is.

        Raises:
            Invalid: they may not.
        """
        if self.allows(region):
            return
        if not self.regions:
            raise Invalid(
                f"the module's data ({self.kind}) never leave the site, so nothing elsewhere may answer for it",
                element="fallback",
                remedy="roll it out without a fallback",
            )
        where = f"in {region}" if region else "in a region that nobody says"
        raise Invalid(
            f"the module's data ({self.kind}) may go to {', '.join(self.regions)} alone, and the fallback is {where}",
            element="fallback",
            remedy="name an endpoint in one of these regions",
        )

    def allows(self, region: str) -> bool:
        """Whether the data may go to this region; empty: nobody says which it is."""
        return self.regions is None or region in self.regions
