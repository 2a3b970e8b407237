"""The old shop's data in MongoDB, as Prisma keeps it: one collection for each model, null or missing as it happened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from bson.codec_options import CodecOptions, DatetimeConversion
from bson.objectid import ObjectId
from pymongo import AsyncMongoClient
from pymongo.errors import ConfigurationError, InvalidURI, PyMongoError

from tulbur.errors import SettingsError
from tulbur.importer.rows import Row, id_of
from tulbur.importer.rows import order_ids as ids_named
from tulbur.importer.sources import BATCH, MOST_ORDERS, ORDERS, PROCESSED, SESSIONS, bounded

SELECTION_MILLISECONDS: Final = 10_000

# A time or a text that cannot be decoded spoils its own row, not the batch.
_OPTIONS: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)
_ERRORS: Final = (PyMongoError, OSError)


class MongoSource:
    """Implements `Source`; finds alone are sent."""

    def __init__(self, url: str) -> None:
        try:
            self._client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
                url, serverSelectionTimeoutMS=SELECTION_MILLISECONDS, retryWrites=False
            )
            self._database = self._client.get_default_database().with_options(codec_options=_OPTIONS)
        except (ConfigurationError, InvalidURI, ValueError):
            raise SettingsError(
                "--from is no MongoDB URL with a database in it, such as mongodb://host/shop."
            ) from None

    async def start(self) -> None:
        names = await bounded(self._database.list_collection_names(), _ERRORS)
        if SESSIONS not in names:
            raise SettingsError(f"--from names a database without the collection {SESSIONS}.")

    async def stop(self) -> None:
        await self._client.close()

    async def count(self) -> int:
        return await bounded(self._database[SESSIONS].estimated_document_count(), _ERRORS)

    def sessions(self) -> AsyncIterator[Sequence[Row]]:
        return self._batches(SESSIONS)

    def processed(self) -> AsyncIterator[Sequence[Row]]:
        return self._batches(PROCESSED)

    async def processed_for(self, invoice_ids: Sequence[str], session_ids: Sequence[str]) -> Sequence[Row]:
        return await self._found(PROCESSED, invoice_ids, session_ids, None)

    async def known_sessions(self, invoice_ids: Sequence[str], session_ids: Sequence[str]) -> Sequence[Row]:
        return await self._found(SESSIONS, invoice_ids, session_ids, {"sessionId": 1, "invoiceId": 1})

    async def orders(self, ids: Sequence[str]) -> Mapping[str, Row] | None:
        if ORDERS not in await bounded(self._database.list_collection_names(), _ERRORS):
            return None
        wanted = _either(ids)
        cursor = self._database[ORDERS].find({"_id": {"$in": wanted}}, {"shopId": 1}).limit(len(wanted) + 1)
        rows = await bounded(cursor.to_list(), _ERRORS)
        return {id_of(row): row for row in rows}

    async def orders_of(self, user_ids: Sequence[str]) -> Sequence[Row]:
        fields = {"userId": 1, "shopId": 1, "total": 1, "createdAt": 1}
        found = self._database[ORDERS].find({"userId": {"$in": _either(user_ids)}}, fields)
        newest = found.sort([("createdAt", -1), ("_id", 1)]).limit(MOST_ORDERS)
        return await bounded(newest.to_list(), _ERRORS)

    async def named(self, order_ids: Sequence[str]) -> Sequence[str]:
        found = self._database[PROCESSED].find({"orderIds": {"$in": _either(order_ids)}}, {"orderIds": 1})
        return ids_named(await bounded(found.to_list(), _ERRORS))

    async def _batches(self, name: str) -> AsyncIterator[Sequence[Row]]:
        # One cursor, for ids may be of several types, and a comparison sees only its own.
        async with self._database[name].find().sort("_id", 1).batch_size(BATCH) as cursor:
            while rows := await bounded(cursor.to_list(BATCH), _ERRORS):
                yield rows

    async def _found(
        self, name: str, invoice_ids: Sequence[str], session_ids: Sequence[str], fields: Mapping[str, int] | None
    ) -> Sequence[Row]:
        either = [{"invoiceId": {"$in": list(invoice_ids)}}, {"sessionId": {"$in": list(session_ids)}}]
        return await bounded(self._database[name].find({"$or": either}, fields).to_list(), _ERRORS)


def _either(ids: Sequence[str]) -> list[object]:
    """Each id as text, and as an ObjectId or a number where it can be one."""
    numbers = (int(id_) for id_ in ids if id_.isascii() and id_.isdigit() and len(id_) < 19)
    return [*ids, *(ObjectId(id_) for id_ in ids if ObjectId.is_valid(id_)), *numbers]
