"""The events of flexbus: facts in the past tense, frozen, one module per family.

Every event names its market area first; `flexbus.catalogue` says who may send and see each.
"""

from flexbus.events.activation import *
from flexbus.events.aggregation import *
from flexbus.events.assets import *
from flexbus.events.clearing import *
from flexbus.events.congestion import *
from flexbus.events.flex_offer import *
from flexbus.events.grid import *
from flexbus.events.market import *
from flexbus.events.metering import *
from flexbus.events.offer_terms import *
from flexbus.events.participants import *
from flexbus.events.reading import *
from flexbus.events.rejection import *
from flexbus.events.settlement import *
from flexbus.events.signing import *
from flexbus.events.traffic_light import *
