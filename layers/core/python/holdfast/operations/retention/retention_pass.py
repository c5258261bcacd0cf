"""What the steps of a retention pass hand to each other, and what a pass leaves behind.

A pass is one execution of the retention machine; its record lies beside those of sessions. Names of parts
follow from pass, account, Region and cursor: a repeated step writes over its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from holdfast.model.session import Problem
from holdfast.ports import Catalog

MOST_PROBLEMS: Final = 100
"""Problems that one account and Region leaves in the record of a pass."""
OWNERSHIP: Final = "ownership"
"""The session whose parts say under which policy instances stood when they were last looked at."""


class Pass(BaseModel):
    """The machine's event. ``policy``: only instances that this policy owns; empty: everything."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pass_id: str = Field(min_length=1, max_length=120)
    policy: str = ""

    @property
    def prefix(self) -> str:
        return f"sessions/{self.pass_id}"

    @property
    def plan_key(self) -> str:
        return f"{self.prefix}/plan.json"

    @property
    def items_key(self) -> str:
        return f"{self.prefix}/places.json"

    def known_key(self, account: str, region: str) -> str:
        """The list of chains that the catalog knows in one place."""
        return f"{self.prefix}/{account}/{region}/known.json"


class PlaceDone(BaseModel):
    """What was done in one account and Region, or in a share of it. ``held``: points by policy that only a
    retention removes which nobody has confirmed.
    """

    model_config = ConfigDict(extra="ignore")

    instances: int = 0
    kept: int = 0
    removed: int = 0
    obsolete: int = 0
    recovered: int = 0
    held: dict[str, int] = Field(default_factory=dict)
    problems: list[Problem] = Field(default_factory=list)
    more: int = 0

    def write(
        self, done: Pass, account: str, region: str, cursor: str, catalog: Catalog, at: datetime
    ) -> None:
        """Leave this for the end of the pass."""
        body = self.model_dump(mode="json") | {
            "problems": [one.model_dump(mode="json") for one in self.problems[:MOST_PROBLEMS]],
            "more": max(0, len(self.problems) - MOST_PROBLEMS),
        }
        catalog.write_part(done.pass_id, f"place/{account}/{region}/{cursor}", body, at=at)


def write_owners(
    account: str, region: str, owners: Mapping[str, str], catalog: Catalog, at: datetime
) -> None:
    """Remember the policy under which each instance of a place stands."""
    catalog.write_part(OWNERSHIP, f"place/{account}/{region}", {"owners": dict(owners)}, at=at)


def read_owners(account: str, region: str, catalog: Catalog) -> dict[str, str]:
    """Policies by instance, as a pass has last seen one place."""
    return _owners(catalog.read_part(OWNERSHIP, f"place/{account}/{region}"))


def all_owners(catalog: Catalog) -> dict[str, str]:
    """Policies by instance, as passes have last seen every place."""
    found: dict[str, str] = {}
    for _, body in catalog.parts(OWNERSHIP, "place/"):
        found |= _owners(body)
    return found


def _owners(body: Mapping[str, Any] | None) -> dict[str, str]:
    return dict(body["owners"]) if body else {}
