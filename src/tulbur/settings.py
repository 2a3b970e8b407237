"""The environment, read once into one frozen object; a wrong setting is one sentence with its remedy."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias
from urllib.parse import unquote, urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from tulbur.core.rules import Rules
from tulbur.errors import SettingsError

SCOPES: Final = frozenset({"read", "write", "refund", "admin"})

LATER: Final = ("group_commit",)
"""Settings of later releases."""

MOST_WEBHOOK_KEYS: Final = 10

_ADDRESS: Final = re.compile(r"https?://[!-~]+")
_NOT_IN_ADDRESS: Final = re.compile(r"[@?#\"'<>\\^`{|}]")
Network: TypeAlias = IPv4Network | IPv6Network

_REMEDIES: Final[Mapping[str, str]] = {
    "PUBLIC_URL": "set it to the address at which QPay and payers reach this service, such as https://pay.shop.mn",
    "QPAY_BASE_URL": "set it to https://merchant.qpay.mn, https://merchant-sandbox.qpay.mn or a simulator's address",
    "PRICE_URL": "set it to the address at which the shop tells its prices, such as http://shop.internal/prices",
    "TULBUR_JWKS_URL": "set it to the address of the shop's public keys, such as https://shop.mn/.well-known/jwks.json",
    "QPAY_USERNAME": "set it to the login QPay gave you",
    "QPAY_PASSWORD": "set it to the password QPay gave you",
    "QPAY_INVOICE_CODE": "set it to the invoice code QPay gave you",
    "WEBHOOK_URL": "set it to the address at which the shop takes events, such as https://shop.mn/tulbur-events",
    "WEBHOOK_SECRET": "set it to whsec_ and 24 to 64 random bytes in base64: python -c 'import base64, secrets; "
    'print("whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())\'',
    "TULBUR_SECRET_KEYS": "set it to a random text of 32 characters or more: python -c 'import secrets; "
    "print(secrets.token_urlsafe(32))'",
}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One entry of TULBUR_API_KEYS: whose it is, what it may do, and the SHA-256 of the key."""

    name: str
    scopes: frozenset[str]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OldShop:
    """What the old shop's routes stand on. Either `jwt_secret` or `jwks_url` is there, or neither, never both."""

    networks: tuple[Network, ...] = ()
    price_url: str | None = None
    unverified_prices: bool = False
    jwt_secret: str = field(default="", repr=False)
    jwks_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """Where the shop takes events; every key signs. `allow_private`: its address may be one of a private network."""

    url: str = field(repr=False)
    keys: tuple[bytes, ...] = field(repr=False)
    allow_private: bool = False


class Settings(BaseSettings):
    """Everything that can be set, by the names of the environment; `.env` in the working directory fills gaps."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    database_url: str = "sqlite:///tulbur.db"
    redis_url: str | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    public_url: str | None = Field(
        default=None, validation_alias=AliasChoices("public_url", "qpay_callback_public_base_url")
    )
    qpay_base_url: str | None = None
    qpay_username: str | None = Field(default=None, validation_alias=AliasChoices("qpay_username", "qpay_client_id"))
    qpay_password: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("qpay_password", "qpay_client_secret")
    )
    qpay_invoice_code: str | None = None
    tulbur_secret_keys: SecretStr | None = None
    tulbur_api_keys: SecretStr = SecretStr("")
    session_ttl_seconds: int = Field(default=600, ge=1, le=86_400)
    session_expiry_seconds: int = Field(default=1800, ge=1, le=2_592_000)
    late_payments: Literal["accept", "review"] = "accept"
    expired_invoices: Literal["keep", "cancel"] = "keep"
    sweep: Literal["daily", "off"] = "daily"
    trusted_proxies: str = ""
    seed_api: Literal["off", "on"] = "off"
    seed_api_trusted_networks: str = ""
    seed_api_unverified_prices: Literal["off", "on"] = "off"
    price_url: str | None = None
    tulbur_jwt_secret: SecretStr | None = None
    tulbur_jwks_url: str | None = None
    # Its path or query may be what lets tulbur in.
    webhook_url: SecretStr | None = None
    webhook_secret: SecretStr | None = None
    webhook_allow_private: Literal["off", "on"] = "off"
    # Of a later release, and without effect; known so that whoever sets it can be told.
    group_commit: SecretStr | None = None
    retention_days: int = Field(default=30, ge=1, le=3650)
    late_days: int = Field(default=90, ge=1, le=3650)
    spool_dir: str | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _late_money_is_waited_for(self) -> Self:
        if self.late_days < self.retention_days:
            raise PydanticCustomError(
                "late_days", "LATE_DAYS is less than RETENTION_DAYS: unpaid sessions must be kept as long as paid ones"
            )
        return self

    @classmethod
    def from_env(cls, **overrides: Any) -> Settings:  # noqa: ANN401 - any setting
        """Read the environment, `.env` and, where TULBUR_SECRETS_DIR names one, a directory of secret files.

        Raises:
            SettingsError: a value cannot be read; the sentence names the variable.
        """
        import os  # noqa: PLC0415 - the one place that looks at the environment by itself

        secrets_dir = os.environ.get("TULBUR_SECRETS_DIR") or None
        if secrets_dir is not None and not Path(secrets_dir).is_dir():
            raise SettingsError("TULBUR_SECRETS_DIR names no directory: correct it, or unset it.")
        try:
            return cls(_secrets_dir=secrets_dir, **overrides)
        except ValidationError as wrong:
            raise SettingsError(_sentence(wrong)) from None

    def missing(self) -> list[str]:
        """One sentence for each setting that serving needs and that is not there."""
        values: Mapping[str, object] = {
            "PUBLIC_URL": self.public_url,
            "QPAY_BASE_URL": self.qpay_base_url,
            "QPAY_USERNAME": self.qpay_username,
            "QPAY_PASSWORD": _secret(self.qpay_password),
            "QPAY_INVOICE_CODE": self.qpay_invoice_code,
            "TULBUR_SECRET_KEYS": self.secret_keys(),
        }
        return [f"{name} is not set: {_REMEDIES[name]}." for name, value in values.items() if not _given(value)]

    def required(self) -> Required:
        """The settings serving needs, all present and usable.

        Raises:
            SettingsError: one sentence for each that is missing or wrong.
        """
        missing = self.missing()
        if missing:
            raise SettingsError("\n".join(missing))
        return Required(
            public_url=_address("PUBLIC_URL", str(self.public_url)),
            qpay_base_url=_address("QPAY_BASE_URL", str(self.qpay_base_url)),
            qpay_username=str(self.qpay_username),
            qpay_password=_secret(self.qpay_password),
            qpay_invoice_code=str(self.qpay_invoice_code),
            secret_keys=self.secret_keys(),
        )

    def without_effect(self) -> list[str]:
        """The settings that are given, and that belong to a later release."""
        return [name.upper() for name in LATER if _given(_secret(getattr(self, name)))]

    def webhook(self) -> WebhookSettings | None:
        """Where events are sent; None when they are only read.

        Raises:
            SettingsError: the address or a secret cannot be used.
        """
        given, private = _secret(self.webhook_url), self.webhook_allow_private == "on"
        keys = tuple(_webhook_key(e.strip()) for e in _secret(self.webhook_secret).split(",") if e.strip())
        if not given.strip():
            return None
        url = _address("WEBHOOK_URL", given, query=True)
        if not private and urlsplit(url).scheme != "https":
            raise SettingsError(
                "WEBHOOK_URL is not https: use https://, or for a private network set WEBHOOK_ALLOW_PRIVATE=on."
            )
        if not keys:
            raise SettingsError(f"WEBHOOK_SECRET is not set: {_REMEDIES['WEBHOOK_SECRET']}.")
        if len(keys) > MOST_WEBHOOK_KEYS:
            raise SettingsError(f"WEBHOOK_SECRET holds more than {MOST_WEBHOOK_KEYS} secrets: keep those in use.")
        return WebhookSettings(url=url, keys=keys, allow_private=private)

    def rules(self) -> Rules:
        """What the shop decides about money that comes late."""
        return Rules(review_late=self.late_payments == "review", cancel_expired=self.expired_invoices == "cancel")

    def spool_path(self) -> Path | None:
        """Where callbacks are kept while the database is away; None without a spool."""
        return Path(self.spool_dir).absolute() if self.spool_dir else None

    def secret_keys(self) -> tuple[str, ...]:
        """The keys that sign our addresses; the first signs, all verify."""
        return tuple(key.strip() for key in _secret(self.tulbur_secret_keys).split(",") if key.strip())

    def api_keys(self) -> tuple[ApiKey, ...]:
        """The API keys by their digests.

        Raises:
            SettingsError: an entry is not `name:scope+scope:sha256hex`.
        """
        entries = (entry.strip() for entry in self.tulbur_api_keys.get_secret_value().split(","))
        return tuple(_api_key(entry) for entry in entries if entry)

    def old_shop(self) -> OldShop | None:
        """What the old shop's routes are set to; None while SEED_API is off.

        Raises:
            SettingsError: one of their settings cannot be used, whether they are on or off.
        """
        secret, jwks_url = _secret(self.tulbur_jwt_secret), self.tulbur_jwks_url
        if secret and jwks_url:
            raise SettingsError("TULBUR_JWT_SECRET and TULBUR_JWKS_URL are both set: keep the one the shop signs with.")
        if secret.lstrip().startswith("-----BEGIN"):
            raise SettingsError(
                "TULBUR_JWT_SECRET holds a key file, not a secret: use TULBUR_JWKS_URL for public keys."
            )
        old_shop = OldShop(
            networks=tuple(_network(e.strip()) for e in self.seed_api_trusted_networks.split(",") if e.strip()),
            price_url=_address("PRICE_URL", self.price_url, query=True) if self.price_url else None,
            unverified_prices=self.seed_api_unverified_prices == "on",
            jwt_secret=secret,
            jwks_url=_address("TULBUR_JWKS_URL", jwks_url, query=True) if jwks_url else None,
        )
        return old_shop if self.seed_api == "on" else None


class IsolatedSettings(Settings):
    """Settings that come from their arguments alone, whatever the environment and `.env` say: for demos and tests."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Required:
    """What serving needs, checked."""

    public_url: str
    qpay_base_url: str
    qpay_username: str
    qpay_password: str
    qpay_invoice_code: str
    secret_keys: tuple[str, ...]


def sqlite_path(database_url: str) -> Path | None:
    """The file a `sqlite:///relative` or `sqlite:////absolute` URL names; None for a database that is no file.

    Raises:
        SettingsError: SQLite without a file.
    """
    scheme, _, rest = database_url.partition("://")
    if scheme != "sqlite":
        return None
    path = rest.removeprefix("/")
    if not path or path == ":memory:" or "?" in path:
        raise SettingsError(
            "DATABASE_URL names no file; use sqlite:///tulbur.db or sqlite:////var/lib/tulbur/tulbur.db."
        )
    return Path(unquote(path)).absolute()


def _given(value: object) -> bool:
    return bool(value.strip() if isinstance(value, str) else value)


def _secret(value: SecretStr | None) -> str:
    return value.get_secret_value() if value else ""


def _network(entry: str) -> Network:
    try:
        return ip_network(entry)
    except ValueError:
        raise SettingsError(
            "SEED_API_TRUSTED_NETWORKS holds an entry that is not a network such as 10.0.0.0/8 or 192.168.1.5/32."
        ) from None


def _address(name: str, value: str, *, query: bool = False) -> str:
    value = value.strip()
    if not _is_address(value, query=query):
        raise SettingsError(f"{name} is not a plain http or https address: {_REMEDIES[name]}.")
    if name == "PUBLIC_URL" and len(value) > 100:
        raise SettingsError("PUBLIC_URL is longer than 100 characters; QPay takes callback addresses of at most 255.")
    return value if query else value.rstrip("/")


def _is_address(value: str, *, query: bool) -> bool:
    plain = value.replace("?", "", 1) if query else value
    if not _ADDRESS.fullmatch(value) or _NOT_IN_ADDRESS.search(plain):
        return False
    try:
        parts = urlsplit(value)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _webhook_key(entry: str) -> bytes:
    prefix, _, rest = entry.partition("_")
    try:
        key = b64decode(rest, validate=True) if prefix == "whsec" else b""
    except ValueError:
        key = b""
    if not 24 <= len(key) <= 64:
        raise SettingsError(f"WEBHOOK_SECRET holds an entry that is no secret: {_REMEDIES['WEBHOOK_SECRET']}.")
    return key


def _api_key(entry: str) -> ApiKey:
    name, _, rest = entry.partition(":")
    scopes, _, digest = rest.partition(":")
    known = frozenset(scopes.split("+"))
    if not name or not known <= SCOPES or len(digest) != 64 or any(c not in "0123456789abcdef" for c in digest):
        raise SettingsError(
            "TULBUR_API_KEYS holds an entry that is not name:scope+scope:sha256hex; "
            "make one with: tulbur keys new NAME --scopes read+write."
        )
    return ApiKey(name, known, digest)


def _sentence(wrong: ValidationError) -> str:
    lines = []
    for error in wrong.errors(include_input=False, include_url=False):
        name = "_".join(str(part) for part in error["loc"]).upper()
        lines.append(f"{name} is wrong: {error['msg'][:1].lower()}{error['msg'][1:]}." if name else f"{error['msg']}.")
    return "\n".join(lines)
