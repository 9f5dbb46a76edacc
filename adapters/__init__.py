"""The adapters package of flexbus."""
