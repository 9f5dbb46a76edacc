"""The physical side of the demo day: what the assets do with the orders they get, and what meters then read."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from flexbus import events as ev
from flexbus.quantities import energy_wh
from streams.demo.scenario import SLOT_S, Site

__all__ = ["Plant"]


@dataclass(slots=True)
class _Order:
    connection_point_id: str
    set_w: dict[int, int]


@dataclass(slots=True)
class Plant:
    """Assets follow what their provider acknowledged; one of them delivers only a part.

    Attributes:
        sites: by connection point.
        weak_point: connection point that delivers only `weak_ppm` of its orders, if any.
        weak_ppm: its share, millionths.
    """

    sites: dict[str, Site]
    start_ms: int
    weak_point: str | None = None
    weak_ppm: int = 600_000
    _orders: dict[str, _Order] = field(default_factory=dict)
    _followed: dict[str, None] = field(default_factory=dict)

    def see(self, event: Any) -> None:
        """Take note of an event that orders, confirms or ends an activation."""
        match event:
            case ev.ActivationOrdered(connection_point_id=str() as point):
                times = range(event.start_ms, event.start_ms + len(event.power_w) * SLOT_S * 1000, SLOT_S * 1000)
                sign = event.direction.sign
                self._orders[event.activation_id] = _Order(
                    point, {t: sign * w for t, w in zip(times, event.power_w, strict=True)}
                )
            case ev.ActivationAcknowledged():
                self._followed[event.activation_id] = None
            case ev.ActivationStopped() if event.activation_id in self._orders:
                order = self._orders[event.activation_id]
                for t in order.set_w:
                    if event.from_ms <= t < event.until_ms:
                        order.set_w[t] = 0
            case ev.ActivationChanged() if event.activation_id in self._orders:
                order = self._orders[event.activation_id]
                for n, w in enumerate(event.power_w):
                    t = event.from_ms + n * SLOT_S * 1000
                    order.set_w[t] = w if order.set_w.get(t, 0) >= 0 else -w
            case _:
                pass

    def energy_wh(self, connection_point_id: str, slots: Iterable[int]) -> tuple[int, ...]:
        """Return what the meter reads per slot, Wh, positive = feed-in.

        Args:
            connection_point_id: connection point.
            slots: slot numbers of the day.
        """
        site = self.sites[connection_point_id]
        weak = connection_point_id == self.weak_point
        found = []
        for slot in slots:
            at = self.start_ms + slot * SLOT_S * 1000
            # Each order is rounded to Wh as it is owed, or rounding would read as under-delivery.
            change = sum(
                energy_wh(order.set_w.get(at, 0), SLOT_S)
                for activation_id in self._followed
                if (order := self._orders.get(activation_id)) and order.connection_point_id == connection_point_id
            )
            if weak:
                change = change * self.weak_ppm // 1_000_000
            found.append(energy_wh(site.baseline_w[slot], SLOT_S) + change)
        return tuple(found)
