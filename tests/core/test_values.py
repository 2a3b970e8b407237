"""`replace` is the library's, but for the time it takes."""

import dataclasses

import pytest
from tests.core.stories import Story

from tulbur.core import codec
from tulbur.core.orders import Item
from tulbur.core.session import Session, Status
from tulbur.core.settling import Evidence, InvoiceAnswer, InvoiceSeen, SeenPayment
from tulbur.core.values import replace

COPIED = (*codec._NESTED, Evidence, InvoiceAnswer, InvoiceSeen, SeenPayment)


def test_it_gives_what_the_library_gives_and_leaves_the_old_value_as_it_was() -> None:
    before = Story().session
    after = replace(before, status=Status.PAID, version=7)
    assert after == dataclasses.replace(before, status=Status.PAID, version=7)
    assert type(after) is Session
    assert (before.status, before.version) == (Status.PENDING, 1)


def test_a_copy_is_as_frozen_as_any() -> None:
    copy = replace(Item(shop_id="a", product_id="p", title="Цай", quantity=1, unit_price=100), quantity=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        copy.quantity = 3  # type: ignore[misc]


def test_there_is_no_other_field() -> None:
    with pytest.raises(TypeError, match="no field 'colour'"):
        replace(Story().session, colour="red")  # type: ignore[arg-type]


@pytest.mark.parametrize("cls", COPIED, ids=lambda cls: cls.__name__)
def test_every_value_of_the_rules_can_be_copied_so(cls: type) -> None:
    assert hasattr(cls, "__slots__")
    assert not hasattr(cls, "__post_init__")
    assert all(f.init for f in dataclasses.fields(cls))
