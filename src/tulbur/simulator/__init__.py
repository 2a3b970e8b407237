"""A QPay v2 to develop and test against, useful alone: it needs nothing else of tulbur."""

from tulbur.simulator.app import create_simulator
from tulbur.simulator.faults import Faults
from tulbur.simulator.hosts import RefusedHostError
from tulbur.simulator.runtime import Simulator
from tulbur.simulator.server import serve

__all__ = ["Faults", "RefusedHostError", "Simulator", "create_simulator", "serve"]
