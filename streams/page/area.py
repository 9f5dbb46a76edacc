"""What the page knows of one market area behind its rows; `handlers` says what each event changes; pure."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from clearing.power_flow import AcGrid
from flexbus import events as ev
from flexbus.views.delivery import Evidence
from streams.page.rows import Rows
from streams.page.series import Slots, UpDown

__all__ = ["MAX_LISTED", "Area", "Handlers", "Held", "Measured", "Session", "parties_named"]

# Awards, non-awards and settlement lines kept for show; the counts and sums are of all.
MAX_LISTED = 2000


@dataclass(slots=True)
class Held:
    """What is kept of an offer to take its sums away again."""

    session_id: str
    fsp_id: str
    direction: str
    start_ms: int
    resolution_s: int
    power_w: tuple[int, ...]


@dataclass(slots=True)
class Session:
    """A session's slots and the sums over them."""

    session_id: str
    slots: Slots
    row: dict[str, Any]
    requests: UpDown
    offers: UpDown
    needs: UpDown
    own: dict[str, UpDown] = field(default_factory=dict)
    offers_counted: int = 0
    gate_closed: bool = False
    # By the meters: slots to compute anew, and those computed.
    metered_due: set[int] = field(default_factory=set)
    measured: dict[int, "Measured"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """One slot of the grid by the meters, in the order of the network's buses and branches.

    Attributes:
        read: connection points whose meter and baseline are known.
        planned: connection points with an order that are not read, and taken as ordered.
        voltage_ppm: per bus; zero = not energised.
        power_w: per branch.
        loading_ppm: per branch.
    """

    read: int
    planned: int
    voltage_ppm: tuple[int, ...]
    power_w: tuple[int, ...]
    loading_ppm: tuple[int, ...]


class Area:
    """The working state of one area behind its rows."""

    def __init__(self, area_id: str, rows: Rows) -> None:
        self.area_id = area_id
        self.rows = rows
        self.info: dict[str, Any] = {"area_id": area_id, "name": area_id, "fmo_id": None, "time_zone": "UTC"}
        self.products: dict[str, ev.MarketProductDefined] = {}
        self.sessions: dict[str, Session] = {}
        self.metered: dict[str, Session] = {}  # those whose readings are kept
        self.network: ev.NetworkModelPublished | None = None
        self.forecast: ev.NetForecastPublished | None = None
        self.bus_of_point: dict[str, str] = {}
        self.offers: dict[str, Held] = {}
        self.requests: dict[str, ev.FlexRequestSubmitted | ev.FlexRequestAmended] = {}
        self.needs: dict[tuple[str, str, str], ev.NeedComputed] = {}
        self.deliveries: dict[str, ev.DeliveryComputed] = {}
        self.clipped: set[str] = set()
        # What meters, baselines and orders say, judged by the rules of the settlement, before it has been due.
        self.evidence = Evidence()
        self.points_due: set[tuple[str, int]] = set()  # connection point, day since 1970
        self.solver: tuple[ev.NetworkModelPublished, AcGrid] | None = None

    def put(self, section: str, name: str, value: dict[str, Any], source: type[Any] | None, **who: Any) -> None:
        """Write a row of this area."""
        self.rows.put(self.area_id, section, name, value, source="" if source is None else source.__name__, **who)

    def touch(self, section: str, name: str, source: type[Any] | None, change: dict[str, Any], **who: Any) -> None:
        """Change a row that should be there; an event about something never seen leaves no trace here."""
        value = self.rows.get(self.area_id, section, name)
        if value is not None:
            self.put(section, name, {**value, **change}, source, **who)

    def session(self, session_id: str) -> Session | None:
        """Return a session, None if it was never scheduled."""
        return self.sessions.get(session_id)

    def show_offers(self, session: Session) -> None:
        """Write the sums of the offers; before the gate closes they are nobody's but the operator's."""
        shown = ev.OffersAggregated if session.gate_closed else ev.FlexOfferSubmitted
        value = {"session_id": session.session_id, "count": session.offers_counted, **session.offers}
        self.put("offers", session.session_id, value, shown)


def parties_named(*names: str | None) -> frozenset[str]:
    """Return those that an event names, the missing ones left out."""
    return frozenset(n for n in names if n)


Handlers = dict[type[Any], Callable[[Area, Any], None]]
