"""The loops behind the callbacks, each until it is told to stop; any number of processes share one database."""

from tulbur.worker.cleaning import Cleaner
from tulbur.worker.following import Follower
from tulbur.worker.looks import Worker
from tulbur.worker.pace import LEASE_SECONDS
from tulbur.worker.replaying import Replayer
from tulbur.worker.sweeping import Sweeper
from tulbur.worker.telling import DELIVERED_AT_ONCE, Deliverer

__all__ = [
    "DELIVERED_AT_ONCE",
    "LEASE_SECONDS",
    "Cleaner",
    "Deliverer",
    "Follower",
    "Replayer",
    "Sweeper",
    "Worker",
]
