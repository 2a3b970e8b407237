"""The public address: whether QPay could reach it, and whether it is tulbur that answers there."""

from __future__ import annotations

import json
import socket
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from tulbur.commands.doctor.finding import Finding, fine, problem, remark
from tulbur.commands.doctor.reaching import CONNECT_SECONDS, aside, reach
from tulbur.errors import StoreUnavailable
from tulbur.settings import Required

TIMEOUT_SECONDS: Final = 5
MOST_BYTES: Final = 4096

LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})  # noqa: S104 - compared, not bound

NOBODYS: Final = "/callbacks/qpay/doctor/doctor"
"""A callback with a wrong token: tulbur answers 404, and nothing comes of it."""

_BEHIND: Final = "start tulbur serve behind it, and let it through from outside"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    location: str
    body: bytes


def is_local(address: str) -> bool:
    return (urlsplit(address).hostname or "") in LOCAL


async def public_url(required: Required) -> Finding:
    """From here, as QPay would from outside: a private address and a missing certificate are told apart."""
    url = required.public_url
    if not is_local(required.qpay_base_url):
        unfit = await _unfit(url)
        if unfit is not None:
            return unfit
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    trouble = await reach([(parts.hostname or "", port)], "PUBLIC_URL")
    if trouble is not None:
        return problem("public url", trouble.detail, f"{_BEHIND}; or: {trouble.remedy}")
    try:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            return (
                _alive(url, await _got(http, f"{url}/healthz"))
                or _let_through(url, await _got(http, f"{url}{NOBODYS}"))
                or await _public(required)
            )
    except aiohttp.ClientConnectorCertificateError as wrong:
        return _untrusted(url, wrong.certificate_error)
    except aiohttp.ClientSSLError:
        return problem(
            "public url", f"{url} speaks no TLS on that port", "put a TLS certificate in front, or correct PUBLIC_URL"
        )
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return problem("public url", f"{url} does not answer ({type(error).__name__})", _BEHIND)


async def _unfit(url: str) -> Finding | None:
    """An address at which nobody outside could ever reach us."""
    host = urlsplit(url).hostname or ""
    if host in LOCAL:
        remedy = "set PUBLIC_URL to an address that QPay can reach over the internet"
        return problem("public url", f"{url} is this machine only", remedy)
    if _is_private(host):
        remedy = "set PUBLIC_URL to an address of the internet, whose proxy leads here"
        return problem("public url", f"{url} is an address of a private network, which QPay cannot reach", remedy)
    if not url.startswith("https://"):
        return problem("public url", f"{url} is not https", "put a TLS certificate in front and use https://")
    return None


def _is_private(address: str) -> bool:
    try:
        return not ip_address(address).is_global
    except ValueError:
        return False


async def _got(http: aiohttp.ClientSession, url: str) -> _Answer:
    async with http.get(url, allow_redirects=False) as answer:
        return _Answer(answer.status, answer.headers.get("Location", ""), await answer.content.read(MOST_BYTES))


def _alive(url: str, answer: _Answer) -> Finding | None:
    status = answer.status
    if status == 200 and answer.body.strip() == b"ok":
        return None
    if status == 200:
        return problem(
            "public url", f"{url} answers, but it is another program", "correct PUBLIC_URL, or what its proxy leads to"
        )
    if 300 <= status < 400:
        return problem(
            "public url",
            f"{url} redirects{_to(answer.location)}",
            "set PUBLIC_URL to where it leads: QPay need not follow",
        )
    if status in (401, 403, 407):
        remedy = "let /callbacks, /pay and /healthz through without a login, and without a filter by country or browser"
        return problem("public url", f"{url}/healthz answers {status}: a proxy lets nobody in", remedy)
    if status in (502, 503, 504):
        return problem(
            "public url",
            f"{url}/healthz answers {status}: its proxy does not reach tulbur",
            "start tulbur serve, and see where the proxy leads (HOST, PORT)",
        )
    return problem("public url", f"{url}/healthz answers {status}", _BEHIND)


def _to(location: str) -> str:
    host = urlsplit(location).hostname
    return f" to {urlsplit(location).scheme}://{host}" if host else ""


def _let_through(url: str, answer: _Answer) -> Finding | None:
    """A 404 of tulbur's own is a problem document; a proxy's is a page."""
    try:
        code = json.loads(answer.body).get("code")
    except (ValueError, AttributeError):
        code = None
    if answer.status == 404 and code == "not_found":
        return None
    detail = f"{url}/callbacks/… answers {answer.status}, and not by tulbur: QPay's callbacks do not come through"
    return problem(
        "public url", detail, "let GET and POST of /callbacks through the proxy, without a login or a filter"
    )


async def _public(required: Required) -> Finding:
    """That it answers here proves little where its name leads to a private address."""
    url = required.public_url
    host = urlsplit(url).hostname or ""
    if not is_local(required.qpay_base_url):
        try:
            found = await aside(lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM), CONNECT_SECONDS)
        except (OSError, StoreUnavailable):
            found = []
        if found and all(_is_private(str(one[4][0])) for one in found):
            detail = f"{url} answers, but here its name leads to the private address {found[0][4][0]}"
            return remark("public url", detail, "see that outside it leads to a public one; QPay calls from there")
    return fine("public url", f"{url} answers, and lets callbacks through")


def _untrusted(url: str, error: Exception) -> Finding:
    why = getattr(error, "verify_message", "") if isinstance(error, ssl.SSLCertVerificationError) else ""
    detail = f"the certificate of {url} is not valid ({why or type(error).__name__})"
    return problem(
        "public url", detail, "renew it, or get one of a public authority for that name; QPay calls no other"
    )
