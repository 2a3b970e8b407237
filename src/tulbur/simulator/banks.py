"""The bank apps QPay offers to a payer, in QPay's order."""

from __future__ import annotations

from typing import NamedTuple


class Bank(NamedTuple):
    """One app: the scheme its links begin with, and the names and logo QPay gives it."""

    scheme: str
    name: str
    description: str
    logo: str


_LOGOS = "https://qpay.mn/q/logo/"

BANKS = (
    Bank(
        "qpaywallet",
        "qPay wallet",
        "qPay хэтэвч",
        "https://s3.qpay.mn/p/e9bbdc69-3544-4c2f-aff0-4c292bc094f6/launcher-icon-ios.jpg",
    ),
    Bank("khanbank", "Khan bank", "Хаан банк", _LOGOS + "khanbank.png"),
    Bank("statebankmongolia", "State bank 3.0", "Төрийн банк 3.0", _LOGOS + "state_3.png"),
    Bank("xacbank", "Xac bank", "Хас банк", _LOGOS + "xacbank.png"),
    Bank("tdbbank", "Trade and Development bank", "TDB online", _LOGOS + "tdbbank.png"),
    Bank("socialpay-payment", "Social Pay", "Голомт банк", _LOGOS + "socialpay.png"),
    Bank("most", "Most money", "МОСТ мони", _LOGOS + "most.png"),
    Bank("nibank", "National investment bank", "Үндэсний хөрөнгө оруулалтын банк", _LOGOS + "nibank.jpeg"),
    Bank("ckbank", "Chinggis khaan bank", "Чингис Хаан банк", _LOGOS + "ckbank.png"),
    Bank("capitronbank", "Capitron bank", "Капитрон банк", _LOGOS + "capitronbank.png"),
    Bank("bogdbank", "Bogd bank", "Богд банк", _LOGOS + "bogdbank.png"),
    Bank("transbank", "Trans bank", "Тээвэр хөгжлийн банк", _LOGOS + "transbank.png"),
    Bank("mbank", "M bank", "М банк", _LOGOS + "mbank.png"),
    Bank("ard", "Ard App", "Ард Апп", _LOGOS + "ard.png?v=2"),
    Bank("toki", "Toki App", "Toki App", _LOGOS + "tokipay.png"),
    Bank("arig", "Arig bank", "Ариг банк", _LOGOS + "arig.png"),
    Bank("monpay", "Monpay", "Мон Пэй", _LOGOS + "monpay.png"),
    Bank("hipay", "Hipay", "Hipay", _LOGOS + "hipay.png"),
    Bank("tdbwallet", "Happy Pay", "Happy Pay MN", _LOGOS + "tdbwallet.png"),
    Bank("sono", "Sono", "Sono", _LOGOS + "sono.png"),
    Bank("payon", "PayOn", "PayOn", _LOGOS + "payon.png"),
    Bank("tino", "Tino", "Tino", _LOGOS + "tino.png"),
    Bank("pass", "Pass.mn", "Pass.mn", _LOGOS + "pass.png"),
)


def deep_links(qr_text: str, page: str | None = None) -> list[dict[str, str]]:
    """The `urls` of an invoice; with a page given, every link opens that page instead of an app."""
    return [
        {
            "name": bank.name,
            "description": bank.description,
            "logo": bank.logo,
            "link": page or f"{bank.scheme}://q?qPay_QRcode={qr_text}",
        }
        for bank in BANKS
    ]
