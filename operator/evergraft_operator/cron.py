"""Cron schedules of five fields, in UTC: when is the next time after a given one.

Numbers, names of months and weekdays, ``*``, lists, ranges and steps; ``@daily`` and its like. As in cron, where both
the day of the month and the weekday are restricted, either suffices. Called by ``graphs``.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from evergraft_operator.reading import Moment

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_SHORTHANDS = {
    "@yearly": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_HORIZON_DAYS = 366 * 8
"""February 29th may be eight years away."""


@dataclass(frozen=True)
class Schedule:
    """The minutes, hours, days, months and weekdays (0 is Sunday) at which something is due."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    def next_after(self, time: Moment) -> Moment | None:
        """The first due minute after `time`, None if none comes within eight years."""
        start = time.replace(second=0, microsecond=0) + datetime.timedelta(minutes=1)
        for ahead in range(_HORIZON_DAYS):
            day = start.date() + datetime.timedelta(days=ahead)
            if not self._due_on(day):
                continue
            for hour in sorted(self.hours):
                for minute in sorted(self.minutes):
                    due = datetime.datetime.combine(day, datetime.time(hour, minute), datetime.UTC)
                    if due >= start:
                        return due
        return None

    def _due_on(self, day: datetime.date) -> bool:
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return of_month or of_week if self.either_day else of_month and of_week


def parse(text: str) -> Schedule:
    """Read a schedule such as ``0 3 * * 1-5``.

    Raises:
        ValueError: which field is wrong, and what it may be.
    """
    fields = _SHORTHANDS.get(text, text).split()
    if len(fields) != 5:
        raise ValueError(f'"{text}" is no cron schedule; it has five fields: minute hour day month weekday')
    minutes, hours, days = (_field(*item) for item in zip(fields[:3], ((0, 59), (0, 23), (1, 31)), strict=True))
    months = _field(fields[3], (1, 12), names=_MONTHS)
    weekdays = frozenset(day % 7 for day in _field(fields[4], (0, 7), names=_DAYS))
    either = not fields[2].startswith("*") and not fields[4].startswith("*")
    return Schedule(minutes, hours, days, months, weekdays, either)


def _field(text: str, bounds: tuple[int, int], names: tuple[str, ...] = ()) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        step = _number(step_text, (1, bounds[1]), ()) if slash else 1
        if span == "*":
            low, high = bounds
        else:
            first, dash, last = span.partition("-")
            low = _number(first, bounds, names)
            high = _number(last, bounds, names) if dash else (bounds[1] if slash else low)
        if high < low:
            raise ValueError(f'"{part}" runs backwards; write the smaller number first')
        found.update(range(low, high + 1, step))
    return frozenset(found)


def _number(text: str, bounds: tuple[int, int], names: tuple[str, ...]) -> int:
    if text.lower() in names:
        return names.index(text.lower()) + (1 if len(names) == 12 else 0)
    if not (text.isascii() and text.isdecimal() and len(text) <= 2 and bounds[0] <= int(text) <= bounds[1]):
        raise ValueError(f'"{text}" is not a number from {bounds[0]} to {bounds[1]}')
    return int(text)
