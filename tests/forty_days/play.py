"""Plays the forty days: the simulated AWS and the model live through the same events, then are compared."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from datetime import date, datetime, timedelta

from holdfast.bootstrap import Services
from simulator.simulator import Simulator
from tests.forty_days import events, world
from tests.forty_days.ageing import expire_backups, retention_pass
from tests.forty_days.compare import differences, machine_of
from tests.forty_days.ledgers import Ledgers
from tests.forty_days.model import Model


def company(ledgers: Ledgers, starts_at: datetime) -> Model:
    """The company before the first day."""
    machines = {name: machine_of(name, place) for name, place in world.INSTANCES.items()}
    model = Model(deepcopy(world.CONFIGURATION), world.UNITS, dict(world.PLACES), machines, starts_at)

    def at_four(model: Model) -> None:
        expire_backups(model)
        retention_pass(model)
        ledgers.record_coverage(model)

    def at_close(model: Model, policy: dict[str, object], day: date) -> None:
        ledgers.close_day(model, policy, day)
        retention_pass(model, str(policy["name"]))

    model.at_four, model.at_close = at_four, at_close
    return model


def play(
    simulator: Simulator, services: Services, days: int, script: tuple[events.Event, ...]
) -> Iterator[tuple[datetime, list[str]]]:
    """Day by day, its end and everything in which the product and the model differ."""
    simulator.engine.flows = False  # an execution that waits for tomorrow would draw today's events past
    start, ledgers = simulator.clock.now(), Ledgers()
    model = company(ledgers, start)
    for _ in range(days):
        end = start + timedelta(days=1)
        for event in events.between(script, start, end):
            _both_until(event.at, simulator, model)
            event.in_aws(simulator, services)
            event.in_model(model)
        _both_until(end, simulator, model)
        yield end, differences(model, ledgers, simulator, services, start, end)
        start = end


def _both_until(instant: datetime, simulator: Simulator, model: Model) -> None:
    simulator.run_schedules(instant)
    model.advance(instant)
