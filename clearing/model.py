"""A network prepared for many clearings: checked, sorted, written down and factorised once."""

from dataclasses import replace

from clearing.book import MOST_KEPT, Book, is_same, is_same_book
from clearing.canonical import canonical_network, case_hash, network_text, offers_text
from clearing.case import Case, Offer, Settings
from clearing.check import check_case
from clearing.check_network import check_network
from clearing.network import Grid, build_grid
from clearing.power_flow import AcGrid
from clearing.state import PowerFlow
from clearing.superlu import SuperFactors
from flexbus.errors import Fault, FaultyInputError
from flexbus.events.grid import NetworkModelPublished

__all__ = ["Model"]


class Model:
    """What a clearing needs of a network and no market changes; `clear(case, model=...)` gives the same bytes sooner.

    Args:
        network: the network of the cases to come.

    Raises:
        FaultyInputError: the network is not valid; carries every fault with its JSON path in a case.
    """

    def __init__(self, network: NetworkModelPublished) -> None:
        faults = tuple(check_network(network))
        if faults:
            raise FaultyInputError(faults)
        self.given, self.network = network, canonical_network(network)
        self.text = network_text(self.network)
        self.ac = AcGrid(self.network, SuperFactors)
        self._flows: dict[tuple[int, int], PowerFlow] = {}
        self._book: Book | None = None
        self._checked: Case | None = None
        self._written: tuple[tuple[Offer, ...], str] | None = None

    def is_of(self, network: NetworkModelPublished) -> bool:
        """Tell whether this is the model of a network."""
        return network is self.given or network is self.network or network in (self.given, self.network)

    def faults(self, case: Case) -> tuple[Fault, ...]:
        """Return every fault of a case of this network; offers found good in the last case are not read again.

        Args:
            case: the case.
        """
        known = self._checked is not None and is_same_book(self._checked, case)
        found = check_case(case, network_is_checked=True, book_is_checked=known)
        if not found and not known:
            small = len(case.offers) * case.slots <= MOST_KEPT
            self._checked = replace(case, baseline=(), fixed_awards=()) if small else None
        return found

    def book(self, case: Case, grid: Grid) -> Book:
        """Return the offers and requests of a case made ready; those of the last case are kept, if they are few."""
        if self._book is not None and self._book.is_of(case, grid):
            return self._book
        made = Book(case, grid)
        self._book = made if len(made.table.slot) <= MOST_KEPT else None
        return made

    def case_hash(self, case: Case) -> str:
        """Return the hash of a canonical case of this network; the offers of the last case are not written again."""
        last = self._written
        if last is not None and is_same(last[0], case.offers):
            return case_hash(case, self.text, last[1])
        self._written = None
        if len(case.offers) * case.slots > MOST_KEPT:
            return case_hash(case, self.text)
        self._written = case.offers, "".join(offers_text(case.offers))
        return case_hash(case, self.text, self._written[1])

    def flow(self, settings: Settings) -> tuple[Grid, PowerFlow]:
        """Return the reduced grid within the margins of a market, and its power flow."""
        margins = settings.voltage_margin_ppm, settings.loading_margin_ppm
        if margins not in self._flows:
            grid = build_grid(self.network, voltage_margin_ppm=margins[0], loading_margin_ppm=margins[1])
            self._flows[margins] = PowerFlow(grid)
        flow = self._flows[margins]
        return flow.grid, flow
