"""The local page: what happens on the bus, folded from the journal and shown in a browser."""
