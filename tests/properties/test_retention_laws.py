"""Retention against a simple model, and the laws that no policy may break."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.model.restore_point import Flag, RestorePoint
from holdfast.model.schedules import Keep
from holdfast.planning.calendar import kept_until
from holdfast.planning.retention import Rule, judge
from tests.vectors.policies import point

NOW = datetime(2026, 10, 30, 7, tzinfo=UTC)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Sydney", "America/New_York"])
FLAGS = st.sets(st.sampled_from("DWMY")).map(lambda found: "".join(sorted(found, key="DWMY".index)))
KEEPS = st.one_of(
    st.integers(1, 400).map(lambda days: Keep(days=days, months=None, years=None)),
    st.integers(1, 14).map(lambda months: Keep(days=None, months=months, years=None)),
    st.integers(1, 2).map(lambda years: Keep(days=None, months=None, years=years)),
)


@st.composite
def chains(draw: st.DrawFn) -> list[RestorePoint]:
    """Points of one chain, in any order: complete or not, flagged, manual or temporary."""
    hours = draw(st.lists(st.integers(0, 9000), unique=True, max_size=14))
    points = []
    for hour in hours:
        flags = draw(FLAGS)
        until = NOW + timedelta(hours=draw(st.integers(-48, 48))) if draw(st.integers(0, 5)) == 0 else None
        manual = not flags and draw(st.booleans())
        complete = draw(st.integers(0, 4)) > 0
        taken_at = NOW - timedelta(hours=hour)
        points.append(point(taken_at, flags, manual=manual, keep_until=until, complete=complete))
    return points


@st.composite
def rules(draw: st.DrawFn, least: int = 0) -> Rule:
    values = st.integers(least, 6) if draw(st.booleans()) else KEEPS
    keep = draw(st.dictionaries(st.sampled_from(list(Flag)), values, max_size=4))
    return Rule(keep, ZoneInfo(draw(ZONES)), draw(st.integers(0, 2)))


def holds(each: RestorePoint, flag: Flag, points: list[RestorePoint], rule: Rule) -> bool:
    """Whether ``flag`` still keeps a point: it is among the newest, or younger than the rule's time."""
    if flag not in rule.keep:
        return True
    keep = rule.keep[flag]
    if isinstance(keep, Keep):
        return kept_until(each.taken_at, keep, rule.zone) > NOW
    newer = [
        other for other in points if other.taken_at > each.taken_at and flag in other.flags and other.complete
    ]
    return len(newer) < keep


def survives(
    each: RestorePoint, points: list[RestorePoint], rule: Rule, pinned: set[str], protected: bool
) -> bool:
    """The rules of retention, said one after another."""
    if each.keep_until is not None and each.keep_until > NOW:
        return True
    if not each.flags and each.keep_until is not None:
        return False
    if not each.flags and each.manual:
        return True
    live = {flag for flag in each.flags if holds(each, flag, points, rule)}
    if live or each.point_id in pinned:
        return True
    told = any(isinstance(rule.keep.get(flag), int) for flag in each.flags)
    if told or not protected or not each.complete:
        return False
    in_chain = [other for other in points if other.flags or not (other.manual or other.keep_until)]
    newer = [other for other in in_chain if other.complete and other.taken_at > each.taken_at]
    return len(newer) < rule.keep_last


def outcome(points, rule, pinned=frozenset(), protected=True) -> dict[str, bool]:
    return {
        verdict.point_id: not verdict.remove
        for verdict in judge(points, rule, NOW, pinned=pinned, protected=protected)
    }


@given(chains(), rules(), st.sets(st.integers(0, 13)), st.booleans())
@settings(max_examples=150)
def test_verdicts_are_those_of_the_simple_model(points, rule, pins, protected):
    pinned = {points[index].point_id for index in pins if index < len(points)}
    expected = {each.point_id: survives(each, points, rule, pinned, protected) for each in points}
    assert outcome(points, rule, pinned, protected) == expected


@given(chains(), rules())
@settings(max_examples=60)
def test_every_point_gets_one_verdict_with_a_reason(points, rule):
    verdicts = judge(points, rule, NOW)
    assert sorted(verdict.point_id for verdict in verdicts) == sorted(each.point_id for each in points)
    assert all(verdict.reason for verdict in verdicts)


@given(chains(), rules(least=1))
@settings(max_examples=60)
def test_the_newest_valid_point_of_a_protected_instance_is_never_removed(points, rule):
    flagged = [each for each in points if each.complete and each.flags]
    if flagged and rule.keep_last:
        newest = max(flagged, key=lambda each: each.taken_at)
        kept = outcome(points, rule)
        later = [each for each in points if each.complete and each.taken_at >= newest.taken_at]
        assert any(kept[each.point_id] for each in later)


@given(chains(), rules())
@settings(max_examples=60)
def test_a_point_with_a_live_flag_is_never_removed(points, rule):
    for verdict in judge(points, rule, NOW):
        assert not (verdict.remove and verdict.flags)


@given(chains(), rules())
@settings(max_examples=60)
def test_harmonization_keeps_at_least_what_each_schedule_alone_would_keep(points, rule):
    together = outcome(points, rule)
    for flag in rule.keep:
        only = [each.model_copy(update={"flags": frozenset({flag})}) for each in points if flag in each.flags]
        alone = outcome(only, Rule({flag: rule.keep[flag]}, rule.zone, 0))
        assert all(together[point_id] for point_id, kept in alone.items() if kept)


@given(chains(), rules())
@settings(max_examples=60)
def test_repeating_retention_changes_nothing(points, rule):
    first = {verdict.point_id: verdict for verdict in judge(points, rule, NOW)}
    left = [
        each.model_copy(update={"flags": first[each.point_id].flags})
        for each in points
        if not first[each.point_id].remove
    ]
    again = judge(left, rule, NOW)
    assert not any(verdict.unassigned for verdict in again)
    assert not any(verdict.remove for verdict in again)


@given(chains(), rules())
@settings(max_examples=60)
def test_keeping_more_never_removes_more(points, rule):
    longer = {
        flag: keep + 1 if isinstance(keep, int) else Keep(days=None, months=None, years=9)
        for flag, keep in rule.keep.items()
    }
    kept, more = outcome(points, rule), outcome(points, Rule(longer, rule.zone, rule.keep_last))
    assert all(more[name] for name, was_kept in kept.items() if was_kept)


@given(chains(), rules(), st.integers(0, 13))
@settings(max_examples=60)
def test_with_time_alone_a_point_less_never_keeps_another(points, rule, index):
    by_age = Rule({flag: keep for flag, keep in rule.keep.items() if isinstance(keep, Keep)}, rule.zone, 0)
    if index < len(points):
        without = points[:index] + points[index + 1 :]
        kept = outcome(points, by_age)
        assert outcome(without, by_age) == {
            name: was_kept for name, was_kept in kept.items() if name != points[index].point_id
        }
