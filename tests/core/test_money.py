from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulbur.core.money import LARGEST, format_tugrik, is_whole_tugrik, parse_tugrik, spread
from tulbur.errors import Invalid

AMOUNTS = st.integers(0, LARGEST)
WEIGHTS = st.lists(st.integers(0, 10**12), min_size=1, max_size=12)


@given(AMOUNTS)
def test_what_is_printed_reads_back(amount: int) -> None:
    printed = format_tugrik(amount)
    assert parse_tugrik(printed) == amount
    assert parse_tugrik(Decimal(printed)) == amount


@given(st.integers(0, LARGEST // 100))
def test_whole_tugrik_may_come_as_an_integer(tugrik: int) -> None:
    assert parse_tugrik(tugrik) == parse_tugrik(str(tugrik)) == tugrik * 100
    assert is_whole_tugrik(tugrik * 100)


@pytest.mark.parametrize(
    ("value", "mongo"),
    [
        ("0", 0),
        ("0.00", 0),
        ("50000", 50000_00),
        ("50000.0", 50000_00),
        ("50000.05", 50000_05),
        ("007", 700),
        (str(LARGEST // 100), LARGEST),
        (Decimal("5E+4"), 50000_00),
        (Decimal("1.10"), 110),
        (Decimal("-0"), 0),
        (50000, 50000_00),
    ],
)
def test_decimal_tugrik_is_read_exactly(value: str | int | Decimal, mongo: int) -> None:
    assert parse_tugrik(value) == mongo


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "5 ", " 5", "\n5", "5\n", "5\t", "5\x00", "5 000", "5,000", "5_000", "5,5"),
        *("+5", "-5", "-0", "-0.00", "--5", "0x5", "5.", ".5", ".", "5.5.5", "5-", "five", "₮5", "5₮"),
        *("1e5", "1E5", "5e0", "5E+1", "1e400", "1e-400"),
        *("nan", "NaN", "sNaN", "-NaN", "nan123", "inf", "Infinity", "-inf"),
        *("0.001", "5.005", "1.000000000000000000000000000001", "0." + "0" * 29 + "1", "0." + "0" * 80 + "1"),
        *("٥", "５", "५०", "5²", "5\u200b", "\ufeff5"),
        *("1" * 33, "9" * 32, str(LARGEST), str(LARGEST // 100 + 1), f"{LARGEST // 100}.01", "0" * 33),
    ],
)
def test_a_text_that_is_no_plain_decimal_is_refused(value: str) -> None:
    with pytest.raises(Invalid):
        parse_tugrik(value)


@pytest.mark.parametrize(
    "value",
    [
        *(0.0, 5.0, 0.1, float("nan"), float("inf"), True, False, None, b"5", ["5"], {"5": 5}, 5j),
        *(-1, -(10**30), 10**30, 10**4000, LARGEST // 100 + 1),
        *(Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("-Infinity"), Decimal("-0.01")),
        *(Decimal("0.001"), Decimal("1e400"), Decimal("1e-400"), Decimal("1e-999999999"), Decimal("1e999999999")),
        *(Decimal("1.0000000000000000000000000000001"), Decimal("9999999999999.994999999999999999999999999")),
    ],
)
def test_a_value_that_is_no_amount_is_refused(value: object) -> None:
    with pytest.raises(Invalid):
        parse_tugrik(value)  # type: ignore[arg-type]


@given(st.one_of(st.text(), st.text("0123456789.+-eE_ \u0665", max_size=40), st.decimals(), st.integers()))
def test_anything_is_an_exact_amount_or_refused(value: str | Decimal | int) -> None:
    try:
        amount = parse_tugrik(value)
    except Invalid:
        return
    assert 0 <= amount <= LARGEST
    assert Decimal(format_tugrik(amount)).compare(Decimal(value)) == 0


@pytest.mark.parametrize(
    ("amount", "printed"),
    [(0, "0.00"), (5, "0.05"), (99, "0.99"), (100, "1.00"), (5_000_000, "50000.00"), (-5, "-0.05"), (-150, "-1.50")],
)
def test_mongo_is_printed_with_two_decimals(amount: int, printed: str) -> None:
    assert format_tugrik(amount) == printed


@given(AMOUNTS, WEIGHTS)
def test_a_spread_sums_exactly(amount: int, weights: list[int]) -> None:
    parts = spread(amount, weights)
    assert len(parts) == len(weights)
    assert sum(parts) == amount
    assert min(parts) >= 0


@given(WEIGHTS, st.data())
def test_no_part_is_more_than_its_weight(weights: list[int], data: st.DataObject) -> None:
    amount = data.draw(st.integers(0, sum(weights)))
    assert all(part <= weight for part, weight in zip(spread(amount, weights), weights, strict=True))


@given(AMOUNTS, WEIGHTS.filter(any))
def test_a_spread_is_in_proportion_by_largest_remainder(amount: int, weights: list[int]) -> None:
    total = sum(weights)
    parts = spread(amount, weights)
    owed = [divmod(amount * weight, total) for weight in weights]
    got_one_more = [i for i, (whole, _) in enumerate(owed) if parts[i] == whole + 1]
    assert all(parts[i] - whole in (0, 1) for i, (whole, _) in enumerate(owed))
    deserving = sorted(range(len(weights)), key=lambda i: (-owed[i][1], i))[: len(got_one_more)]
    assert got_one_more == sorted(deserving)


@pytest.mark.parametrize(
    ("amount", "weights", "parts"),
    [
        (100, [1, 1, 1], [34, 33, 33]),
        (200, [1, 1, 1], [67, 67, 66]),
        (1, [5, 5], [1, 0]),
        (1, [1, 2], [0, 1]),
        (10, [0, 3, 0], [0, 10, 0]),
        (7, [0, 0], [7, 0]),
        (0, [3, 4], [0, 0]),
        (5, [7], [5]),
    ],
)
def test_the_earliest_of_equals_gets_the_rest(amount: int, weights: list[int], parts: list[int]) -> None:
    assert spread(amount, weights) == parts
