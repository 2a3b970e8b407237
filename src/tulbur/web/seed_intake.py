"""What the old shop's front end and gateway send to open a checkout, in their own names, and what it means to us."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from hashlib import sha256
from typing import Annotated, Any, Final, TypeAlias, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from tulbur.core.money import LARGEST, Mongo, parse_tugrik
from tulbur.core.old_cart import OldCoupon, discount_for
from tulbur.core.orders import Discount, Item
from tulbur.errors import AmountMismatch, BadRequest, Invalid
from tulbur.payments import OpenRequest, Policy
from tulbur.web.fields import (
    CacheSeconds,
    Code,
    Id,
    JsonObject,
    Money,
    ProductId,
    Quantity,
    Title,
    invalid,
    plain,
    tugrik,
)
from tulbur.web.intake import MOST_ITEMS

SCOPE: Final = "old-shop:"
"""Whose repeats these are; the colon keeps it apart from every API key's name."""

LONGEST_TITLE: Final = 300

_PRODUCT_NAMES: Final = ("productId", "id", "_id")
_NOT_KEPT: Final = frozenset({"userId", "sessionId", "ttlSec"})

Model = TypeVar("Model", bound=BaseModel)


def _text_of_number(value: Any) -> Any:  # noqa: ANN401 - whatever was sent
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _whole(value: Any) -> Any:  # noqa: ANN401 - whatever was sent
    return int(value) if isinstance(value, Decimal) and abs(value) < 10**9 and value == int(value) else value


def _cut(value: Any) -> Any:  # noqa: ANN401 - whatever was sent
    return value[:LONGEST_TITLE] if isinstance(value, str) else value


def _number(value: Any) -> Any:  # noqa: ANN401 - whatever was sent
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic wants a ValueError
    return value


def _none_is(default: Any, value: Any) -> Any:  # noqa: ANN401 - whatever was sent
    return default if value in (None, "") else value


def _percent(value: Any) -> Decimal:  # noqa: ANN401 - whatever was sent
    wrong = ValueError("must be a percentage from 0 to 100")
    try:
        mongo = parse_tugrik(value)  # as strict about numbers as money is, with as many decimals
    except Invalid:
        raise wrong from None
    if mongo > 100_00:
        raise wrong
    return tugrik(mongo)


_TextId: TypeAlias = Annotated[Id, BeforeValidator(_text_of_number)]
_Amount: TypeAlias = Annotated[Money, BeforeValidator(partial(_none_is, 0))]


class _Sent(BaseModel):
    """Unknown names are the shop's own business: ignored, or kept with the session."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class SeedItem(_Sent):
    """One line of the old shop's cart; the product is `productId`, else `id`, else `_id`."""

    product_id: Annotated[ProductId, BeforeValidator(_text_of_number)] = Field(alias="productId")
    shop_id: _TextId = Field(alias="shopId")
    quantity: Annotated[Quantity, BeforeValidator(_whole)]
    sale_price: Money
    title: Annotated[Title, BeforeValidator(_cut), BeforeValidator(partial(_none_is, ""))] = ""
    options: Annotated[JsonObject, BeforeValidator(partial(_none_is, {}))] = Field(default={}, alias="selectedOptions")

    @model_validator(mode="before")
    @classmethod
    def _one_name(cls, sent: Any) -> Any:  # noqa: ANN401 - whatever was sent
        if not isinstance(sent, Mapping):
            return sent
        named = next((sent[name] for name in _PRODUCT_NAMES if sent.get(name) not in (None, "")), None)
        return {**sent, "productId": named}

    def item(self) -> Item:
        return Item(
            shop_id=self.shop_id,
            product_id=self.product_id,
            title=self.title,
            quantity=self.quantity,
            unit_price=parse_tugrik(self.sale_price),
            options=self.options,
        )


class SeedCoupon(_Sent):
    """A coupon: a percentage where it has one, else an amount, off one line of one product."""

    code: Annotated[Code, BeforeValidator(partial(_none_is, ""))] = ""
    product_id: Annotated[ProductId | None, BeforeValidator(partial(_none_is, None))] = Field(
        default=None, alias="discountedProductId"
    )
    percent: Annotated[Decimal, BeforeValidator(_percent), BeforeValidator(partial(_none_is, 0))] = Field(
        default=Decimal(0), alias="discountPercent"
    )
    amount: _Amount = Field(default=Decimal(0), alias="discountAmount")

    def coupon(self) -> OldCoupon:
        return OldCoupon(
            code=self.code, product_id=self.product_id, percent=self.percent, amount=parse_tugrik(self.amount)
        )


class SeedCheckout(_Sent):
    """A cart and what the payer is asked for it."""

    model_config = ConfigDict(extra="allow")

    cart: Annotated[tuple[SeedItem, ...], Field(min_length=1, max_length=MOST_ITEMS)]
    sellers: Annotated[list[Any], Field(max_length=MOST_ITEMS)]
    total: Annotated[Money, BeforeValidator(_number)] = Field(alias="totalAmount")
    address: Annotated[Id | None, BeforeValidator(partial(_none_is, None)), BeforeValidator(_text_of_number)] = Field(
        default=None, alias="shippingAddressId"
    )
    coupon: Annotated[SeedCoupon | None, BeforeValidator(partial(_none_is, None))] = None


class _Internal(_Sent):
    session_id: Any = Field(default=None, alias="sessionId")
    ttl: Annotated[CacheSeconds | None, BeforeValidator(_whole)] = Field(default=None, alias="ttlSec")
    data: dict[str, Any] = Field(alias="sessionData")


class _Owner(_Sent):
    user_id: Id = Field(alias="userId")


_KEPT: Final = TypeAdapter[dict[str, Any]](JsonObject)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """A checkout of the old shop's, read: `user_id` is who may see it, `total` and prices are möngö."""

    user_id: str
    session_id: str | None
    ttl: int | None
    items: tuple[Item, ...]
    total: Mongo
    coupon: SeedCoupon | None
    shipping: Mapping[str, Any]
    metadata: Mapping[str, Any]

    @property
    def goods(self) -> Mongo:
        return sum(item.total for item in self.items)

    @property
    def digest(self) -> str:
        """What makes two of them the same: whose, and everything but the time they may take."""
        said = [
            self.user_id,
            [(i.shop_id, i.product_id, i.title, i.quantity, i.unit_price, i.options) for i in self.items],
            self.total,
            None if self.coupon is None else self.coupon.model_dump(mode="json"),
            self.shipping,
            self.metadata,
        ]
        return sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def discount(self) -> Discount | None:
        """The coupon, applied where the total says so, else noted at no money.

        Raises:
            Invalid: the total is neither the cart nor the cart less the coupon.
        """
        if self.goods > LARGEST:
            raise Invalid("the cart comes to more than any invoice")
        coupon = self.coupon.coupon() if self.coupon else None
        try:
            return discount_for(self.items, self.total, coupon)
        except AmountMismatch:
            raise Invalid("totalAmount must be the sum of the cart, or that less the coupon") from None

    def open_request(self, policy: Policy) -> OpenRequest:
        """`ttlSec` is both the payer's deadline and the cache's time; without it both are SESSION_TTL_SECONDS.

        Raises:
            Invalid: the total is not what the cart comes to.
        """
        seconds = self.ttl or policy.session_ttl_seconds
        return OpenRequest(
            id=self.session_id,
            user_id=self.user_id,
            amount=self.total,
            items=self.items,
            discount=self.discount(),
            shipping=self.shipping,
            metadata=self.metadata,
            expires_in=seconds,
            cache_seconds=seconds,
            scope=SCOPE,
            idempotency_key=self.session_id,
            body_digest=self.digest,
        )


def public_seed(body: Mapping[str, Any], user_id: str) -> Seed:
    """What a browser sent, for the user its token names, whoever the body says it is.

    Raises:
        BadRequest, Invalid
    """
    return _seed(body, user_id=user_id, session_id=body.get("sessionId"), ttl=None)


def internal_seed(body: Mapping[str, Any]) -> Seed:
    """What the gateway sent, for the user it names.

    Raises:
        BadRequest, Invalid
    """
    read = _read(_Internal, body)
    return _seed(read.data, user_id=_read(_Owner, read.data).user_id, session_id=read.session_id, ttl=read.ttl)


def _seed(data: Mapping[str, Any], *, user_id: str, session_id: object, ttl: int | None) -> Seed:
    if session_id is not None and not isinstance(session_id, str):
        raise BadRequest("sessionId must be a text")
    checkout = _read(SeedCheckout, data)
    rest = {name: value for name, value in (checkout.model_extra or {}).items() if name not in _NOT_KEPT}
    coupon = {} if data.get("coupon") in (None, "") else {"coupon": data["coupon"]}
    try:
        metadata = _KEPT.validate_python({**rest, "sellers": checkout.sellers, **coupon})
    except ValidationError as wrong:
        raise invalid(wrong.errors(include_url=False, include_input=False, include_context=False)) from None
    return Seed(
        user_id=user_id,
        session_id=session_id or None,
        ttl=ttl,
        items=tuple(sent.item() for sent in checkout.cart),
        total=parse_tugrik(checkout.total),
        coupon=checkout.coupon,
        shipping={} if checkout.address is None else {"shippingAddressId": plain(checkout.address)},
        metadata=metadata,
    )


def _read(model: type[Model], values: Mapping[str, Any]) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as wrong:
        raise invalid(wrong.errors(include_url=False, include_input=False, include_context=False)) from None
