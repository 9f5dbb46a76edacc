"""The events of flexbus, one module per family."""
