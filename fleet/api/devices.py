"""The devices of the fleet."""

import http
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from fleet import device_list, devices, removal, revocation, selectors
from fleet.api.bodies import Body
from fleet.api.paths import DevicePath, SlotPath
from fleet.auth import Asker, By, In, need
from fleet.device_states import State
from fleet.people import reach
from fleet.rollouts import control, joining
from fleet.services import Use
from fleet.telemetry import view as telemetry
from modules.bounds import MAX_TIME

router = APIRouter(prefix="/api/v1/devices")


class Change(Body):
    """The device's labels, all of them."""

    labels: dict[str, str]


@router.get("", dependencies=[Depends(need("device:read"))])
def list_devices(
    use: Use,
    scope: In,
    selector: Annotated[str, Query(max_length=selectors.LIMIT)] = "*",
    search: Annotated[str, Query(max_length=100)] = "",
    state: Annotated[list[State] | None, Query(max_length=8)] = None,
    sort: Annotated[device_list.Sort, Query()] = "id",
    after: Annotated[str, Query(max_length=100)] = "",
    limit: Annotated[int | None, Query(ge=1, le=500)] = None,
) -> Response:
    """All devices by id; with ``limit`` a page of them, and the header ``Link`` leads to the next.

    ``search`` is a part of an id or label. Of a page, ``Edgefleet-Total`` says how many devices its filters mean, as
    10000+ where they are more, and nothing where the selector asks for facts or compares numbers.
    """
    wish = device_list.Wish(selectors.parse(selector), search, state or (), sort, after, limit)
    headers = {}
    with use.database.read() as connection:
        if wish == device_list.ALL:
            found = devices.view_all(connection, scope)
        else:
            page = device_list.page(connection, wish, scope)
            found = devices.some(connection, page.devices)
            headers = _about(page, selector=selector, search=search, state=state, sort=sort, limit=limit)
    # Encoded here: of thousands of devices, the framework's own walk through the values takes most of the time.
    return Response(msgspec.json.encode(found), media_type="application/json", headers=headers)


def _about(page: device_list.Page, **asked: Any) -> dict[str, str]:
    headers = {}
    if page.total is not None:
        more = page.total > device_list.COUNTED
        headers["Edgefleet-Total"] = f"{device_list.COUNTED}+" if more else str(page.total)
    if page.after:
        query = urlencode({name: one for name, one in asked.items() if one} | {"after": page.after}, doseq=True)
        headers["Link"] = f'</api/v1/devices?{query}>; rel="next"'
    return headers


@router.get("/{device}", dependencies=[Depends(need("device:read"))])
def show_device(device: DevicePath, use: Use) -> dict[str, Any]:
    with use.database.read() as connection:
        return devices.view(connection, device)


@router.get("/{device}/telemetry", dependencies=[Depends(need("device:read"))])
def show_telemetry(
    device: DevicePath,
    use: Use,
    stream: Annotated[str | None, Query(max_length=64)] = None,
    since: Annotated[float | None, Query(ge=0, le=MAX_TIME)] = None,
) -> Response:
    """The newest figures of a device; with ``since`` (Unix seconds) its samples from then on, the newest messages'."""
    with use.database.read() as connection:
        found = telemetry.of_device(connection, device, stream, since)
    return Response(msgspec.json.encode(found), media_type="application/json")


@router.patch("/{device}", dependencies=[Depends(need("group:write"))])
def change_device(device: DevicePath, body: Change, use: Use, scope: In) -> dict[str, Any]:
    with use.database.write() as connection:
        devices.set_labels(connection, device, body.labels)
        reach.check_kept(connection, scope, device)
        joining.changed(connection, device)
        shown = devices.view(connection, device)
    use.wake()
    return shown


@router.delete("/{device}", dependencies=[Depends(need("device:write"))])
def remove_device(device: DevicePath, use: Use, by: By) -> dict[str, str]:
    now = use.clock()
    with use.database.write() as connection:
        removal.remove_device(connection, now, device, by=by)
    with use.database.write() as connection:  # one list after the other
        told = use.revocations.publish(connection, now)
    use.devices_changed()
    return {"device": device, "broker": revocation.TOLD if told else revocation.UNTOLD}


@router.post("/{device}/revoke", dependencies=[Depends(need("device:write"))])
def revoke_device(device: DevicePath, use: Use, by: By) -> dict[str, str]:
    """Take back its certificates; it stays in the fleet and has to be enrolled again."""
    now = use.clock()
    with use.database.write() as connection:
        removal.revoke_device(connection, now, device, by=by)
    with use.database.write() as connection:
        told = use.revocations.publish(connection, now)
    use.devices_changed()
    return {"device": device, "broker": revocation.TOLD if told else revocation.UNTOLD}


@router.delete("/{device}/slots/{slot}", dependencies=[Depends(need("rollout:write"))])
def empty_slot(device: DevicePath, slot: SlotPath, use: Use, who: Asker, response: Response) -> dict[str, Any]:
    """With four_eyes on, once two operators have asked for it within a day: 202 for the first."""
    now, needs_another = use.clock(), use.settings.four_eyes
    with use.database.write() as connection:
        counter = control.empty_slot(
            connection, now, use.orders, device, slot, by=who.name, operator=who.operator, needs_another=needs_another
        )
    if counter is None:
        response.status_code = http.HTTPStatus.ACCEPTED
        return {"waits_for": "another person, who asks for the same within a day"}
    use.wake()
    return {"counter": counter}
