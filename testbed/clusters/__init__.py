"""Clusters of the testbed's servers: several of one kind on loopback that replicate, to be killed in part.

`cluster` says what they have in common; one module for each kind.
"""

from typing import Final

CLUSTERS: Final = ("replica set", "standbys", "galera", "valkey cluster")
"""Their names, in the count of tests at the end."""
