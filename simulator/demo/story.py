"""The demonstration from the first schedule to the proof.

Whatever is claimed is compared: the SHA-256 of each disk image as the guest had it when a snapshot was taken
with that of the volume restored from the restore point.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from simulator.demo.scene import GIB, OFFICE, REGION, Disk, Scene
from simulator.demo.terminal import Terminal

FIRST_SLOT, SECOND_SLOT = "2026-11-02T08:00:00", "2026-11-03T08:00:00"
ZONE = f"{REGION}a"


@dataclass(frozen=True)
class Proof:
    """One restored volume beside its source."""

    instance: str
    device: str
    size_bytes: int
    restore_point: str
    kind: str
    how: str
    source_sha256: str
    restored_sha256: str

    @property
    def holds(self) -> bool:
        return self.source_sha256 == self.restored_sha256

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def volume_digest(image: Path, size_gib: int) -> str:
    """SHA-256 of an image as a volume of ``size_gib`` holds it: zeros behind its end."""
    digest, length = hashlib.sha256(), 0
    with image.open("rb") as file:
        while chunk := file.read(4 << 20):
            digest.update(chunk)
            length += len(chunk)
    rest, zeros = size_gib * GIB - length, bytes(1 << 20)
    while rest > 0:
        digest.update(zeros[: min(rest, len(zeros))])
        rest -= len(zeros)
    return digest.hexdigest()


@dataclass
class Story:
    """One run of it. ``before`` counts requests of the preparation; ``totals`` bytes that sessions moved."""

    scene: Scene
    terminal: Terminal
    before: Counter[str] = field(default_factory=Counter)
    totals: dict[str, int] = field(default_factory=lambda: {"bytes_read": 0, "bytes_stored": 0})

    def tell(self) -> list[Proof]:
        """Run everything; returns what was compared."""
        self._deploy()
        first = self._slot("The schedule fires: full image-level backups", FIRST_SLOT)
        self._guests_write()
        second = self._slot("The next slot: incrementals by changed block tracking", SECOND_SLOT)
        self._mails()
        points = self._points()
        proofs = [
            *self._restore_volumes(points, "full", first),
            *self._restore_volumes(points, "incremental", second),
            *self._restore_instance(points, second),
        ]
        if not self.scene.own_images:
            proofs += self._restore_offline(points, second)
        self._check()
        self._coverage(points)
        return proofs

    def _deploy(self) -> None:
        self.terminal.chapter("Deploy: the synthesized CDK templates into a simulated Organization")
        self.terminal.run(
            "simulate", "init", str(self.scene.aws), "--world", str(self.scene.world), show=True
        )
        self.terminal.run("simulate", "deploy", "--config", str(self.scene.configuration))
        self.before = Counter(self.terminal.run("simulate", "requests")["requests"])

    def _slot(self, title: str, until: str) -> dict[str, str]:
        self.terminal.chapter(title)
        digests = {key(disk): volume_digest(disk.image, disk.size_gib) for disk in self.scene.disks}
        self.terminal.run("simulate", "clock", "--until", until)
        for session in self.terminal.run("session", "list", "--days", "1"):
            for name in self.totals:
                self.totals[name] += session[name]
            shown = self.terminal.run("session", "show", session["session_id"], expect=(0, 1, 3))
            self.terminal.say(f"  session {shown['session_id']}: {shown['state']}")
            for one in shown["instances"]:
                made = "full" if one["full"] else "incremental"
                self.terminal.say(
                    f"    {one['instance_name']:8} {one['state']:8} {made:11} "
                    f"read {one['bytes_read'] / 1e6:8.1f} MB, stored {one['bytes_stored'] / 1e6:8.1f} MB"
                )
                for problem in one["problems"]:
                    self.terminal.say(f"      {problem['code']}: {problem['message']} {problem['remedy']}")
        return digests

    def _guests_write(self) -> None:
        self.terminal.chapter("Guests write")
        volumes = self._volumes()
        for disk in self.scene.disks:
            if disk.write is None:
                continue
            disk.write(disk.image)
            volume_id = next(v["volume_id"] for v in volumes if f"{v['name']} {v['device']}" == key(disk))
            written = self.terminal.run("simulate", "write", volume_id, str(disk.image))
            self.terminal.say(
                f"  {disk.instance} {disk.device} ({disk.what}): {written['blocks_written']} blocks changed"
            )

    def _mails(self) -> None:
        self.terminal.chapter("The mails, as they were rendered")
        for mail in self.terminal.run("simulate", "mail"):
            self.terminal.say(f"Subject: {mail['subject']}\n{mail['body']}")

    def _volumes(self, *options: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.terminal.run("simulate", "volumes", *options)
        return found

    def _points(self) -> list[dict[str, Any]]:
        instances = {v["instance_id"]: v["name"] for v in self._volumes() if v["instance_id"]}
        return [
            {**point, "instance": name}
            for instance_id, name in sorted(instances.items(), key=lambda item: item[1])
            for point in self.terminal.run("points", "list", "--instance", instance_id, "--kind", "backup")
        ]

    def _restore_volumes(
        self, points: list[dict[str, Any]], kind: str, digests: dict[str, str]
    ) -> Iterator[Proof]:
        self.terminal.chapter(f"Restore volumes: {kind} restore points")
        for point in points:
            if ("full" if point["full"] else "incremental") != kind:
                continue
            restored = self.terminal.run(
                "restore", "volume", "--instance", point["instance_id"], "--point", point["point_id"],
                "--availability-zone", ZONE, "--yes",
            )  # fmt: skip
            yield from self._compare(point, restored, kind, "volume", digests)

    def _restore_instance(self, points: list[dict[str, Any]], digests: dict[str, str]) -> Iterator[Proof]:
        self.terminal.chapter("Restore an instance to a new location")
        point = max((p for p in points if p["instance"] != "files"), key=lambda p: p["taken_at"])
        restored = self.terminal.run(
            "restore", "instance", "--instance", point["instance_id"], "--point", point["point_id"],
            "--name", f"{point['instance']}-restored", "--instance-type", "m7i.large", "--yes",
        )  # fmt: skip
        self.terminal.say(f"  {point['instance']} runs again as {restored['instance_id']}")
        yield from self._compare(point, restored, "incremental", "instance", digests)

    def _compare(
        self, point: dict[str, Any], restored: dict[str, Any], kind: str, how: str, digests: dict[str, str]
    ) -> Iterator[Proof]:
        wanted = [word for v in restored["volumes"] for word in ("--digest", v["volume_id"])]
        volumes = {v["volume_id"]: v for v in self._volumes(*wanted)}
        for volume in restored["volumes"]:
            device, found = volume["source"]["device"], volumes[volume["volume_id"]]
            proof = Proof(
                point["instance"],
                device,
                found["size_bytes"],
                point["point_id"],
                kind,
                how,
                digests[f"{point['instance']} {device}"],
                found["sha256"],
            )
            verdict = "equal" if proof.holds else "DIFFERENT"
            self.terminal.say(f"  {proof.instance} {device}: {verdict}  {proof.restored_sha256}")
            yield proof

    def _restore_offline(self, points: list[dict[str, Any]], digests: dict[str, str]) -> Iterator[Proof]:
        """From the plain files of the bucket and the password, without any table or function."""
        self.terminal.chapter("Restore a disk image from a copy of the bucket, with the password alone")
        point = next(p for p in reversed(points) if p["account"] == OFFICE)
        image = self.scene.directory / "restored.raw"
        bucket = self.scene.aws / "buckets" / "example-vault" / "vault"
        restored = self.terminal.run(
            "restore", "image", str(image), "--repository", f"file://{bucket}",
            "--instance", point["instance_id"], "--volume", "/dev/xvdf",
            "--password-file", str(self.scene.directory / "password.txt"),
        )  # fmt: skip
        yield Proof(
            point["instance"],
            "/dev/xvdf",
            restored["size_bytes"],
            restored["restore_point"],
            "full" if point["full"] else "incremental",
            "image",
            digests[f"{point['instance']} /dev/xvdf"],
            restored["sha256"],
        )

    def _check(self) -> None:
        self.terminal.chapter("Check: every object, every block")
        for name in ("main",) if self.scene.own_images else ("main", "vault"):
            report = self.terminal.run("repository", "check", "--repository", name, "--read-data")
            self.terminal.say(
                f"  {name}: {report['points']} restore points, {report['maps']} maps, "
                f"{report['packs']} packs, {report['blocks_read']} blocks read and verified"
            )

    def _coverage(self, points: list[dict[str, Any]]) -> None:
        """The ledger of the first day, why an instance is protected, and what a change would do."""
        self.terminal.chapter("Coverage: every instance of every account stands in exactly one place")
        self.terminal.show(
            "coverage", "--date", FIRST_SLOT[:10], "--standing", "not selected", "--output", "table"
        )
        self.terminal.chapter("Explain: which policy, which slots, what retention removes")
        self.terminal.show("explain", points[-1]["instance_id"], "--slots", "3", "--output", "text")
        self.terminal.chapter("Plan: what a shorter retention would do before it is deployed")
        changed = self.scene.directory / "changed"
        shutil.copytree(self.scene.configuration, changed)
        policies = changed / "policies.yaml"
        policies.write_text(policies.read_text().replace("keep: 3", "keep: 1"))
        self.terminal.show("policy", "plan", "--config", str(changed), "--output", "text", expect=(3,))


def key(disk: Disk) -> str:
    """How a disk is called in the proofs."""
    return f"{disk.instance} {disk.device}"
