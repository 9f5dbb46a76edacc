"""The regimes in which the plain relaxation is known to fail (clearing note, 2.2), as one-slot cases.

`python -m tests.regimes 300` clears so many small random markets in all regimes, holds each against AC-OPF (IPOPT,
bound relaxation off) and its own certificate, and prints the tally; exit code 1 where one is worse, ends LINEARISED
or is EXACT without proof.
"""

import random
import sys
from collections import Counter
from dataclasses import replace

from clearing import clear
from clearing.canonical import canonical_case
from clearing.case import Case, Location, Offer, OfferSlot, Quantity, Settings, Step
from clearing.certificate import certify
from clearing.convert.matpower import find_matpower, network_from_matpower, read_matpower
from clearing.pipeline import solve
from flexbus.events.clearing import SlotStatus
from flexbus.quantities import Direction
from tests.ac_opf import ac_opf
from tests.clearing_cases import START_MS, bus, case, injection, line, network, offer, request

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


def random_market(seed: int) -> Case:
    """One slot of 3 to 10 buses: import, export or both, energy at -60 to 80, tight ratings, loops, Q offers."""
    rng = random.Random(seed)
    n, km = rng.randint(3, 10), rng.choice([0.5, 1.5, 4.0])
    price = rng.choice([-60_000, -20_000, -5_000, 0, 0, 30_000, 80_000])
    ratings = [60, 95, 150] if rng.random() < 0.5 else [None]
    mva, sign = rng.choice([0.4, 1.0, 2.5]), rng.choice([1, -1, 0])
    lines = [
        line(f"l{k}", f"b{max(0, k - rng.randint(1, 2))}", f"b{k}", km * rng.uniform(0.5, 1.5), rng.choice(ratings))
        for k in range(1, n)
    ]
    if rng.random() < 0.3 and n > 3:
        lines.append(line("loop", f"b{rng.randint(1, n - 3)}", f"b{n - 1}", km, rng.choice(ratings)))
    baseline = [
        injection(
            f"b{k}",
            [round((sign or rng.choice([1, -1])) * rng.uniform(0.1, 1) * mva * 1e6)],
            [round(-rng.random() * 0.3 * mva * 1e6)],
        )
        for k in range(1, n)
    ]
    offers = []
    for k in range(rng.randint(3, 8)):
        direction = rng.choice(list(Direction))
        prices = sorted(rng.randrange(1, 90) * 1000 + rng.randrange(999) for _ in range(rng.randint(1, 2)))
        quantity = Quantity.REACTIVE if rng.random() < 0.2 else Quantity.ACTIVE
        if quantity is Quantity.REACTIVE:
            prices = [p // 10 for p in prices]
        stack = [(rng.randrange(40_000, round(1.2 * mva * 1e6) + 50_000), p) for p in prices]
        offers.append(offer(f"o{k}", f"b{rng.randint(1, n - 1)}", direction, [stack], quantity=quantity))
    requests = []
    if rng.random() < 0.3:
        curve = [(rng.randrange(50_000, 400_000), rng.randrange(20, 150) * 1000 + 13)]
        requests.append(request("need", rng.choice(list(Direction)), [curve], location_kind=Location.AREA))
    net = network([bus(f"b{k}") for k in range(n)], lines, price=price)
    return case(net, baseline, offers=tuple(offers), requests=tuple(requests))


def tally(seeds: range) -> Counter[str]:
    """Return how many markets of each kind there were, and print those that need a look."""
    found: Counter[str] = Counter()
    for seed in seeds:
        given = random_market(seed)
        result, cleared, oracle = clear(given), solve(canonical_case(given)), ac_opf(given)
        found[result.status.value] += 1
        kinds = [] if not certify(given, result).findings else ["findings"]
        certificate = result.certificate
        # Awards are whole watts, so that a value may miss its own bound by some of them.
        if certificate.gap_nano is None or certificate.gap_nano < -1_000:
            kinds.append("no bound, or one above the value")
        elif result.status is SlotStatus.EXACT and certificate.gap_nano > 1e-4 * max(1e9, abs(certificate.value_nano)):
            kinds.append("EXACT without proof")
        error = (float(cleared.optimum.merit[0]) - oracle.objective) / max(1.0, abs(oracle.objective))
        if not oracle.success:
            kinds.append("IPOPT fails")
        elif abs(error) <= 1e-6:
            kinds.append("as AC-OPF within 1e-6")
        else:
            kinds.append("better than AC-OPF" if error < 0 else "worse than AC-OPF")
        if kinds != ["as AC-OPF within 1e-6"]:
            print(f"  market {seed}, {result.status.value}: {', '.join(kinds)} ({error:.1e})", flush=True)
        found.update(kinds)
    return found


if __name__ == "__main__":
    made = tally(range(int(sys.argv[1]) if len(sys.argv) > 1 else 300))
    print(dict(made))
    unproven = ("no bound, or one above the value", "EXACT without proof", SlotStatus.LINEARISED.value)
    bad = ("worse than AC-OPF", "findings", *unproven)
    sys.exit(any(made[name] for name in bad))
