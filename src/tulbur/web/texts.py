"""Every text of the payer's pages, in Mongolian and in English."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """One language; a text missing in one of them cannot be written."""

    lang: str
    other_lang: str
    other_name: str
    language: str
    brand: str
    title: str
    some_order: str
    amount: str
    deadline: str
    minutes: str
    less_than_minute: str
    pick_app: str
    app_hint: str
    banks: str
    wallets: str
    scan: str
    scan_hint: str
    qr_label: str
    have_paid: str
    asking: str
    still_asking: str
    not_yet: str
    offline: str
    trouble: str
    waiting: str
    waiting_hint: str
    paid: str
    paid_hint: str
    order_numbers: str
    back_to_shop: str
    to_pay_back: str
    paid_back: str
    expired: str
    expired_paid: str
    expired_unpaid: str
    cancelled: str
    cancelled_hint: str
    money_kept: str
    held: str
    held_hint: str
    returning: str
    returning_hint: str
    returned: str
    returned_hint: str
    underpaid: str
    received: str
    missing: str
    underpaid_hint: str
    uninvoiced: str
    uninvoiced_hint: str
    try_again: str
    not_found: str
    not_found_hint: str
    unavailable: str
    unavailable_hint: str
    safety: str


MN: Final = Texts(
    lang="mn",
    other_lang="en",
    other_name="English",
    language="Хэл",
    brand="QPay төлбөр",
    title="Төлбөр төлөх",
    some_order="Захиалгын төлбөр",
    amount="Дүн",
    deadline="Үлдсэн хугацаа",
    minutes="{n} минут",
    less_than_minute="1 минут хүрэхгүй",
    pick_app="Банкны апп сонгоно уу",
    app_hint="Апп төлбөрийн мэдээлэлтэй нээгдэнэ.",
    banks="Банк",
    wallets="Цахим хэтэвч",
    scan="QR код уншуулах",
    scan_hint="Банкны аппаа нээгээд энэ кодыг уншуулна уу.",
    qr_label="Төлбөрийн QR код",
    have_paid="Би төлсөн",
    asking="Банкнаас шалгаж байна…",
    still_asking="Банкны хариуг хүлээж байна. Хариу ирмэгц энд харагдана.",
    not_yet="Төлбөр хараахан орж ирээгүй байна. Төлсөн бол түр хүлээнэ үү, орж ирмэгц энд харагдана.",
    offline="Интернэт холболт тасарсан байна. Холбогдмогц үргэлжилнэ.",
    trouble="Яг одоо шалгаж чадсангүй. Түр хүлээгээд дахин оролдоно уу.",
    waiting="Төлбөр хүлээж байна",
    waiting_hint="Төлмөгц хуудас өөрөө шинэчлэгдэнэ.",
    paid="Төлбөр төлөгдлөө",
    paid_hint="Баярлалаа! Захиалга тань баталгаажлаа.",
    order_numbers="Захиалгын дугаар",
    back_to_shop="Дэлгүүр рүү буцах",
    to_pay_back="Танд буцаан олгох дүн",
    paid_back="Буцаан олгосон дүн",
    expired="Төлөх хугацаа дууслаа",
    expired_paid="Төлчихсөн бол санаа зоволтгүй. Мөнгө тань алга болохгүй, орж ирмэгц энэ хуудсанд харагдана.",
    expired_unpaid="Төлж амжаагүй бол дэлгүүр рүүгээ буцаад дахин захиална уу.",
    cancelled="Төлбөр цуцлагдсан",
    cancelled_hint="Энэ төлбөрийг одоо төлөх шаардлагагүй. Төлчихсөн бол мөнгө тань алга болохгүй, энд харагдана.",
    money_kept="Энэ мөнгө бүртгэгдсэн. Захиалгад тань тооцох эсвэл буцаан олгохыг дэлгүүр шийднэ.",
    held="Дэлгүүр таны төлбөрийг шалгаж байна",
    held_hint=(
        "Мөнгө тань хожуу орж ирсэн тул захиалга хараахан баталгаажаагүй. Дэлгүүр захиалгыг тань "
        "баталгаажуулах эсвэл мөнгийг буцаан олгоно. Дахин төлөх шаардлагагүй."
    ),
    returning="Таны мөнгийг буцаан олгоно",
    returning_hint="Захиалга баталгаажаагүй. Мөнгө дансанд тань орох хүртэл хэд хоног болж магадгүй.",
    returned="Таны мөнгийг буцаан олгосон",
    returned_hint="Мөнгө дансанд тань хэд хоногийн дотор орно. Ороогүй бол дэлгүүртэй холбогдоно уу.",
    underpaid="Төлбөр дутуу байна",
    received="Хүлээн авсан",
    missing="Дутуу дүн",
    underpaid_hint=(
        "Дутуу дүнгээ нэмж төлнө үү. Хэрэв банкны апп дүнг бүтнээр нь харуулбал төлөлгүй дэлгүүртэй холбогдоорой. "
        "Төлсөн мөнгө тань алга болохгүй."
    ),
    uninvoiced="Төлбөрийн мэдээлэл бэлэн болоогүй байна",
    uninvoiced_hint="QPay хариу өгөхгүй байна. Түр хүлээгээд дахин оролдоно уу.",
    try_again="Дахин оролдох",
    not_found="Хуудас олдсонгүй",
    not_found_hint="Холбоос буруу эсвэл дутуу байна. Дэлгүүрээс өгсөн холбоосыг бүтнээр нь нээнэ үү.",
    unavailable="Түр саатал гарлаа",
    unavailable_hint="Хуудас хэдэн секундын дараа өөрөө дахин нээгдэнэ. Төлсөн мөнгөнд тань нөлөөлөхгүй.",
    safety="Та төлбөрөө өөрийн банкны аппаар хийнэ. Энэ хуудас картын дугаар, нууц үг, ПИН код хэзээ ч асуухгүй.",
)

EN: Final = Texts(
    lang="en",
    other_lang="mn",
    other_name="Монгол",
    language="Language",
    brand="QPay payment",
    title="Pay",
    some_order="Payment for your order",
    amount="Amount",
    deadline="Time left",
    minutes="{n} min",
    less_than_minute="less than 1 min",
    pick_app="Choose your bank app",
    app_hint="The app opens with this payment filled in.",
    banks="Banks",
    wallets="Wallets",
    scan="Scan the QR code",
    scan_hint="Open your bank app and scan this code.",
    qr_label="QR code of this payment",
    have_paid="I have paid",
    asking="Asking the bank…",
    still_asking="Still waiting for the bank to answer. The result will appear here.",
    not_yet="We do not see your payment yet. If you have paid, wait a moment: it will appear here.",
    offline="You are offline. This page goes on as soon as you are connected.",
    trouble="We could not check right now. Please try again in a moment.",
    waiting="Waiting for your payment",
    waiting_hint="This page updates once you have paid.",
    paid="Payment received",
    paid_hint="Thank you! Your order is confirmed.",
    order_numbers="Order number",
    back_to_shop="Back to the shop",
    to_pay_back="To be paid back to you",
    paid_back="Paid back",
    expired="The time to pay is over",
    expired_paid="Already paid? Do not worry: your money is not lost and will show up on this page.",
    expired_unpaid="If you have not paid, go back to the shop and order again.",
    cancelled="This payment was cancelled",
    cancelled_hint="There is nothing to pay any more. If you have paid, your money is not lost: it shows up here.",
    money_kept="This money is on record. The shop will count it towards your order or pay it back.",
    held="The shop is checking your payment",
    held_hint=(
        "Your money came too late, so your order is not confirmed yet. The shop will confirm it "
        "or pay the money back. Please do not pay again."
    ),
    returning="Your money will be paid back",
    returning_hint="Your order is not confirmed. It may take some days until the money is on your account.",
    returned="Your money was paid back",
    returned_hint="It may take some days until it is on your account. If it does not come, contact the shop.",
    underpaid="Part of the amount is missing",
    received="Received",
    missing="Missing",
    underpaid_hint=(
        "Please pay what is missing. If your bank app shows the full amount again, do not pay it and contact the shop. "
        "What you have paid is not lost."
    ),
    uninvoiced="Your payment is not ready yet",
    uninvoiced_hint="QPay does not answer at the moment. Please try again shortly.",
    try_again="Try again",
    not_found="Page not found",
    not_found_hint="This link is wrong or incomplete. Please open the whole link the shop gave you.",
    unavailable="A short interruption",
    unavailable_hint="This page tries again by itself in a few seconds. Money you have paid is safe.",
    safety="You pay inside your own bank's app. This page never asks for a card number, a password or a PIN.",
)

TEXTS: Final[Mapping[str, Texts]] = {MN.lang: MN, EN.lang: EN}
