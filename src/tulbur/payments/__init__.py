"""The use cases: open, callback, settle, check, cancel, expire. Everything that settles enters by one door."""

from tulbur.payments.opening import OpenRequest
from tulbur.payments.service import Payments, Policy
from tulbur.payments.settling import Looked

__all__ = ["Looked", "OpenRequest", "Payments", "Policy"]
