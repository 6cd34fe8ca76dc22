"""The trust metadata: read by everyone who verifies, written by those who hold offline keys."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Base64Bytes, Field
from starlette.concurrency import run_in_threadpool

from fleet.api.bodies import Body
from fleet.api.document import takes
from fleet.api.paths import TeamPath
from fleet.auth import By, need
from fleet.folder import Folder, replace_file
from fleet.services import Use
from modules.names import slug
from modules.trust.roles import BIN_BITS, BIN_LIMIT, TARGETS_LIMIT

router = APIRouter(prefix="/api/v1")

# Four bytes of base64 for three, and some for the names.
_BINS: Final = 1 << BIN_BITS
_BINS_LIMIT: Final = _BINS * BIN_LIMIT * 3 // 2
# A team's role and all of its bins.
_FILES: Final = _BINS + 1
_FILES_LIMIT: Final = TARGETS_LIMIT * 3 // 2 + _BINS_LIMIT
# Root, targets, a few teams at once, and the bins of one full team or of several.
UPDATE_LIMIT: Final = 8 * TARGETS_LIMIT + _BINS_LIMIT


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


class TeamFiles(Body):
    """A team's new files by role, base64; they are taken all together or not at all."""

    files: Annotated[dict[str, Base64Bytes], Field(min_length=1, max_length=_FILES)]


class Update(Body):
    """The next versions of what offline keys sign, base64: taken together or not at all.

    ``teams`` has roles by team, ``bins`` has bins by name.
    ``skip`` lets targets and teams skip versions that devices saw before a backup was restored.
    """

    root: Base64Bytes | None = None
    targets: Base64Bytes | None = None
    director: Base64Bytes | None = None
    teams: Annotated[dict[str, Base64Bytes], Field(max_length=1000, default_factory=dict)]
    bins: Annotated[dict[str, Base64Bytes], Field(max_length=16 * _BINS, default_factory=dict)]
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
        root=body.root, targets=body.targets, director=body.director, teams=teams, bins=body.bins, skip=body.skip, by=by
    )
    use.wake()  # orders may wait to be signed again
    return {"changed": changed}


# What a team publishes; the server takes nothing that its own key has not signed.
@router.post(
    "/tuf/teams/{team}",
    dependencies=[Depends(need("module:write"))],
    max_body_size=TARGETS_LIMIT,
    **takes("application/json"),
)
async def update_team(team: TeamPath, request: Request, use: Use) -> dict[str, list[str]]:
    data = await request.body()
    return {"signed": await run_in_threadpool(use.metadata.update_team, team, data)}


@router.post("/tuf/teams/{team}/files", dependencies=[Depends(need("module:write"))], max_body_size=_FILES_LIMIT)
def update_team_files(team: TeamPath, body: TeamFiles, use: Use) -> dict[str, list[str]]:
    return {"signed": use.metadata.update_team_files(team, body.files)}
