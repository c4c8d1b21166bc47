"""The periods for which budgets hold: days, weeks and months in UTC. Weeks begin on Monday."""

from calendar import timegm
from functools import lru_cache
from time import gmtime

DAY = 86_400
PERIODS = ("day", "week", "month")


@lru_cache(4)
def _starts(day: int) -> tuple[int, int, int]:
    at = gmtime(day * DAY)
    return day * DAY, (day - at.tm_wday) * DAY, (day - at.tm_mday + 1) * DAY


def starts(now: float) -> tuple[int, int, int]:
    """The Unix times at which the day, the week and the month of `now` began."""
    return _starts(int(now) // DAY)


def end(period: str, now: float) -> int:
    """The Unix time at which the period of `now` ends."""
    day, week, _ = starts(now)
    if period == "day":
        return day + DAY
    if period == "week":
        return week + 7 * DAY
    at = gmtime(now)
    return timegm((at.tm_year + at.tm_mon // 12, at.tm_mon % 12 + 1, 1, 0, 0, 0))
