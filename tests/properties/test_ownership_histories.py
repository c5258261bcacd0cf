"""Random histories of ownership: a pass never deletes what an independent model of the owner's rule keeps.

The model knows nothing of flags on tags, catalogs or passes: it keeps the chain as a list, and asks the plain
question of the guide for every point: which schedules still want it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import AccessDeniedError
from holdfast.model import tags as names
from holdfast.operations.retention.retention_in_force import confirm, waiting
from tests.retention_play import PassWorld, play_pass, two_policies
from tests.session_world import ACCOUNT, REGION, START

DAY = timedelta(days=1)
KEEPS = {"first": {"D": 3, "W": 2}, "second": {"D": 1}}
OBSOLETE_DAYS = 15


def configuration(*, first_on: bool = True, second_on: bool = True) -> Any:
    weekly = {"time": "07:00", "snapshots": {"days": ["mon"], "keep": KEEPS["first"]["W"]}}
    daily = {"snapshots": {"hours": [7], "keep": KEEPS["first"]["D"]}}
    return two_policies(
        first={"daily": daily, "weekly": weekly, "enabled": first_on},
        second={
            "daily": {"snapshots": {"hours": [7], "keep": KEEPS["second"]["D"]}},
            "enabled": second_on,
        },
        obsolete_snapshots={"mode": "after", "days": OBSOLETE_DAYS},
    )


@dataclass
class Model:
    """The chain as the guide tells it: the day of each point, and the schedules that want it."""

    chain: dict[datetime, set[str]] = field(default_factory=dict)

    def pass_over(self, owner: str, now: datetime, *, readable: bool) -> None:
        settled = [at for at in self.chain if now - at >= DAY]
        if not readable:
            return
        if not owner:
            for at in settled:
                if now >= at + OBSOLETE_DAYS * DAY:
                    del self.chain[at]
            return
        wanted: dict[datetime, set[str]] = {}
        for at in settled:
            wanted[at] = set(self.chain[at])
            for flag, count in KEEPS[owner].items():
                newer = [other for other, flags in self.chain.items() if other > at and flag in flags]
                if flag in wanted[at] and len(newer) >= count:
                    wanted[at].discard(flag)
        for at, flags in wanted.items():
            if flags:
                self.chain[at] = flags
            else:
                del self.chain[at]


EVENTS = st.one_of(
    st.sampled_from(
        ["move first", "move second", "move nowhere", "terminate", "switch first", "switch second"]
    ),
    st.sampled_from(["deny", "allow", "lose catalog"]),
    st.just("quiet"),
)
HISTORIES = st.lists(EVENTS, min_size=5, max_size=30)


@settings(max_examples=60, deadline=None)
@given(HISTORIES)
def test_a_pass_deletes_exactly_what_the_owner_no_longer_keeps(history: list[str]):
    world, model = PassWorld(configuration()), Model()
    instance_id = world.add_instance(tags={"backup": "first"})
    spoke = world.spoke("", ACCOUNT, REGION)
    selected, on = "first", {"first": True, "second": True}
    alive, readable, lost = True, True, False
    _let_obsolete_go(world)
    for number, event in enumerate(history):
        at = START + number * DAY
        word, _, of = event.partition(" ")
        if word == "move" and alive:
            selected = "" if of == "nowhere" else of
            world.retag(instance_id, backup=of)
        elif word == "terminate":
            world.terminate(instance_id)
            alive = False
        elif word == "switch":
            on[of] = not on[of]
            world.configuration = configuration(first_on=on["first"], second_on=on["second"])
        elif word in ("deny", "allow"):
            readable = word == "allow"
            world.closed = {} if readable else {(ACCOUNT, REGION): AccessDeniedError("denied")}
        if alive and selected and on[selected]:
            flags = "DW" if selected == "first" and number % 7 == 1 else "D"
            world.put(instance_id, at, flags, policy=selected)
            model.chain[at] = set(flags)
        if event == "lose catalog":
            world.catalog.point_records.clear()
            lost = True
        if lost and readable:  # The first pass lists again what was lost; the next one judges it.
            play_pass(world, at + timedelta(hours=20))
            lost = False
        play_pass(world, at + timedelta(hours=21))
        model.pass_over(selected if alive else "", at + timedelta(hours=21), readable=readable)
        left = {one.started_at: set(one.tags[names.FLAGS]) for one in spoke.snapshots.values()}
        assert left == model.chain, event


def _let_obsolete_go(world: PassWorld) -> None:
    play_pass(world, START - DAY)
    for found in waiting("obsolete", world.catalog):
        confirm(found, "somebody", world.clock.now(), world.catalog)
