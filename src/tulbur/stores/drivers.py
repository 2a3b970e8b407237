"""How a `postgresql://` or `mysql://` address becomes connections: the drivers, their options, TLS, and time limits."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from sqlalchemy import NullPool, event

from tulbur.errors import SettingsError, StoreUnavailable
from tulbur.stores import dialects

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

CONNECT_SECONDS: Final = 5.0
"""How long one connection may take to be made, sign-in included."""

KINDS: Final[Mapping[str, str]] = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
}
"""The schemes of DATABASE_URL that this module reads."""

_NAMES: Final = {"postgresql": "PostgreSQL", "mysql": "MySQL"}
_DRIVERS: Final = {"postgresql": ("asyncpg", "postgres"), "mysql": ("asyncmy", "mysql")}
_VERIFYING: Final = {"verify_ca": False, "verify_full": True, "verify_identity": True}
_MODES: Final = frozenset({"disable", "disabled", "require", "required", *_VERIFYING})


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """A server's database; `url` holds the password and is for the driver alone."""

    kind: str
    url: str

    @property
    def database(self) -> str:
        return unquote(urlsplit(self.url).path[1:])

    @property
    def told(self) -> str:
        """What messages call it: kind and host, never user or password."""
        return f"{_NAMES[self.kind]} at {urlsplit(self.url).netloc.rpartition('@')[2] or 'this machine'}"

    def driver(self) -> Any:  # noqa: ANN401 - a module
        """The driver, imported only now.

        Raises:
            SettingsError: its extra is not installed.
        """
        name, extra = _DRIVERS[self.kind]
        try:
            import_module("greenlet")
            return import_module(name)
        except ModuleNotFoundError as missing:
            raise SettingsError(
                f'DATABASE_URL names {_NAMES[self.kind]}, whose driver is not installed: pip install "tulbur[{extra}]".'
            ) from missing


def read(url: str) -> Address:
    """Read an address of a database server.

    Raises:
        SettingsError: it names no database, or an option that we do not know.
    """
    scheme, _, rest = url.partition("://")
    kind = KINDS[scheme.partition("+")[0]]
    address = Address(kind, f"{kind}://{rest}")
    try:
        parts = urlsplit(address.url)
        _ = None if "," in parts.netloc else parts.port
    except ValueError:
        raise SettingsError(f"DATABASE_URL cannot be read; write {kind}://user:password@host/database.") from None
    if "@" in address.url.partition("://")[2].partition("/")[2]:
        raise SettingsError(
            "DATABASE_URL has an @ behind its host: write @, /, : and % in a password as %40, %2F, %3A and %25."
        )
    if not address.database or "/" in address.database:
        raise SettingsError(f"DATABASE_URL names no database; write {kind}://user:password@host/database.")
    if kind == "mysql":
        _mysql_options(address)
    return address


def connector(address: Address, lock_seconds: int) -> Callable[[], Awaitable[Any]]:
    """What opens one connection, within its time limit."""
    driver = address.driver()
    options = _mysql_options(address) if address.kind == "mysql" else {}

    async def connect() -> Any:  # noqa: ANN401 - the driver's connection
        async with asyncio.timeout(CONNECT_SECONDS):
            if address.kind == "postgresql":
                settings = dialects.postgresql_settings(lock_seconds)
                return await driver.connect(_on_the_primary(address.url), server_settings=settings)
            return await driver.connect(**options, connect_timeout=CONNECT_SECONDS)

    return connect


async def engine(
    address: Address,
    *,
    lock_seconds: int = dialects.LOCK_SECONDS,
    **pool: Any,  # noqa: ANN401 - the options of SQLAlchemy's pool; without any there is none
) -> AsyncEngine:
    """Connections whose transactions begin and end only where our code says so.

    Raises:
        SettingsError: the driver is not installed.
        StoreUnavailable: a MySQL server, which has to be asked what it is, cannot be reached.
    """
    connect = connector(address, lock_seconds)
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 - needs what only the extras install

    kind = _Kind("postgresql+asyncpg") if address.kind == "postgresql" else await _asked(address, connect)
    made = create_async_engine(
        f"{kind.dialect}://",
        async_creator=connect,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        pool_reset_on_return=None,
        hide_parameters=True,
        **(pool or {"poolclass": NullPool}),
    )
    if address.kind == "mysql":
        event.listen(made.sync_engine, "connect", _tell_mysql(lock_seconds, galera=kind.galera))
    return made


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a server turned out to be."""

    dialect: str
    galera: bool = False


async def _asked(address: Address, connect: Callable[[], Awaitable[Any]]) -> _Kind:
    """MariaDB and MySQL have other names for the same collation, and SQLAlchemy believes the address."""
    try:
        probe = await connect()
    except Exception as error:
        raise unreachable(address, error) from error
    try:
        async with asyncio.timeout(CONNECT_SECONDS), probe.cursor() as cursor:
            await cursor.execute("SHOW VARIABLES LIKE 'wsrep_on'")
            galera = ("wsrep_on", "ON") in await cursor.fetchall()
        maria = "mariadb" in probe.get_server_info().lower()
        return _Kind("mariadb+asyncmy" if maria else "mysql+asyncmy", galera)
    except Exception as error:
        raise unreachable(address, error) from error
    finally:
        probe.close()


def unreachable(address: Address, error: BaseException) -> StoreUnavailable:
    """One sentence for a connection that could not be made or used."""
    return StoreUnavailable(f"{address.told}: {dialects.explained(error)}")


def abort(connection: Any) -> None:  # noqa: ANN401 - a driver's connection
    """Cut a connection at once: whoever waits for its answer gets an error, and the server no request to cancel."""
    transport = getattr(connection, "_transport", None)
    if transport is not None:
        transport.abort()
    if hasattr(connection, "terminate"):
        connection.terminate()


def _on_the_primary(url: str) -> str:
    """With several hosts, or a name that moves, never write to a standby."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    options.setdefault("target_session_attrs", "primary")
    return _with_query(url, options)


def _with_query(url: str, options: Mapping[str, str]) -> str:
    head = url.partition("?")[0].partition("#")[0]
    return f"{head}?{urlencode(options)}" if options else head


def _tell_mysql(lock_seconds: int, *, galera: bool) -> Callable[[Any, object], None]:
    def tell(connection: Any, _record: object) -> None:  # noqa: ANN401 - SQLAlchemy's adapted connection
        cursor = connection.cursor()
        for statement in dialects.mysql_settings(lock_seconds, galera=galera):
            cursor.execute(statement)
        cursor.close()

    return tell


def _mysql_options(address: Address) -> dict[str, Any]:
    parts = urlsplit(address.url)
    given = {name.replace("-", "_"): value for name, value in parse_qsl(parts.query)}
    options: dict[str, Any] = {
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "host": parts.hostname or "localhost",
        "port": parts.port or 3306,
        "db": address.database,
        "charset": "utf8mb4",
        "autocommit": True,
        # CLIENT_FOUND_ROWS: an UPDATE that found its row and changed nothing in it has still found it.
        "client_flag": 2,
    }
    if "unix_socket" in given:
        options["unix_socket"] = given.pop("unix_socket")
    given.pop("charset", None)
    tls = {name: given.pop(name) for name in list(given) if name.startswith("ssl")}
    if given:
        raise SettingsError(f"DATABASE_URL has options that are not known for MySQL: {', '.join(sorted(given))}.")
    context = _tls(tls)
    return options | ({"ssl": context} if context else {})


def _tls(options: dict[str, str]) -> ssl.SSLContext | None:
    """The TLS context that `ssl_mode`, `ssl_ca`, `ssl_cert` and `ssl_key` ask for; None without any of them."""
    unknown = set(options) - {"ssl", "sslmode", "ssl_mode", "ssl_ca", "ssl_cert", "ssl_key"}
    default = "verify_ca" if "ssl_ca" in options else "required"
    named = options.get("ssl_mode") or options.get("sslmode") or default
    mode = named.lower().replace("-", "_")
    if unknown or mode not in _MODES:
        raise SettingsError(
            "DATABASE_URL: write TLS for MySQL as ssl_mode=required, verify_ca or verify_identity, "
            "with ssl_ca, ssl_cert and ssl_key naming files."
        )
    if not options or mode.startswith("disable"):
        return None
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca"))
        context.check_hostname = _VERIFYING.get(mode, False)
        context.verify_mode = ssl.CERT_REQUIRED if mode in _VERIFYING else ssl.CERT_NONE
        if "ssl_cert" in options:
            context.load_cert_chain(options["ssl_cert"], options.get("ssl_key"))
    except OSError as unreadable:
        raise SettingsError(f"DATABASE_URL: a file for TLS cannot be read ({unreadable.strerror}).") from None
    return context
