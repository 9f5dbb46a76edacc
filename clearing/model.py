"""A network prepared for many clearings: checked, sorted, written down and factorised once."""

from clearing.canonical import canonical_network, network_text
from clearing.case import Settings
from clearing.check import check_network
from clearing.network import Grid, build_grid
from clearing.power_flow import AcGrid
from clearing.state import PowerFlow
from clearing.superlu import SuperFactors
from flexbus.errors import FaultyInputError
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

    def is_of(self, network: NetworkModelPublished) -> bool:
        """Tell whether this is the model of a network."""
        return network is self.given or network is self.network or network in (self.given, self.network)

    def flow(self, settings: Settings) -> tuple[Grid, PowerFlow]:
        """Return the reduced grid within the margins of a market, and its power flow."""
        margins = settings.voltage_margin_ppm, settings.loading_margin_ppm
        if margins not in self._flows:
            grid = build_grid(self.network, voltage_margin_ppm=margins[0], loading_margin_ppm=margins[1])
            self._flows[margins] = PowerFlow(grid)
        flow = self._flows[margins]
        return flow.grid, flow
