"""The table of what each event changes on the page; an event that is not in it is seen in the journal only; pure."""

from flexbus.views import delivery
from flexbus.views.fact import Fact
from streams.page import on_delivery, on_grid, on_market, on_metering
from streams.page.area import Area, Handlers

__all__ = ["HANDLERS", "apply"]

HANDLERS: Handlers = {**on_grid.HANDLERS, **on_market.HANDLERS, **on_delivery.HANDLERS, **on_metering.HANDLERS}


def apply(area: Area, fact: Fact) -> None:
    """Fold one journal entry into the area's rows."""
    if type(fact.event) in on_metering.EVIDENCE:
        area.evidence = delivery.fold(area.evidence, fact)
    handler = HANDLERS.get(type(fact.event))
    if handler is not None:
        handler(area, fact.event)
