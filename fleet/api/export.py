"""The fleet's data as tables, page by page."""

from typing import Any
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Depends, Response

from fleet.api.document import answers
from fleet.auth import In, need
from fleet.export import pages
from fleet.services import Use
from modules import __version__

router = APIRouter(prefix="/api/v1/export")


@router.get("", dependencies=[Depends(need("fleet:export"))])
def list_tables(use: Use, scope: In) -> dict[str, Any]:
    """The tables with their columns, as docs/export.md has them."""
    with use.database.read() as connection:
        return {"server": __version__, "at": use.clock(), "tables": pages.about(connection, scope)}


@router.get("/{table}", dependencies=[Depends(need("fleet:export"))], **answers("application/x-ndjson"))
def rows_of(table: str, use: Use, scope: In, after: str | None = None) -> Response:
    """Rows of a table, a JSON object a line; the header ``Link`` leads to the next page, where there is one."""
    with use.database.read() as connection:
        found = pages.page(connection, table, after, scope)
    headers = {}
    if found.after is not None:
        headers["link"] = f'</api/v1/export/{table}?after={quote(found.after, safe="")}>; rel="next"'
    return Response(msgspec.json.Encoder().encode_lines(found.rows), media_type="application/x-ndjson", headers=headers)
