"""Revisions; each keeps its own copy of what it makes, because `schema.py` moves on."""
