"""The field types of the manifests: names, decimals, durations, quantities, URLs.

Each pattern stands here once, with the words that explain it, so that the schema and the messages agree. Called by
the models; `seconds` also by ``api.resolve``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from evergraft.api.ladders import shown
from evergraft.api.splits import PATTERN as SPLIT_PATTERN
from evergraft.api.splits import parse_split

T = TypeVar("T")


class Part(BaseModel):
    """Any object of a manifest: frozen, camelCase, no unknown fields, no silent conversions."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, alias_generator=to_camel, use_attribute_docstrings=True
    )


Items = Annotated[tuple[T, ...], Field(strict=False)]
"""A list in a manifest, a tuple in the model."""


def problem(message: str) -> PydanticCustomError:
    """An error of a field or rule, in our own words."""
    # Braces would be read as a template's.
    return PydanticCustomError("evergraft", "{message}", {"message": message})


def exactly_one(part: BaseModel, *fields: str) -> None:
    """Refuse `part` unless one of `fields`, given by attribute name, is set.

    Raises:
        PydanticCustomError: none or several are.
    """
    given = [name for name in fields if getattr(part, name) is not None]
    if len(given) != 1:
        aliases = " or ".join(type(part).model_fields[name].alias or name for name in fields)
        raise problem(f"give {aliases}" if not given else f"give only one of {aliases}")


DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
TASK_ID = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?(/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)+$"
STRATEGY = r"^[a-z][-a-z0-9]*$"
IDENTIFIER = r"^[A-Za-z][A-Za-z0-9]*$"
DECIMAL = r"^[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$"
DURATION = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]{1,2})?$"
ENDPOINT = r"^https?://[^/@?#\s]+(/[^@?#\s]*)?$"
SHA256 = r"^[0-9a-f]{64}$"
TOPOLOGY = r"^[1-9][0-9]*x[1-9][0-9]*(x[1-9][0-9]*)?$"
IMAGE = r"^\S*$"
CRON = r"^(@(yearly|monthly|weekly|daily|hourly)|\S+( \S+){4})$"
CLAIM_PATH = r"^[^/]"

EXPLAINED: Mapping[str, str] = {
    DNS_LABEL: "lower-case letters, digits and dashes, beginning and ending with a letter or digit",
    DNS_NAME: "lower-case letters, digits, dashes and dots, beginning and ending with a letter or digit",
    TASK_ID: "parts of letters, digits, dashes, dots and underscores with at least one slash, such as vision/cifar10",
    STRATEGY: "a strategy's name, such as mu2net",
    IDENTIFIER: "a name of letters and digits, such as learningRate",
    DECIMAL: 'a quoted decimal of at least 0, such as "0.01"',
    DURATION: "a duration such as 24h, 10m, 1h30m or 30s",
    QUANTITY: "a Kubernetes quantity such as 16Gi, 500m or 4",
    ENDPOINT: "an https:// or http:// address without user info or query",
    SHA256: "64 lower-case hex digits",
    TOPOLOGY: "chips such as 2x2 or 2x2x1",
    IMAGE: "an image reference without spaces",
    CRON: 'a cron schedule of five fields, such as "0 3 * * *"',
    CLAIM_PATH: "a path relative to the volume, without a leading slash",
    SPLIT_PATTERN: 'a split\'s name or a part of it, such as train or "train[90%:]"',
}
"""What each pattern means, for messages."""


def _quoted(kind: str, example: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            raise problem(f'{kind} are strings: quote it, "{value}"' if kind == "decimals" else f"write {example}")
        return value

    return check


def _within(low: float, high: float, *, open_low: bool = False, open_high: bool = False) -> Callable[[str], str]:
    def check(text: str) -> str:
        value = float(text)
        inside = (low < value if open_low else low <= value) and (value < high if open_high else value <= high)
        if not inside:
            bounds = f"{'above' if open_low else 'at least'} {low:g} and {'below' if open_high else 'at most'} {high:g}"
            raise problem(f'"{text}" is out of range; must be {bounds}')
        return text

    return check


# The pattern stands next to the type, so that it reaches the schema; the word about quotes still comes first.
Decimal = Annotated[str, Field(pattern=DECIMAL, max_length=32), BeforeValidator(_quoted("decimals", ""))]
Fraction = Annotated[Decimal, AfterValidator(_within(0, 1))]
"""A decimal in 0…1."""
Probability = Annotated[Decimal, AfterValidator(_within(0, 1, open_high=True))]
"""A decimal in 0…1, 1 excluded."""
Decay = Annotated[Decimal, AfterValidator(_within(0, 1, open_low=True))]
"""A decimal in 0…1, 0 excluded."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(duration: str) -> float:
    """The seconds of a duration such as ``1h30m``."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", duration)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _positive(duration: str) -> str:
    if seconds(duration) <= 0:
        raise problem(f'"{duration}" is no time; must be longer than 0s')
    return duration


Duration = Annotated[
    str,
    Field(pattern=DURATION, max_length=32),
    BeforeValidator(_quoted("durations", EXPLAINED[DURATION])),
    AfterValidator(_positive),
]


def _quantity_text(value: Any) -> Any:
    # Kubernetes takes whole numbers unquoted here: cpu: 4.
    if isinstance(value, float):
        raise problem(f'quantities are strings or whole numbers: quote it, "{value}"')
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity = Annotated[str, Field(pattern=QUANTITY, max_length=32), BeforeValidator(_quantity_text)]

Label = Annotated[str, Field(pattern=DNS_LABEL, min_length=1, max_length=63)]
Name = Annotated[str, Field(pattern=DNS_NAME, min_length=1, max_length=253)]
TaskID = Annotated[str, Field(pattern=TASK_ID, max_length=253)]
Labels = Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=64)]
Endpoint = Annotated[str, Field(pattern=ENDPOINT, max_length=1024)]


def _no_credentials(url: str) -> str:
    if any(ord(sign) < 32 for sign in url):
        raise problem("a URL holds no control characters")
    if url.startswith("~"):
        raise problem("~ is not expanded in a manifest; write the path out")
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise problem(f"not a URL: {error}") from None
    if "@" in parts.netloc:
        raise problem("a URL here carries no user info (…@); give a secretRef or use the ambient credentials")
    if "?" in url or "#" in url:
        raise problem("a URL here carries no query or fragment (a signed query is a secret); give a secretRef")
    if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
        raise problem("a file URL has three slashes and an absolute path, such as file:///data/cifar10")
    if parts.scheme in ("gs", "s3") and not parts.netloc:
        raise problem(f"names no bucket; write {parts.scheme}://bucket/path")
    return url


def _scheme_among(*schemes: str) -> Callable[[str], str]:
    def check(url: str) -> str:
        scheme, separator, _ = url.partition("://")
        if separator and scheme not in schemes:
            allowed = ", ".join(f"{name}://" for name in schemes)
            raise problem(f"{scheme}:// is not supported; write {allowed} or a local path")
        return url

    return check


_STORED = Field(min_length=1, max_length=2048)
Url = Annotated[
    str, _STORED, AfterValidator(_scheme_among("gs", "s3", "file", "memory")), AfterValidator(_no_credentials)
]
"""A place in an object store; on one machine also a local path. In a cluster `api.rules` refuses the latter."""
WeightsUrl = Annotated[
    str, _STORED, AfterValidator(_scheme_among("gs", "s3", "https", "file", "memory")), AfterValidator(_no_credentials)
]
"""Like `Url`, and https."""


def _claim_path(path: str) -> str:
    if ".." in path.split("/"):
        raise problem("a path inside the volume has no ..")
    return path


ClaimPath = Annotated[str, Field(pattern=CLAIM_PATH, max_length=1024), AfterValidator(_claim_path)]


def _split(text: str) -> str:
    try:
        parse_split(text)
    except ValueError as error:
        raise problem(str(error)) from None
    return text


SplitText = Annotated[str, Field(pattern=SPLIT_PATTERN, max_length=128), AfterValidator(_split)]


def _scalar(value: Any) -> Any:
    if isinstance(value, float):
        raise problem(f'decimals are strings: quote it, "{value}"')
    if not isinstance(value, (str, int, bool)):
        raise problem(f"expected a quoted decimal, an integer, true, false or a word, got {shown(value)}")
    return value


ScalarText = Annotated[
    Any, BeforeValidator(_scalar), WithJsonSchema({"anyOf": [{"type": t} for t in ("string", "integer", "boolean")]})
]
"""A hyperparameter's value as written: a string (decimals), an integer or a boolean."""
