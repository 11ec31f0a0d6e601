"""Find out whether a URL can hold a graph: a second create must lose, racers have one winner, new is seen at once.

Some S3 look-alikes ignore ``If-None-Match`` and some file systems cannot link; a graph there would lose commits.
Called by `graph init` and `graph check` on the real URL.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable

from evergraft.errors import EvergraftError, NotFoundError, StoreUnavailableError, UserError
from evergraft.store.seam import Created, Landed, Lost, Store, Unknown

RACERS = 8
PREFIX = "probe/"


def probe(store_factory: Callable[[str], Store], url: str) -> None:
    """Try the store at `url` with clients of `store_factory`; nothing of it remains.

    Raises:
        UserError: the store is unfit; the message says what it did wrong.
        PermissionDeniedError: these credentials may not create or read.
        StoreUnavailableError: no answer.
    """
    ours, other = store_factory(url), store_factory(url)
    mark = uuid.uuid4().hex
    keys = [f"{PREFIX}{mark}-create", f"{PREFIX}{mark}-race"]
    try:
        _second_create_loses(ours, other, keys[0])
        _one_racer_wins([ours, other] * (RACERS // 2), keys[1])
    finally:
        for key in keys:
            with contextlib.suppress(EvergraftError):  # workers may not delete; what remains is tiny and named probe/
                ours.delete(key)


def _second_create_loses(ours: Store, other: Store, key: str) -> None:
    if not isinstance(_decided(ours, ours.put_if_absent(key, b"first")), Landed):
        raise _unfit(ours, "a first create did not land")
    try:
        seen = other.get(key)
    except NotFoundError:
        raise _unfit(ours, "a new object is not seen at once by another client") from None
    if seen != b"first":
        raise _unfit(ours, "another client reads other bytes than were written")
    second = _decided(ours, other.put_if_absent(key, b"second"))
    if not isinstance(second, Lost) or ours.get(key) != b"first":
        raise _unfit(ours, "a second create overwrote the first, so it ignores the condition (If-None-Match)")
    if not any(entry.key == key for entry in other.list(PREFIX)):
        raise _unfit(ours, "a new object is missing from the listing")


def _one_racer_wins(racers: list[Store], key: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def race(number: int) -> Created:
        return racers[number].put_if_absent(key, f"racer {number}".encode())

    with ThreadPoolExecutor(max_workers=len(racers)) as pool:
        outcomes = [_decided(racers[0], outcome) for outcome in pool.map(race, range(len(racers)))]
    winners = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Landed)]
    if len(winners) != 1:
        raise _unfit(racers[0], f"of {len(racers)} racing creates {len(winners)} won instead of one")
    won = f"racer {winners[0]}".encode()
    if any(isinstance(outcome, Lost) and outcome.data != won for outcome in outcomes):
        raise _unfit(racers[0], "racing creates saw different winners")


def _decided(store: Store, outcome: Created) -> Created:
    if isinstance(outcome, Unknown):
        raise StoreUnavailableError(f"{store.url}: no answer to the probe: {outcome.reason}")
    return outcome


def _unfit(store: Store, what: str) -> UserError:
    return UserError(
        f"{store.url}: this store cannot hold a graph: {what}; use GCS, S3, or a store with conditional writes"
    )
