"""The scene of the demonstration: disks, a world with two protected accounts, and a configuration.

Everything is written as the files that a user would write by hand: to be read, changed and used again.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from simulator.demo import images
from simulator.demo.images import MIB, Partition

BACKUP, MANAGEMENT, SHOP, OFFICE = "111122223333", "999988887777", "222233334444", "333344445555"
REGION = "eu-central-1"
EXTERNAL_ID = "holdfast-demo"
PASSWORD = "correct horse battery staple"
STARTS_AT = "2026-11-02T00:00:00Z"
GIB = 1 << 30


@dataclass
class Disk:
    """A disk of the scene: what it holds now, and how the guest changes it."""

    instance: str
    device: str
    image: Path
    what: str
    account: str
    size_gib: int
    write: Callable[[Path], None] | None = None


@dataclass
class Scene:
    """Where everything lies."""

    directory: Path
    disks: list[Disk] = field(default_factory=list)
    own_images: bool = False

    @property
    def world(self) -> Path:
        return self.directory / "world.yaml"

    @property
    def configuration(self) -> Path:
        return self.directory / "config"

    @property
    def aws(self) -> Path:
        return self.directory / "aws"


def build(directory: Path, own: Sequence[Path], *, say: Callable[[str], None]) -> Scene:
    """Write disks, world and configuration below ``directory``."""
    scene = Scene(directory, own_images=bool(own))
    (directory / "disks").mkdir(parents=True)
    if own:
        scene.disks = [_own_disk(number, path, directory) for number, path in enumerate(own, 1)]
    else:
        scene.disks = _made_disks(directory / "disks", say)
    _write_yaml(scene.world, _world(scene.disks))
    scene.configuration.mkdir()
    for name, content in _configuration(scene).items():
        _write_yaml(scene.configuration / f"{name}.yaml", content)
    (directory / "password.txt").write_text(PASSWORD + "\n")
    return scene


def _own_disk(number: int, path: Path, directory: Path) -> Disk:
    size = path.stat().st_size
    copy = directory / "disks" / f"own{number}.raw"
    with copy.open("wb") as target:
        target.truncate(size)
        images.copy_sparse(path, target.fileno())
    return Disk(f"machine-{number}", "/dev/xvda", copy, path.name, SHOP, max(1, -(-size // GIB)), _touch)


def _touch(image: Path) -> None:
    """A guest that nothing is known of writes a few pages in the middle of its disk."""
    size = image.stat().st_size
    with image.open("r+b") as disk:
        for step in range(1, 9):
            disk.seek(size * step // 10 // 4096 * 4096)
            disk.write(f"written by the guest, place {step}\n".encode().ljust(min(4096, size), b"."))
        disk.truncate(size)


def _made_disks(folder: Path, say: Callable[[str], None]) -> list[Disk]:
    say("ext4 with thousands of files")
    web = folder / "web-root.ext4.raw"
    images.ext4(web, 768 * MIB, seed=1, fill_bytes=90 * MIB)
    say("XFS")
    data = folder / "web-data.xfs.raw"
    images.xfs(data, 512 * MIB, seed=2, fill_bytes=50 * MIB)
    say("NTFS")
    office = folder / "files-data.ntfs.raw"
    images.ntfs(office, 256 * MIB, seed=3, fill_bytes=30 * MIB)
    say("a GPT disk with three partitions")
    boot, home = folder / "boot.ext4.raw", folder / "home.xfs.raw"
    images.ext4(boot, 128 * MIB, seed=4, fill_bytes=16 * MIB)
    images.xfs(home, 320 * MIB, seed=5, fill_bytes=24 * MIB)
    whole = folder / "erp-root.gpt.raw"
    parts = [Partition("boot", boot), Partition("home", home), Partition("shared", office, windows=True)]
    images.gpt(whole, 1024 * MIB, parts, seed=6)
    return [
        Disk(
            "web",
            "/dev/xvda",
            web,
            "ext4",
            SHOP,
            1,
            lambda path: images.write_into_ext4(path, seed=7, fill_bytes=6 * MIB),
        ),
        Disk("web", "/dev/sdf", data, "XFS", SHOP, 1),
        Disk("erp", "/dev/xvda", whole, "GPT: ext4, XFS, NTFS", SHOP, 1, _touch_free_space),
        Disk("files", "/dev/xvdf", office, "NTFS", OFFICE, 1),
    ]


def _touch_free_space(image: Path) -> None:
    """Write behind the last partition: the disk changes and its file systems stay sound."""
    with image.open("r+b") as disk:
        disk.seek(900 * MIB)
        disk.write(b"swap" * 300_000)


def _write_yaml(path: Path, content: Any) -> None:
    stream = io.StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.representer.ignore_aliases = lambda value: True
    writer.dump(content, stream)
    path.write_text(stream.getvalue())


def _world(disks: Sequence[Disk]) -> dict[str, Any]:
    names = list(dict.fromkeys(disk.instance for disk in disks))
    return {
        "backup_account": BACKUP,
        "regions": [REGION],
        "starts_at": STARTS_AT,
        "organization": {
            "management_account": MANAGEMENT,
            "units": [{"name": "Workloads", "units": [{"name": "Production"}]}, {"name": "Security"}],
        },
        "accounts": [
            {"id": MANAGEMENT, "name": "management"},
            {"id": BACKUP, "name": "backup", "unit": "Security"},
            {"id": SHOP, "name": "shop", "unit": "Workloads/Production"},
            {"id": OFFICE, "name": "office", "unit": "Workloads"},
        ],
        "senders": ["backup@example.com"],
        "secrets": [{"name": "holdfast-vault", "account": BACKUP, "region": REGION, "value": PASSWORD}],
        "instances": [
            {
                "name": name,
                "account": next(disk.account for disk in disks if disk.instance == name),
                "region": REGION,
                "platform": "windows" if name == "files" else "linux",
                "tags": {"backup": "daily"},
                "volumes": [
                    {"device": disk.device, "size_gib": disk.size_gib, "image": str(disk.image)}
                    for disk in disks
                    if disk.instance == name
                ],
            }
            for name in names
        ]
        + [
            {  # nobody asked for its backup: the coverage ledger says so
                "name": "scratch",
                "account": SHOP,
                "region": REGION,
                "volumes": [{"device": "/dev/xvda", "size_gib": 1}],
            }
        ],
    }


def _configuration(scene: Scene) -> dict[str, Any]:
    daily = {"snapshots": {"hours": [6], "keep": 3}, "backups": {"hours": [6], "keep": "14 days"}}
    common = {"regions": [REGION], "time_zone": "Europe/Berlin", "daily": daily}
    secret = f"arn:aws:secretsmanager:{REGION}:{BACKUP}:secret:holdfast-vault"
    policies = [
        {
            "name": "organization-daily",
            "description": "Everything tagged backup=daily in the Organization",
            "source": {"organization": "example", "exclude_accounts": [OFFICE]},
            "selection": {"tags": [{"key": "backup", "value": "daily"}]},
            "repository": "main",
            **common,
        }
    ]
    if not scene.own_images:
        policies.append(
            {
                "name": "office-daily",
                "description": "The office account, into a repository with a password",
                "source": {"role": "office"},
                "selection": {"all": True},
                "repository": "vault",
                **common,
            }
        )
    return {
        "settings": {"installation": "holdfast", "backup_account": BACKUP, "hub_region": REGION},
        "organizations": {
            "organizations": [
                {
                    "name": "example",
                    "management_role": f"arn:aws:iam::{MANAGEMENT}:role/HoldfastOrganization",
                    "external_id": EXTERNAL_ID,
                }
            ]
        },
        "roles": {
            "roles": [
                {
                    "name": "office",
                    "arn": f"arn:aws:iam::{OFFICE}:role/HoldfastOffice",
                    "external_id": EXTERNAL_ID,
                }
            ]
        },
        "repositories": {
            "repositories": [
                {
                    "name": "main",
                    "bucket": "example-backups",
                    "region": REGION,
                    "prefix": "main",
                    "encryption": {"kind": "kms"},
                },
                {
                    "name": "vault",
                    "bucket": "example-vault",
                    "region": REGION,
                    "prefix": "vault",
                    "encryption": {"kind": "password", "secret_arn": secret},
                },
            ]
        },
        "policies": {"policies": policies},
        "notifications": {
            "notifications": {
                "sender": "backup@example.com",
                "recipients": ["operator@example.com"],
                "on_success": True,
            }
        },
    }
