"""The ledger's laws: whatever the inventory, the accounts and the sessions, the sum is the inventory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.configuration import Account
from holdfast.model.ids import session_id
from holdfast.model.inventory import AttachedVolume, Instance
from holdfast.planning.coverage import day
from holdfast.planning.ownership import owner_of
from holdfast.planning.standing import Ending, Look, Record, Run, Standing
from tests.vectors.policies import BASIS, REGION, configuration

START = datetime(2026, 11, 22, tzinfo=UTC)
END, NOW = START + timedelta(days=1), START + timedelta(days=1, hours=4)
OWN, FAR = "444455556666", "eu-west-1"
NUMBERS = (OWN, "000000000001", "000000000002", "000000000003")
COMPANY = {"name": "company", "management_role": "arn:aws:iam::777788889999:role/Organization"}
MADE = configuration(
    BASIS
    | {
        "name": "own",
        "selection": {"tags": [{"key": "gold"}], "exclude_tags": [{"key": "skip"}]},
        "daily": {"snapshots": {"hours": [7, 19], "keep": 3}},
    },
    BASIS
    | {
        "name": "company",
        "source": {"organization": "company", "exclude_accounts": ["000000000003"]},
        "regions": [REGION, FAR],
        "priority": 2000,
        "daily": {"days": ["mon"], "snapshots": {"hours": [5], "keep": 3}},
    },
    organizations=[COMPANY],
)
PLACES = [
    Account(account=number, organization="" if number == OWN else "company", units=("r-root",))
    for number in NUMBERS
]
REGIONS = st.sampled_from([REGION, FAR, "sa-east-1"])


@st.composite
def inventories(draw: st.DrawFn) -> list[Instance]:
    volume = AttachedVolume(volume_id="vol-0123456789abcdef0", device="/dev/xvda", size_bytes=1 << 30)
    return [
        Instance(
            instance_id=f"i-{number:017x}",
            account=draw(st.sampled_from(NUMBERS)),
            region=draw(REGIONS),
            tags=dict.fromkeys(draw(st.sets(st.sampled_from(["gold", "skip"]))), ""),
            volumes=draw(st.sampled_from([(volume,), ()])),
        )
        for number in draw(st.sets(st.integers(1, 12)))
    ]


LOOKS = st.builds(
    Look,
    ended=st.booleans(),
    problems=st.dictionaries(st.sampled_from(NUMBERS), st.just("denied")),
    lost=st.sampled_from(["", "lost"]),
)
RUNS = st.builds(
    Run,
    ended=st.booleans(),
    looks=st.dictionaries(REGIONS, LOOKS),
    failure=st.sampled_from(["", "the scope"]),
)
SLOTS = [session_id("own", START.replace(hour=hour)) for hour in (7, 19)]
ENDINGS = st.dictionaries(
    st.integers(1, 12).map(lambda number: f"i-{number:017x}"),
    st.builds(
        Ending,
        policy=st.just("own"),
        slot=st.sampled_from([START.replace(hour=7), START.replace(hour=19)]),
        made=st.booleans(),
        problem=st.just("why"),
    ),
)
CLOSED = st.dictionaries(st.tuples(st.sampled_from(NUMBERS), REGIONS), st.just("denied"))


@given(
    inventories(),
    st.dictionaries(st.sampled_from(SLOTS), RUNS),
    ENDINGS,
    CLOSED,
    st.sets(st.sampled_from(NUMBERS)),
)
def test_every_instance_stands_in_exactly_one_place(instances, runs, endings, closed, known):
    record = Record(MADE, START, END, NOW, runs=runs, endings=endings)
    found = day(
        MADE,
        START.date(),
        instances,
        PLACES,
        judge=record.standing_of,
        unreachable=closed,
        known=known,
    )
    assert sorted(line.instance_id for line in found.lines) == sorted(one.instance_id for one in instances)
    assert sum(found.counts().values()) == len(instances)
    assert sum(each.instances for each in found.accounts) == len(instances)
    assert {each.account for each in found.accounts} == set(NUMBERS)
    assert {each.account for each in found.new} == set(NUMBERS) - known
    by_id = {one.instance_id: one for one in instances}
    places = {place.account: place for place in PLACES}
    for line in found.lines:
        one = by_id[line.instance_id]
        assert line.reason
        owner = owner_of(MADE, one, places[one.account])
        if line.standing in (Standing.PROTECTED, Standing.FAILED):
            assert owner is not None
            assert owner.name == line.policy
        if line.standing is Standing.PROTECTED:  # never without a session that made something
            assert endings[one.instance_id].made
        if line.standing is Standing.UNREACHABLE:
            assert (one.account, one.region) in closed
        if (one.account, one.region) in closed and one.account != "000000000003":
            assert line.standing is Standing.UNREACHABLE
        if line.standing is Standing.EXCLUDED:
            assert owner is None
