"""What `POST /v1/sessions` takes, and what it means to the use case."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tulbur.core.money import parse_tugrik
from tulbur.core.orders import Discount, Item
from tulbur.payments import OpenRequest, Policy
from tulbur.web.fields import (
    CacheSeconds,
    Code,
    Description,
    ExpiresIn,
    Id,
    JsonObject,
    Money,
    ProductId,
    Quantity,
    ShopId,
    Title,
    WebAddress,
    invalid,
    tugrik,
)

MOST_ITEMS: Final = 200
"""Lines of one cart."""


class Taken(BaseModel):
    """What is sent to us: strict, and never repeated in a refusal."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @classmethod
    def parse(cls, values: object) -> Self:
        """Read a body that JSON made, or the arguments of the library.

        Raises:
            Invalid: it names each wrong field.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as wrong:
            raise invalid(wrong.errors(include_url=False, include_input=False, include_context=False)) from None


class OpenItem(Taken):
    """One line of the cart."""

    shop_id: ShopId
    product_id: ProductId
    title: Title = ""
    quantity: Quantity
    unit_price: Money
    options: JsonObject = {}


class OpenDiscount(Taken):
    """An amount off; on one product where `product_id` is given, else spread over all shops."""

    code: Code = ""
    amount: Money
    product_id: ProductId | None = None


class SessionOpen(Taken):
    """A checkout to open. `amount` is whole tugrik and equals items - discount + shipping_amount."""

    user_id: Id
    amount: Money
    items: Annotated[tuple[OpenItem, ...], Field(max_length=MOST_ITEMS)] = ()
    discount: OpenDiscount | None = None
    shipping: JsonObject = {}
    shipping_amount: Money = tugrik(0)
    metadata: JsonObject = {}
    description: Description = ""
    expires_in: ExpiresIn | None = None
    cache_seconds: CacheSeconds | None = None
    return_url: WebAddress | None = None


def body_digest(body: Taken) -> str:
    """What makes two bodies the same: their values, however they were spelled, without those left at a default."""
    values = body.model_dump(mode="json", exclude_defaults=True)
    return sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def open_request(
    body: SessionOpen, *, scope: str, idempotency_key: str | None, digest: str, policy: Policy
) -> OpenRequest:
    """The use case's request; `scope` is the name of the API key, `policy` fills in what the body leaves open."""
    return OpenRequest(
        user_id=body.user_id,
        amount=parse_tugrik(body.amount),
        items=tuple(_item(item) for item in body.items),
        discount=_discount(body.discount),
        shipping=body.shipping,
        shipping_amount=parse_tugrik(body.shipping_amount),
        metadata=body.metadata,
        description=body.description,
        return_url=body.return_url,
        expires_in=body.expires_in or policy.session_expiry_seconds,
        cache_seconds=body.cache_seconds or policy.session_ttl_seconds,
        scope=scope,
        idempotency_key=idempotency_key,
        body_digest=digest,
    )


def _item(item: OpenItem) -> Item:
    return Item(
        shop_id=item.shop_id,
        product_id=item.product_id,
        title=item.title,
        quantity=item.quantity,
        unit_price=parse_tugrik(item.unit_price),
        options=item.options,
    )


def _discount(discount: OpenDiscount | None) -> Discount | None:
    if discount is None:
        return None
    return Discount(code=discount.code, amount=parse_tugrik(discount.amount), product_id=discount.product_id)
