"""The regimes in which the plain relaxation is known to fail (clearing note, 2.2), as one-slot cases."""

from dataclasses import replace

from clearing.case import Case, Offer, OfferSlot, Settings, Step
from clearing.convert.matpower import find_matpower, network_from_matpower, read_matpower
from flexbus.quantities import Direction
from tests.clearing_cases import START_MS, injection

# grid, PV as a multiple of the load, upper voltage limit, price of infeed energy in EUR per MWh.
REGIMES = (
    ("case33bw", 1.5, 1.05, 80),
    ("case33bw", 3.0, 1.05, 40),
    ("case33bw", 3.0, 1.05, 0),
    ("case33bw", 3.0, 1.05, -30),
    ("case69", 4.0, 1.05, 40),
    ("case69", 4.0, 1.05, -30),
    ("case141", 4.0, 1.03, -30),
)


def regime(grid: str, pv: float, v_max: float, price: int, *, ask: int = 5) -> Case:
    """Load of the grid, PV at every third loaded bus, which can be curtailed for 5 EUR per MWh."""
    mpc = read_matpower(find_matpower(grid))
    net = network_from_matpower(mpc, area_id="area", network_id=grid)
    buses = tuple(replace(b, min_voltage_ppm=900_000, max_voltage_ppm=round(v_max * 1e6)) for b in net.buses)
    points = tuple(
        replace(p, voltage_ppm=1_000_000, import_price_milli_per_mwh=price * 1000) for p in net.infeed_points
    )
    net = replace(net, buses=buses, infeed_points=points)
    loads = [(f"bus{int(r[0])}", float(r[2]) * 1e6, float(r[3]) * 1e6) for r in mpc["bus"] if r[2] > 0]
    total = sum(p for _, p, _ in loads)
    sunny = loads[::3]
    share = pv * total / sum(p for _, p, _ in sunny)
    return Case(
        case_id=f"{grid} PV {pv} v {v_max} price {price}",
        network=net,
        start_ms=START_MS,
        resolution_s=3600,
        slots=1,
        baseline=tuple(
            injection(b, [round(-p + (p * share if k % 3 == 0 else 0))], [round(-q)])
            for k, (b, p, q) in enumerate(loads)
        ),
        offers=tuple(
            Offer(
                offer_id=f"pv-{b}",
                bus_id=b,
                direction=Direction.DOWN,
                slots=(OfferSlot(steps=(Step(quantity=round(p * share), price_milli_per_mwh=ask * 1000),)),),
            )
            for b, p, _ in sunny
        ),
        settings=Settings(voltage_price_milli_per_puh=10_000_000_000),
    )
