"""What a policy's document selects at a minute of the wall clock, and how long it keeps what was made.

Nothing of ``holdfast`` is imported here or in the other parts of the model: documents are read as they are.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Document = dict[str, Any]

DAY = timedelta(days=1)
KINDS = ("snapshot", "backup")
LETTERS = {"D": "daily", "W": "weekly", "M": "monthly"}
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ORDINALS = ("first", "second", "third", "fourth", "fifth")
ZONES = {
    "ap-southeast-2": "Australia/Sydney",
    "eu-central-1": "Europe/Berlin",
    "us-east-1": "America/New_York",
}


def scheduled(policy: Document, wall: datetime) -> list[tuple[str, str]]:
    """Flag and product for everything that the schedules of a policy select at a minute."""
    found = []
    daily, weekly, monthly = (policy.get(name) for name in ("daily", "weekly", "monthly"))
    if daily and wall.minute == 0 and is_among(wall, daily.get("days", "every_day")):
        found += [("D", kind) for kind in KINDS if wall.hour in daily.get(f"{kind}s", {}).get("hours", ())]
    if weekly and f"{wall:%H:%M}" == weekly["time"]:
        found += [("W", kind) for kind in KINDS if is_among(wall, weekly.get(f"{kind}s", {}).get("days", ()))]
    if monthly and f"{wall:%H:%M}" == monthly["time"] and is_the_day(wall, monthly["run_on"]):
        found += [("M", kind) for kind in KINDS if f"{kind}s" in monthly]
    return found


def is_among(on: date, days: Any) -> bool:
    """Whether a date is one of ``every_day``, ``weekdays`` or a list of weekdays."""
    if days == "every_day":
        return True
    return on.weekday() < 5 if days == "weekdays" else WEEKDAYS[on.weekday()] in days


def is_the_day(on: date, run_on: Document) -> bool:
    """Whether a date is the day of its month: ``{"day": 1}``, or the first Sunday."""
    if "day" in run_on:
        return bool(on.day == run_on["day"])
    place = ORDINALS[(on.day - 1) // 7], WEEKDAYS[on.weekday()]
    return place == (run_on["ordinal"], run_on["weekday"])


def _minutes(text: str) -> int:
    return 60 * int(text[:2]) + int(text[3:])


def length(window: Document) -> int:
    """Minutes that a window is open; equal ends are a whole day."""
    return (_minutes(window["end"]) - _minutes(window["start"])) % 1440 or 1440


def slots(template: Document, kind: str, day: date) -> list[datetime]:
    """Wall-clock times at which a template wants a product in the window that opens on ``day``."""
    cadences, window = template.get(f"{kind}s", {}), template[f"{kind}_window"]
    weekly = "weekly" in cadences and is_among(day, cadences["weekly"].get("days", "every_day"))
    monthly = "monthly" in cadences and is_the_day(day, cadences["monthly"]["run_on"])
    if not ("daily" in cadences or weekly or monthly):
        return []
    every = 60 * cadences["daily"]["hours"] if "daily" in cadences else length(window)
    opens = datetime.combine(day, time()) + timedelta(minutes=_minutes(window["start"]))
    return [opens + timedelta(minutes=minute) for minute in range(0, length(window), every)]


def closes(template: Document, day: date) -> datetime:
    """When the last window that opens on ``day`` has closed, on the wall clock of a Region."""
    midnight = datetime.combine(day, time())
    windows = [template[f"{kind}_window"] for kind in KINDS if f"{kind}s" in template]
    return max(midnight + timedelta(minutes=_minutes(one["start"]) + length(one)) for one in windows)


def earned(template: Document, kind: str, day: date, taken: set[str]) -> set[str]:
    """The flags of a success on ``day`` when earlier ones of that day have ``taken`` theirs."""
    cadences, flags = template[f"{kind}s"], set[str]()
    if "daily" in cadences:
        flags.add("D")
    if "weekly" in cadences and is_among(day, cadences["weekly"].get("days", "every_day")):
        flags |= {"W"} - taken
    if "monthly" in cadences and is_the_day(day, cadences["monthly"]["run_on"]):
        flags |= {"M"} - taken
    return flags


def later(at: datetime, days: int, zone: str) -> datetime:
    """The same time of the day, so many days later, on the wall clock of a zone."""
    return (at.astimezone(ZoneInfo(zone)) + days * DAY).astimezone(UTC)


def kept_days(template: Document, kind: str, letter: str) -> int:
    """Days that a template keeps a flag; one that it does not know is kept like its longest."""
    cadences = template.get(f"{kind}s", {})
    found = {name: cadences[name]["keep"]["days"] for name in LETTERS.values() if name in cadences}
    return int(found.get(LETTERS[letter], max(found.values(), default=36_500)))
