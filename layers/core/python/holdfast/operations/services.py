"""What an operation is given: the ports of the world around it.

`bootstrap.Services` is the real one; tests give their own. Operations take nothing from anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from holdfast.model.configuration import Configuration
    from holdfast.ports import (
        Catalog,
        Clock,
        Executions,
        IdSource,
        Notifier,
        OrganizationTree,
        RestoreSite,
        SnapshotCopier,
        SnapshotReader,
        SnapshotWriter,
        Spoke,
        WorkLists,
    )
    from holdfast.repository.repository import Repository
    from holdfast.settings import Settings


class Services(Protocol):
    """Attributes are made at first use: an operation pays for what it touches."""

    @property
    def clock(self) -> Clock: ...

    @property
    def ids(self) -> IdSource: ...

    @property
    def settings(self) -> Settings: ...

    @property
    def configuration(self) -> Configuration: ...

    @property
    def catalog(self) -> Catalog: ...

    @property
    def work(self) -> WorkLists: ...

    @property
    def notifier(self) -> Notifier: ...

    @property
    def remaining(self) -> Callable[[], float]:
        """Seconds until the platform stops this invocation."""
        ...

    def executions(self, region: str) -> Executions:
        """Step Functions in a Region of the backup account."""
        ...

    def organization(self, name: str) -> OrganizationTree:
        """The Organization of that name, under its management role."""
        ...

    def spoke(self, policy: str, account: str, region: str) -> Spoke:
        """EC2 of a protected account, under the backup role that the policy uses there."""
        ...

    def reader(self, policy: str, account: str, region: str) -> SnapshotReader:
        """EBS direct reads of a protected account, under the same role."""
        ...

    def repository(self, name: str, *, create: bool = False) -> Repository:
        """The repository of that name, opened. With ``create``, one that never was is made and claimed.

        Raises ConflictError when another installation owns it, KeyUnavailableError, DamagedError.
        """
        ...

    def count(self, metrics: Mapping[str, float], *, policy: str) -> None:
        """Publish metrics with the policy as their only dimension (a dimension per instance costs money)."""
        ...


class OnDemandServices(Services, Protocol):
    """What operations need that a person asks for: accounts by number, roles from the configuration."""

    def spoke_in(self, account: str, region: str, role: str = "") -> Spoke:
        """EC2 of an account under its backup role, or the one that ``role`` names."""
        ...

    def work_of(self, region: str) -> WorkLists:
        """The lists of executions in the cell of a Region."""
        ...

    def snapshot_copier(self, account: str, region: str, role: str = "") -> SnapshotCopier:
        """Copies of snapshots, under the same role."""
        ...


class RestoreServices(Services, Protocol):
    """What a restore needs: the target account under its restore role."""

    def restore_spoke(self, account: str, region: str) -> Spoke:
        """Snapshots of the target account."""
        ...

    def restore_site(self, account: str, region: str) -> RestoreSite:
        """Volumes, images and instances of the target account."""
        ...

    def snapshot_writer(self, account: str, region: str) -> SnapshotWriter:
        """EBS direct writes in the target account."""
        ...
