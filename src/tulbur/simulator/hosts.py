"""The one rule of safety: the simulator never serves as, and never calls, a host of QPay's."""

from yarl import URL

QPAY_DOMAIN = "qpay.mn"


class RefusedHostError(ValueError):
    """A host under qpay.mn was given where only a development host may stand."""


def is_qpay_host(host: str | None) -> bool:
    """Whether a host name, with or without a port, is qpay.mn or lies under it."""
    if not host:
        return False
    name = host.strip().rsplit("@", 1)[-1]
    if not name.startswith("["):
        name = name.split(":", 1)[0]
    name = name.rstrip(".").lower()
    return name == QPAY_DOMAIN or name.endswith("." + QPAY_DOMAIN)


def refuse_qpay_host(host: str | None, purpose: str) -> None:
    """Raise RefusedHostError when the host is QPay's own."""
    if is_qpay_host(host):
        raise RefusedHostError(
            f"The simulator refuses {purpose} {host!r}: it never poses as a host under {QPAY_DOMAIN}."
        )


def callback_target(url: str) -> URL:
    """The URL to call, parsed by the very library that will call it.

    Raises RefusedHostError for a host under qpay.mn, and ValueError for anything that is no http(s) URL.
    """
    parsed = URL(url)
    host = parsed.raw_host
    if parsed.scheme not in {"http", "https"} or not host or "%" in host:
        raise ValueError("callback_url is not an http(s) URL")
    refuse_qpay_host(host, "to call back")
    return URL(url, encoded=True) if url.isascii() else parsed
