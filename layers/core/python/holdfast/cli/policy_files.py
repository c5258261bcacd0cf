"""Edits of the operator's own YAML: nothing is written that is not exactly the change that was meant.

The edited text is read again with all other files, and the configuration it gives is compared with the one
that was meant, before anything reaches the disk. A file is replaced whole or not at all.
"""

from __future__ import annotations

import codecs
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from holdfast.cli import yaml_text
from holdfast.configuration import load, positions, read
from holdfast.errors import ConfigurationError, ConflictError, NotFoundError
from holdfast.model.configuration import AnyPolicy, Configuration, SchedulePolicy, SlaPolicy
from holdfast.model.findings import Path as Where
from holdfast.yaml_tree import Position

KINDS: Final[Mapping[str, type[SchedulePolicy | SlaPolicy]]] = {
    "policies": SchedulePolicy,
    "sla_policies": SlaPolicy,
}
"""Policies by the section in which they stand."""
_BOM: Final = codecs.BOM_UTF8
_BY_HAND: Final = "Edit it by hand, and check it with `holdfast config validate`."


@dataclass(frozen=True, slots=True)
class Place:
    """Where a policy stands: its file, and its section and number in that file."""

    file: Path
    section: str
    number: int

    @property
    def path(self) -> Where:
        return self.section, self.number


@dataclass(frozen=True, slots=True)
class _Content:
    """A file as it was read."""

    content: bytes

    @property
    def marked(self) -> bool:
        """Whether it begins with a byte order mark, which is kept."""
        return self.content.startswith(_BOM)


@dataclass(frozen=True, slots=True)
class PolicyFiles:
    """The operator's files as they are now; ``texts`` holds those that were looked at."""

    directory: Path
    configuration: Configuration
    positions: Mapping[Where, Position]
    texts: dict[Path, _Content] = field(default_factory=dict)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Raises ConfigurationError for a configuration that is not valid."""
        return cls(directory, load(directory), positions(directory))

    def text(self, file: Path) -> str:
        """What is in a file, without a byte order mark; nothing when there is none yet."""
        found = self.texts.setdefault(file, _Content(_read(file)))
        return found.content.removeprefix(_BOM).decode()

    def policies(self, section: str) -> tuple[AnyPolicy, ...]:
        """The policies of one section, in the order of files and lines."""
        return self.configuration.policies if section == "policies" else self.configuration.sla_policies

    def section_of(self, name: str) -> str:
        """The section of a policy. Raises NotFoundError."""
        for section in KINDS:
            if any(policy.name == name for policy in self.policies(section)):
                return section
        known = ", ".join(policy.name for section in KINDS for policy in self.policies(section)) or "none"
        raise NotFoundError(
            f"There is no policy {name!r} in {self.directory}.", remedy=f"The files there have: {known}."
        )

    def place(self, name: str) -> Place:
        """Where a policy stands. Raises NotFoundError."""
        section = self.section_of(name)
        index = [policy.name for policy in self.policies(section)].index(name)
        file = self.positions[section, index].file
        return Place(Path(file), section, index - self._in_files(section).index(file))

    def last_file(self, section: str) -> Path:
        """The file in which a section ends; where there is none: policies.yaml."""
        if (section,) not in self.positions:
            return self.directory / "policies.yaml"
        return Path((self._in_files(section) or [self.positions[section,].file])[-1])

    def _in_files(self, section: str) -> list[str]:
        """The file of each policy of a section, in their order."""
        return [self.positions[section, index].file for index in range(len(self.policies(section)))]


def _read(file: Path) -> bytes:
    """What is in a file; nothing when there is none yet."""
    return file.read_bytes() if file.exists() else b""


def write(files: PolicyFiles, edited: Mapping[Path, str], meant: Configuration) -> None:
    """Write edited texts if they give what is ``meant``. Raises ConfigurationError, ConflictError."""
    contents = {
        file: (_BOM if files.texts[file].marked else b"") + text.encode() for file, text in edited.items()
    }
    configuration, remarks = read(files.directory, instead=contents)
    if configuration is None:
        errors = "\n".join(
            f"{remark.message}{f' ({remark.suggestion})' if remark.suggestion else ''}"
            for remark in remarks
            if not remark.warning
        )
        raise ConfigurationError(
            f"The configuration would not be valid after that:\n{errors}",
            resource=str(files.directory),
            remedy="Nothing was written.",
        )
    if configuration != meant:
        raise ConfigurationError(
            "The file is written in a way that this edit does not understand; nothing was written.",
            resource=", ".join(map(str, edited)),
            remedy=_BY_HAND,
        )
    for file, content in contents.items():
        if _read(file) != files.texts[file].content:
            raise ConflictError(
                "Somebody changed the file meanwhile.", resource=str(file), remedy="Try it again."
            )
        _replace(file, content)


def _replace(file: Path, content: bytes) -> None:
    """Replace a file whole, keeping its mode; a link stays a link."""
    target = Path(os.path.realpath(file))
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(target.stat().st_mode & 0o777 if target.exists() else 0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def with_policies(
    configuration: Configuration, section: str, policies: tuple[AnyPolicy, ...]
) -> Configuration:
    """The configuration with other policies in one section."""
    return configuration.model_copy(update={section: policies})


def set_priorities(files: PolicyFiles, section: str, numbers: Mapping[str, int]) -> None:
    """Write new priorities of policies of one section."""
    edited: dict[Path, str] = {}
    for name, number in numbers.items():
        place = files.place(name)
        text = edited.get(place.file) or files.text(place.file)
        edited[place.file] = yaml_text.set_value(text, place.path, "priority", number, after="name")
    changed = tuple(
        policy.model_copy(update={"priority": numbers.get(policy.name, policy.priority)})
        for policy in files.policies(section)
    )
    write(files, edited, with_policies(files.configuration, section, changed))


def add_policy(files: PolicyFiles, section: str, body: Mapping[str, object], policy: AnyPolicy) -> Path:
    """Write a policy behind the last one of its kind; returns the file."""
    file = files.last_file(section)
    text = files.text(file)
    there = list(files.policies(section))
    if (section,) in files.positions:
        edited = yaml_text.append(text, (section,), body)
    else:
        edited = yaml_text.add_section(text, section, body)
    meant = with_policies(files.configuration, section, (*there, policy))
    write(files, {file: edited}, meant)
    return file


def remove_policy(files: PolicyFiles, name: str) -> Path:
    """Take a policy out of its file; returns the file."""
    place = files.place(name)
    edited = yaml_text.remove(files.text(place.file), (place.section,), place.number)
    left = tuple(policy for policy in files.policies(place.section) if policy.name != name)
    write(files, {place.file: edited}, with_policies(files.configuration, place.section, left))
    return place.file


def add_instance(files: PolicyFiles, name: str, instance_id: str) -> Path:
    """List an instance in the selection of a policy; returns the file."""
    place = files.place(name)
    changed: list[AnyPolicy] = []
    edited = files.text(place.file)
    for policy in files.policies(place.section):
        if policy.name == name:
            edited = _with_instance(edited, place, policy, instance_id)
            instances = (*policy.selection.instances, instance_id)
            selection = policy.selection.model_copy(update={"instances": instances})
            policy = policy.model_copy(update={"selection": selection})
        changed.append(policy)
    write(files, {place.file: edited}, with_policies(files.configuration, place.section, tuple(changed)))
    return place.file


def _with_instance(text: str, place: Place, policy: AnyPolicy, instance_id: str) -> str:
    selection = (*place.path, "selection")
    if policy.selection.instances:
        return yaml_text.append(text, (*selection, "instances"), instance_id)
    return yaml_text.set_value(text, selection, "instances", [instance_id], after="")
