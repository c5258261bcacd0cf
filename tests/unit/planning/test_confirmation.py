"""What counts as a shorter retention, and what is in force while one waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.configuration import ObsoleteSnapshots
from holdfast.model.restore_point import Flag
from holdfast.model.schedules import Keep
from holdfast.planning.confirmation import (
    Retention,
    agreed,
    in_force,
    is_waiting,
    keeps_as_much,
    of_obsolete,
    of_rule,
    spelled,
    wanted_after,
)
from holdfast.planning.retention import Rule, judge
from tests.vectors.policies import point

NOW = datetime(2026, 11, 22, 7, tzinfo=UTC)
UTC_ZONE = ZoneInfo("UTC")
D, W, M = Flag.DAILY, Flag.WEEKLY, Flag.MONTHLY


def keep(text: str) -> Keep:
    return Keep.model_validate(text)


def retention(last: int = 1, fallback: str = "", **limits: int | str | None) -> Retention:
    """``D=3, W="2 days"``; None: for ever."""
    found = {Flag(flag): keep(limit) if isinstance(limit, str) else limit for flag, limit in limits.items()}
    return Retention(keep=found, fallback=keep(fallback) if fallback else None, keep_last=last)


@pytest.mark.parametrize(
    "new, old",
    [
        (retention(D=3), retention(D=3)),
        (retention(D=4), retention(D=3)),
        (retention(D=3, W=1), retention(D=3)),
        (retention(D=3, last=2), retention(D=3)),
        (retention(D=None), retention(D=3)),
        (retention(D="30 days"), retention(D="29 days")),
        (retention(D="1 year"), retention(D="12 months")),
        (retention(D="2 months"), retention(D="30 days")),
        (retention(fallback="3 days"), retention(fallback="3 days")),
        (retention(D="9 days", fallback="9 days"), retention(D="9 days", fallback="3 days")),
        (retention(), retention(D=3)),
    ],
)
def test_a_retention_that_keeps_as_much_applies_at_once(new: Retention, old: Retention):
    assert keeps_as_much(wanted_after([old], new), old)
    assert in_force([old], new) == (wanted_after([old], new),)
    assert not is_waiting(in_force([old], new), new)


@pytest.mark.parametrize(
    "new, old",
    [
        pytest.param(retention(D=2), retention(D=3), id="a smaller number"),
        pytest.param(retention(D=3, W=0), retention(D=3, W=1), id="one flag of several"),
        pytest.param(retention(D="29 days"), retention(D="30 days"), id="a shorter time"),
        pytest.param(retention(D="30 days"), retention(D="1 month"), id="a month may be longer than 30 days"),
        pytest.param(retention(D="365 days"), retention(D="1 year"), id="a year may be longer than 365 days"),
        pytest.param(retention(D=3, last=0), retention(D=3), id="fewer that age never removes"),
        pytest.param(retention(D=9), retention(D="3 days"), id="a number instead of a time"),
        pytest.param(retention(fallback="9 days"), retention(D=3), id="others are not kept for ever"),
        pytest.param(retention(D="9 days", fallback="2 days"), retention(fallback="3 days"), id="the rest"),
        pytest.param(retention(D="2 days", fallback="9 days"), retention(fallback="3 days"), id="a new flag"),
        pytest.param(retention(D=3), retention(D=None), id="a time for what is kept for ever"),
    ],
)
def test_a_retention_that_may_keep_less_waits(new: Retention, old: Retention):
    assert in_force([old], new) != (new,)
    assert old in in_force([old], new)
    assert is_waiting(in_force([old], new), new)


def test_what_became_longer_applies_while_what_became_shorter_waits():
    force = in_force([retention(D=7, W=4)], retention(D=3, W=8))
    assert force == (retention(D=7, W=4), retention(D=3, W=8))
    assert is_waiting(force, retention(D=3, W=8))
    later = in_force(force, retention(D=3, W=5))
    assert retention(D=3, W=8) in later, "8 weeks were in force, so that 5 have to wait"
    assert in_force(later, retention(D=7, W=8)) == (retention(D=7, W=8),)


def test_a_flag_that_was_dropped_and_comes_back_has_to_wait():
    dropped = in_force([retention(D=7, W=4)], retention(D=7))
    assert dropped == (retention(D=7, W=None),)
    assert is_waiting(in_force(dropped, retention(D=7, W=4)), retention(D=7, W=4))


def test_a_flag_that_was_never_known_applies_at_once():
    assert not is_waiting(in_force([retention(D=7)], retention(D=7, W=1)), retention(D=7, W=1))


def test_never_is_longer_than_any_time_for_obsolete_snapshots():
    after = ObsoleteSnapshots(mode="after", days=30, months=None)
    assert is_waiting((Retention(),), of_obsolete(after))
    assert not is_waiting((of_obsolete(after),), of_obsolete(ObsoleteSnapshots()))
    assert of_obsolete(after).obsolete == after
    assert Retention().obsolete == ObsoleteSnapshots()


def test_a_retention_is_told_in_words():
    assert spelled(retention(D=7, W="30 days", M=None)) == "D 7, W 30 days, M for ever; newest 1"
    assert spelled(retention(D=7, last=0, fallback="1 year")) == "D 7, others 1 year"
    assert spelled(Retention()) == "for ever"


def test_a_retention_survives_the_catalog():
    found = retention(D=7, W="30 days", M=None, fallback="2 years")
    assert Retention.model_validate(found.model_dump(mode="json")) == found
    rule = Rule({D: 7, W: keep("3 days")}, UTC_ZONE, 2)
    assert of_rule(rule).rule(UTC_ZONE) == rule
    assert dict(of_rule(rule).rule(UTC_ZONE).keep) == dict(rule.keep)


LIMITS = st.one_of(
    st.integers(0, 5),
    st.builds(lambda days: keep(f"{days} days"), st.integers(1, 20)),
    st.builds(lambda months: keep(f"{months} months"), st.integers(1, 3)),
)
RULES = st.builds(
    lambda limits, last, fallback: Rule(
        {flag: limit for flag, limit in limits.items() if fallback is None or isinstance(limit, Keep)},
        UTC_ZONE,
        last,
        fallback,
    ),
    st.dictionaries(st.sampled_from([D, W, M]), LIMITS, max_size=3),
    st.integers(0, 2),
    st.one_of(st.none(), st.builds(lambda days: keep(f"{days} days"), st.integers(1, 20))),
)
CHAINS = st.lists(
    st.tuples(st.integers(0, 70), st.sampled_from(["D", "W", "M", "DW", "DWM", ""])), max_size=12
)


@given(st.lists(RULES, min_size=1, max_size=4), CHAINS)
def test_nothing_goes_that_any_unconfirmed_retention_before_would_keep(
    rules: list[Rule], chain: list[tuple[int, str]]
):
    """Edit after edit without a confirmation: every rule of the history has to agree."""
    points = [point(NOW - timedelta(days=age, minutes=n), flags) for n, (age, flags) in enumerate(chain)]
    force: tuple[Retention, ...] = (of_rule(rules[0]),)
    for rule in rules[1:]:
        force = in_force(force, of_rule(rule))
    wanted = rules[-1]
    judges = (
        [wanted, *(one.rule(UTC_ZONE) for one in force)] if is_waiting(force, of_rule(wanted)) else [wanted]
    )
    verdicts, _ = agreed([judge(points, rule, NOW) for rule in judges])
    flags_known = set().union(*(rule.keep for rule in rules[:1]))
    removed = {verdict.point_id for verdict in verdicts if verdict.remove}
    by_first = {verdict.point_id: verdict for verdict in judge(points, rules[0], NOW)}
    for one in points:
        covered = rules[0].fallback is not None or one.flags <= flags_known
        if one.point_id in removed and covered:
            assert by_first[one.point_id].remove


@given(RULES, RULES, CHAINS)
def test_what_keeps_as_much_never_removes_more(new: Rule, old: Rule, chain: list[tuple[int, str]]):
    """An independent check of the comparison: by judging the same points under both."""
    points = [point(NOW - timedelta(days=age, minutes=n), flags) for n, (age, flags) in enumerate(chain)]
    known = Flag if old.fallback is not None else old.keep
    points = [one for one in points if one.flags <= set(known)]
    if keeps_as_much(wanted_after([of_rule(old)], of_rule(new)), of_rule(old)):
        kept_before = {one.point_id for one in judge(points, old, NOW) if not one.remove}
        kept_now = {one.point_id for one in judge(points, new, NOW) if not one.remove}
        assert kept_before <= kept_now


@given(RULES, RULES, CHAINS)
def test_two_rules_agree_on_less_than_either(first: Rule, second: Rule, chain: list[tuple[int, str]]):
    points = [point(NOW - timedelta(days=age, minutes=n), flags) for n, (age, flags) in enumerate(chain)]
    both = [judge(points, rule, NOW) for rule in (first, second)]
    verdicts, spared = agreed(both)
    for verdict, one, other in zip(verdicts, *both, strict=True):
        assert verdict.remove == (one.remove and other.remove)
        assert verdict.flags == one.flags | other.flags
        assert verdict.flags.isdisjoint(verdict.unassigned)
        assert (verdict.point_id in spared) == (one.remove and not other.remove)
