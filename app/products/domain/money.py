"""Exact amounts: how many decimals each active currency of ISO 4217 has."""

from collections.abc import Mapping
from decimal import Decimal

# Units of account without decimals in the standard (gold, test codes, drawing rights) are no prices.
_BY_DECIMALS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW "
    "CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF "
    "IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK "
    "MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP "
    "SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG "
    "YER ZAR ZMW ZWG",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
DECIMALS: Mapping[str, int] = {
    currency: decimals for decimals, currencies in _BY_DECIMALS.items() for currency in currencies.split()
}


def exact(amount: str, currency: str) -> Decimal:
    """The amount with all decimals of its currency, never rounded. Raises ValueError where it has more."""
    if currency not in DECIMALS:
        raise ValueError("not an active currency")
    whole, _, decimals = amount.partition(".")
    if len(decimals) > DECIMALS[currency]:
        raise ValueError("more decimals than the currency has")
    filled = decimals.ljust(DECIMALS[currency], "0")
    return Decimal(f"{whole}.{filled}" if filled else whole)
