"""What events of the registry, the grid and its limits change on the page; pure."""

from flexbus import events as ev
from streams.page.area import Area, Handlers, parties_named
from streams.page.layout import map_positions, tree_positions

__all__ = ["HANDLERS"]


def _area_opened(area: Area, event: ev.AreaOpened) -> None:
    area.info |= {"name": event.name, "fmo_id": event.fmo_id, "time_zone": event.time_zone}
    area.rows.put("", "areas", area.area_id, area.info)


def _participant(area: Area, event: ev.ParticipantRegistered) -> None:
    value = {
        "participant_id": event.participant_id,
        "name": event.name,
        "roles": [r.value for r in event.roles],
        "brp_id": event.brp_id,
        "gone": None,
    }
    # The choice of party is a tool of the page, so it is listed under every lens that is chosen freely.
    area.put("participants", event.participant_id, value, type(event), parties=_self(event), tool=True)


def _participant_removed(area: Area, event: ev.ParticipantRemoved) -> None:
    change = {"gone": event.reason}
    area.touch("participants", event.participant_id, type(event), change, parties=_self(event), tool=True)


def _self(event: ev.ParticipantRegistered | ev.ParticipantRemoved) -> frozenset[str]:
    return frozenset({event.participant_id})


def _point(area: Area, event: ev.ConnectionPointRegistered) -> None:
    area.bus_of_point[event.connection_point_id] = event.bus_id
    value = {
        "connection_point_id": event.connection_point_id,
        "kind": event.kind.value,
        "bus_id": event.bus_id,
        "fsp_id": event.fsp_id,
        "max_feed_in_w": event.max_feed_in_w,
        "max_draw_w": event.max_draw_w,
        "gone": None,
    }
    area.put("points", event.connection_point_id, value, type(event), parties=parties_named(event.fsp_id))


def _point_removed(area: Area, event: ev.ConnectionPointRemoved) -> None:
    area.touch("points", event.connection_point_id, ev.ConnectionPointRegistered, {"gone": event.reason})


def _asset(area: Area, event: ev.AssetRegistered) -> None:
    value = {
        "asset_id": event.asset_id,
        "kind": event.kind.value,
        "connection_point_id": event.connection_point_id,
        "fsp_id": event.fsp_id,
        "max_feed_in_w": event.max_feed_in_w,
        "max_draw_w": event.max_draw_w,
    }
    area.put("assets", event.asset_id, value, type(event), parties=parties_named(event.fsp_id), hidden=("fsp_id",))


def _network(area: Area, event: ev.NetworkModelPublished) -> None:
    area.network = event
    tree = tree_positions(event)
    geographic = map_positions(event)
    value = {
        "network_id": event.network_id,
        "revision": event.revision,
        "name": event.name,
        "buses": [
            {
                "bus_id": b.bus_id,
                "name": b.name,
                "nominal_voltage_v": b.nominal_voltage_v,
                "min_voltage_ppm": b.min_voltage_ppm,
                "max_voltage_ppm": b.max_voltage_ppm,
                "tree": tree[b.bus_id],
                "map": None if geographic is None else geographic[b.bus_id],
            }
            for b in event.buses
        ],
        "branches": [
            {
                "branch_id": b.branch_id,
                "name": b.name,
                "kind": b.kind.value,
                "from_bus_id": b.from_bus_id,
                "to_bus_id": b.to_bus_id,
                "closed": b.closed,
                "limited": not (
                    b.max_current_ma is None and b.max_from_current_ma is None and b.max_apparent_power_va is None
                ),
            }
            for b in event.branches
        ],
        "infeed_points": [{"infeed_id": p.infeed_id, "bus_id": p.bus_id} for p in event.infeed_points],
    }
    area.put("network", "network", value, type(event))


def _forecast(area: Area, event: ev.NetForecastPublished) -> None:
    area.forecast = event


def _limit(area: Area, event: ev.CapacityLimitForeseen | ev.CapacityLimitUnforeseen) -> None:
    value = {
        "limit_id": event.limit_id,
        "connection_point_id": event.connection_point_id,
        "start_ms": event.start_ms,
        "end_ms": event.end_ms,
        "max_feed_in_w": event.max_feed_in_w,
        "max_draw_w": event.max_draw_w,
        "reason": event.reason,
        "foreseen": isinstance(event, ev.CapacityLimitForeseen),
        "lifted_ms": None,
    }
    area.put("limits", event.limit_id, value, type(event))


def _limit_lifted(area: Area, event: ev.CapacityLimitLifted) -> None:
    area.touch("limits", event.limit_id, ev.CapacityLimitForeseen, {"lifted_ms": event.from_ms})


def _light(area: Area, event: ev.TrafficLightChanged) -> None:
    value = {
        "session_id": event.session_id,
        "connection_point_id": event.connection_point_id,
        "start_ms": event.start_ms,
        "colours": [c.value for c in event.colours],
        "max_up_w": list(event.max_up_w),
        "max_down_w": list(event.max_down_w),
        "causes": list(event.causes),
    }
    area.put("lights", f"{event.session_id}/{event.connection_point_id}", value, type(event))


def _grid_state(area: Area, event: ev.GridStatePublished) -> None:
    name = f"{event.session_id}/{'cleared' if event.cleared else 'forecast'}"
    value = {
        "session_id": event.session_id,
        "mode": "cleared" if event.cleared else "forecast",
        "start_ms": event.start_ms,
        "resolution_s": event.resolution_s,
        "voltage_ppm": {b.bus_id: list(b.voltage_ppm) for b in event.buses},
        "power_w": {b.branch_id: list(b.power_w) for b in event.branches},
        "loading_ppm": {b.branch_id: list(b.loading_ppm) for b in event.branches},
    }
    area.put("grid", name, value, type(event))


HANDLERS: Handlers = {
    ev.AreaOpened: _area_opened,
    ev.ParticipantRegistered: _participant,
    ev.ParticipantRemoved: _participant_removed,
    ev.ConnectionPointRegistered: _point,
    ev.ConnectionPointRemoved: _point_removed,
    ev.AssetRegistered: _asset,
    ev.NetworkModelPublished: _network,
    ev.NetForecastPublished: _forecast,
    ev.CapacityLimitForeseen: _limit,
    ev.CapacityLimitUnforeseen: _limit,
    ev.CapacityLimitLifted: _limit_lifted,
    ev.TrafficLightChanged: _light,
    ev.GridStatePublished: _grid_state,
}
