"""``edgefleet-agent halt``: stop every module of this device, for maintenance or before it is taken away.

The agent starts what was committed again when it runs next; only an order removes a module for good.
"""

import asyncio
import sys
from pathlib import Path

import msgspec

from agent import identity as identities
from agent import installation as installations
from agent.occupied import occupied
from agent.secrets_here import SecretFiles
from agent.settings import Settings
from agent.wiring import engines
from modules.errors import EdgefleetError


def halt(settings: Settings, *, as_json: bool) -> int:
    """Stop them on every engine that answers, and print their names.

    Raises:
        BadSettings: the device is not enrolled, or the agent runs, which would start them again at once.
    """
    with occupied(Path(settings.state)):
        stopped = asyncio.run(_stop_all(settings))
    if as_json:
        sys.stdout.write(msgspec.json.encode({"stopped": stopped}).decode() + "\n")
    else:
        sys.stdout.write(f"stopped {', '.join(stopped) or 'nothing, as nothing ran'}\n")
    return 0


async def _stop_all(settings: Settings) -> list[str]:
    identity = identities.load(settings.identity)
    secrets = SecretFiles(settings.secrets, settings.identity, identity.device)
    stopped = []
    for name, engine in engines(settings, identity, installations.look(settings)).items():
        try:
            for one in await engine.list():
                await engine.stop(one.instance, grace_s=settings.stop_grace_s)
                stopped.append(one.instance)
                secrets.clear(one.instance.rpartition("-")[2])
        except EdgefleetError as error:
            sys.stderr.write(f"edgefleet-agent: engine {name}: {error}\n")
    return stopped
