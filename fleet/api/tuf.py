"""The trust metadata: read by everyone who verifies, written by those who hold offline keys."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Base64Bytes, Field
from starlette.concurrency import run_in_threadpool

from fleet.api.bodies import Body
from fleet.api.paths import TeamPath
from fleet.auth import By, need
from fleet.folder import Folder, replace_file
from fleet.services import Use
from modules.names import slug
from modules.trust.roles import TARGETS_LIMIT

router = APIRouter(prefix="/api/v1")

# Root, targets, and a few teams at once.
UPDATE_LIMIT: Final = 8 * TARGETS_LIMIT


class Bootstrap(Body):
    """The first trust metadata of a fleet, base64; ``director`` is the target ``trust/director.json``."""

    root: Base64Bytes
    targets: Base64Bytes
    director: Base64Bytes
    teams: Annotated[dict[str, Base64Bytes], Field(max_length=1000, default_factory=dict)]
    #: the folder of this machine where the offline keys were made, if it was on this machine
    keys_at: Annotated[str, Field(max_length=4096, pattern=r"^/[^\n\x00]*$")] | None = None


class NewTeam(Body):
    """One more team: targets metadata that names it, and the first metadata of its own, base64."""

    team: str
    targets: Base64Bytes
    metadata: Base64Bytes


class Update(Body):
    """The next versions of what offline keys sign, base64: taken together or not at all.

    ``skip`` lets targets and teams skip versions that devices saw before a backup was restored.
    """

    root: Base64Bytes | None = None
    targets: Base64Bytes | None = None
    director: Base64Bytes | None = None
    teams: Annotated[dict[str, Base64Bytes], Field(max_length=1000, default_factory=dict)]
    skip: bool = False


@router.get("/tuf/{name}", dependencies=[Depends(need("trust:read"))])
def metadata_file(name: str, use: Use) -> Response:
    return Response(use.metadata.file(name), media_type="application/json")


@router.get("/tuf-online-keys", dependencies=[Depends(need("trust:read"))])
def online_keys(use: Use) -> dict[str, Any]:
    return use.metadata.online_keys()


@router.post("/tuf-bootstrap", dependencies=[Depends(need("trust:write"))])
def bootstrap(body: Bootstrap, use: Use) -> dict[str, str]:
    teams = {slug(team, what="team"): data for team, data in body.teams.items()}
    use.metadata.bootstrap(root=body.root, targets=body.targets, director=body.director, teams=teams)
    if body.keys_at is not None:
        replace_file(Folder(use.settings.data).offline_keys_at, body.keys_at.encode() + b"\n")
    return {"state": "founded"}


@router.post("/tuf-teams", dependencies=[Depends(need("trust:write"))], max_body_size=3 * TARGETS_LIMIT)
def add_team(body: NewTeam, use: Use) -> dict[str, str]:
    team = slug(body.team, what="team")
    use.metadata.add_team(team, targets=body.targets, data=body.metadata)
    return {"team": team, "state": "added"}


@router.get("/tuf-staged-keys", dependencies=[Depends(need("trust:read"))])
def staged_keys(use: Use) -> dict[str, Any]:
    return use.metadata.staged_keys()


@router.post("/tuf-update", dependencies=[Depends(need("trust:write"))], max_body_size=UPDATE_LIMIT)
def update(body: Update, use: Use, by: By) -> dict[str, list[str]]:
    teams = {slug(team, what="team"): data for team, data in body.teams.items()}
    changed = use.metadata.succeed(
        root=body.root, targets=body.targets, director=body.director, teams=teams, skip=body.skip, by=by
    )
    use.wake()  # orders may wait to be signed again
    return {"changed": changed}


@router.post("/tuf/teams/{team}", dependencies=[Depends(need("trust:write"))], max_body_size=TARGETS_LIMIT)
async def update_team(team: TeamPath, request: Request, use: Use) -> dict[str, list[str]]:
    data = await request.body()
    return {"signed": await run_in_threadpool(use.metadata.update_team, team, data)}
