"""Words that stand in one place of the planted fleet each, and who may not be shown them (docs/operate.md, People)."""

import re
from typing import Final

from fleet.people.roles import Grant

# Plain, or as the beginning of something in base64.
MARK: Final = re.compile(r"quagga-[a-z]+|cXVhZ2dhL\w+")

# Devices of the other group, and all that comes of them.
_OTHER_GROUP: Final = {
    *("quagga-near", "quagga-far", "quagga-gone", "quagga-misfit", "quagga-label", "quagga-cpu", "quagga-reason"),
    *("quagga-event", "quagga-remote", "quagga-history", "quagga-waits", "quagga-starter", "quagga-rule"),
}
# Modules of the other team, and their rollouts. What runs on a device is the device's.
_OTHER_TEAM: Final = {"quagga-words", "quagga-model", "quagga-note", "quagga-past", "quagga-watch"}
# What is of no device and no team, so that nobody whose rights are bounded sees it.
_WHOLE_FLEET: Final = {"quagga-fleet"}
# Each of these permissions alone opens it.
_OPENED_BY: Final = {
    "quagga-ours": {"device:read", "fleet:export"},
    "quagga-seen": {"event:read", "fleet:export"},
    "quagga-ordered": {"command:read", "fleet:export"},
    "quagga-log": {"log:read"},
    "quagga-blob": {"blob:read"},
    "quagga-manifest": {"module:read"},
    "quagga-started": {"rollout:read", "fleet:export"},
    "quagga-target": {"audit:read"},
    "quagga-operator": {"user:read"},
    "quagga-token": {"user:read"},
    "quagga-join": {"device:enrol"},
    "quagga-address": {"device:approve"},
    "quagga-secret": {"secret:read"},
}
# Hashes, and what is sealed: no permission opens them.
_NOBODY: Final = {"quagga-password", "quagga-session", "quagga-hash", "quagga-bundle", "quagga-sealed"}
ALL: Final = _OTHER_GROUP | _OTHER_TEAM | _WHOLE_FLEET | _OPENED_BY.keys() | _NOBODY


def hidden(grants: tuple[Grant, ...]) -> set[str]:
    """What nobody with these roles may be shown."""
    marks = set(_NOBODY)
    if all(one.selector != "*" for one in grants):
        marks |= _OTHER_GROUP
    if all(one.teams is not None for one in grants):
        marks |= _OTHER_TEAM
    if not any(one.area.unlimited for one in grants):
        marks |= _WHOLE_FLEET
    opened = {permission for one in grants for permission in _permissions(one)}
    return marks | {mark for mark, opening in _OPENED_BY.items() if not opening & opened}


def _permissions(grant: Grant) -> set[str]:
    return {permission for opening in _OPENED_BY.values() for permission in opening if grant.permits(permission)}
