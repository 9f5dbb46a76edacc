"""A request buys; it never forbids what the grid needs."""

from clearing import Case, clear
from clearing.case import Location, Offer, OfferSlot, Request, RequestKind, RequestSlot, Step
from clearing.result import LimitKind
from flexbus.events.grid import Branch, BranchKind, Bus, BusInjection, InfeedPoint, NetworkModelPublished
from flexbus.quantities import Direction


def test_an_energy_request_downward_does_not_forbid_the_upward_cure() -> None:
    #  grid ~ b0 --- b1 draws 1.1 MW, import is limited to 1 MW; a BRP asks for more draw at 10 EUR
    buses = tuple(
        Bus(bus_id=b, nominal_voltage_v=20_000, min_voltage_ppm=900_000, max_voltage_ppm=1_100_000)
        for b in ("b0", "b1")
    )
    line = Branch(branch_id="l", kind=BranchKind.LINE, from_bus_id="b0", to_bus_id="b1", r_ohm=0.1, x_ohm=0.1)
    root = InfeedPoint(infeed_id="i", bus_id="b0", voltage_ppm=1_000_000, max_import_w=1_000_000)
    case = Case(
        network=NetworkModelPublished(
            area_id="a",
            network_id="n",
            revision=1,
            valid_from_ms=0,
            buses=buses,
            branches=(line,),
            infeed_points=(root,),
        ),
        start_ms=0,
        resolution_s=900,
        slots=1,
        baseline=(BusInjection(bus_id="b1", power_w=(-1_100_000,), reactive_power_var=(0,)),),
        offers=(
            Offer(
                offer_id="up",
                bus_id="b1",
                direction=Direction.UP,
                slots=(OfferSlot(steps=(Step(quantity=500_000, price_milli_per_mwh=100_000),)),),
            ),
        ),
        requests=(
            Request(
                request_id="brp",
                kind=RequestKind.ENERGY,
                direction=Direction.DOWN,
                location_kind=Location.AREA,
                slots=(RequestSlot(steps=(Step(quantity=100_000, price_milli_per_mwh=10_000),)),),
            ),
        ),
    )
    result = clear(case)
    assert 100_000 < result.offers[0].quantity[0] < 101_000
    assert LimitKind.IMPORT not in {s.kind for s in result.slots[0].shortfalls}
    assert result.requests[0].matched == (0,)
