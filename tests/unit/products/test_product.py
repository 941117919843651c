"""SKUs, words and money: what is compared, and that no amount is ever rounded."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.products.domain import money
from app.products.domain.money import DECIMALS, exact
from app.products.domain.product import MAX_TERMS, Product, event_of, sku_key, terms_of, words_of
from core.clock import utc_now

AMOUNTS = st.from_regex(r"[0-9]{1,15}(\.[0-9]{1,6})?", fullmatch=True)
SKUS = st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=64)


def product(**fields: object) -> Product:
    now = utc_now()
    return Product.model_validate(
        {"id": "prd_1", "sku": "A", "name": "n", "created_at": now, "updated_at": now, **fields}
    )


@pytest.mark.parametrize(
    ("one", "other"), [("AB-1", "ab-1"), ("ＡＢ-1", "ab-1"), ("straße", "STRASSE"), ("ﬁ", "FI"), ("Ⅷ", "viii")]
)
def test_case_and_width_do_not_tell_skus_apart(one: str, other: str) -> None:
    assert sku_key(one) == sku_key(other)


def test_other_characters_do() -> None:
    assert len({sku_key(sku) for sku in ("a-1", "a_1", "a1", "a 1", "á-1")}) == 5


@given(SKUS)
def test_a_sku_is_the_same_in_every_case_and_its_key_is_its_own(sku: str) -> None:
    assert sku_key(sku.upper()) == sku_key(sku.lower()) == sku_key(f" {sku} ") == sku_key(sku_key(sku))


@given(st.text(min_size=1, max_size=64))
def test_any_text_has_a_storable_key(sku: str) -> None:
    assert sku_key(sku) == sku_key(sku).strip()
    assert all(word in words_of(word) for word in words_of(sku))


@given(AMOUNTS, st.sampled_from(sorted(DECIMALS)))
def test_an_amount_is_kept_to_the_last_digit_or_refused(amount: str, currency: str) -> None:
    given_decimals = len(amount.partition(".")[2])
    if given_decimals > DECIMALS[currency]:
        with pytest.raises(ValueError, match="more decimals"):
            exact(amount, currency)
    else:
        kept = exact(amount, currency)
        assert kept == Decimal(amount)
        assert len(str(kept).partition(".")[2]) == DECIMALS[currency]


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [("12.5", "EUR", "12.50"), ("12", "JPY", "12"), ("0", "KWD", "0.000"), ("007.1", "CLF", "7.1000"),
     ("999999999999999.999", "TND", "999999999999999.999")],
)  # fmt: skip
def test_fewer_decimals_are_filled_up(amount: str, currency: str, shown: str) -> None:
    assert str(exact(amount, currency)) == shown


@pytest.mark.parametrize("currency", ["XAU", "XXX", "XTS", "DEM", "eur", "", "EURO"])
def test_what_is_no_active_currency_has_no_prices(currency: str) -> None:
    with pytest.raises(ValueError, match="currency"):
        exact("1", currency)


def test_each_currency_stands_once_in_the_table() -> None:
    assert sum(len(currencies.split()) for currencies in money._BY_DECIMALS.values()) == len(DECIMALS)
    assert all(len(currency) == 3 and currency.isupper() for currency in DECIMALS)


def test_words_are_those_of_name_sku_and_tags() -> None:
    assert terms_of(product(sku="AB-12", name="Große Säge, groß", tags=("Holz & Co",))) == [
        "ab", "12", "grosse", "säge", "gross", "holz", "co",
    ]  # fmt: skip
    assert len(terms_of(product(name=" ".join(map(str, range(100)))))) == MAX_TERMS


def test_a_change_that_changes_nothing_is_none() -> None:
    before = product(tags=("a",), description="d")
    assert before.changed({"tags": ("a",), "name": "n"}, utc_now()) is before
    after = before.changed({"description": None}, utc_now())
    assert (after.version, after.description, after.tags) == (2, None, ("a",))


def test_events_tell_what_happened_and_hold_the_whole_view() -> None:
    first = product(price={"amount": "1.50", "currency": "EUR"})
    gone = first.changed({"status": "archived"}, utc_now())
    back = gone.changed({"status": "active"}, utc_now())
    events = [event_of(first, None, "service:x"), event_of(gone, first, "s"), event_of(back, gone, "s")]
    assert [event.type for event in events] == ["product.created", "product.archived", "product.updated"]
    assert [(event.event_id, event.seq) for event in events] == [(f"evt_prd_1_{n}", n) for n in (1, 2, 3)]
    assert events[0].owner_id == "service:x"
    assert events[0].data["price"] == {"amount": "1.50", "currency": "EUR"}
    assert set(events[0].data) == {
        "product_id", "sku", "name", "description", "price", "tags", "status", "version", "created_at", "updated_at"
    }  # fmt: skip
