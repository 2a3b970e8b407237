"""Reads the old shop's rows and keys, never writes to them, and reports what became of each."""
