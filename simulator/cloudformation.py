"""CloudFormation over moto: every type is known or refused, and an update does what the service does.

moto skips types it does not know and updates only what changed by its own text. Here a stack that could not
be built whole is an error, and what refers to a changed resource is brought up to date with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import moto.cloudformation.models as models
import moto.cloudformation.parsing as parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import Stack
from moto.cloudformation.parsing import ResourceMap

from simulator import change_sets, repairs, resources, stacksets
from simulator.patches import Patches

_LOADED = (resources, stacksets)  # imported for the types they define
_MOST_RESOURCES = 500  # quota of a template
_SUBSTITUTED = re.compile(r"\$\{([^!}][^}]*)\}")


def install(patches: Patches) -> None:
    """Patch moto's CloudFormation while a simulator is open."""
    for cached in (parsing.get_model_list, parsing.get_model_map, parsing.get_name_type_map):
        cached.cache_clear()
    repairs.install(patches)
    known = parsing.resource_class_from_type

    def resource_class(resource_type: str) -> Any:
        found = None if resource_type.startswith("Custom::") else known(resource_type)
        if found is None:
            raise ValidationError(message=f"the simulator has no resource type {resource_type}")
        return found

    patches.set(parsing, "resource_class_from_type", resource_class)
    patches.set(parsing, "clean_json", _without_no_value(parsing.clean_json))
    patches.set(ResourceMap, "update", _update)
    patches.set(ResourceMap, "delete", _delete)
    patches.set(Stack, "parse_template", staticmethod(_parser(Stack.parse_template)))
    create = patches.set(models.Stack, "create_resources", lambda stack: _create(stack, create))
    change_sets.install(patches, take_back)


def _parser(original: Any) -> Any:
    def parse(template: str) -> dict[str, Any]:
        parsed: dict[str, Any]
        if isinstance(template, str) and template.lstrip().startswith("{"):
            parsed = json.loads(template)
        else:
            parsed = original(template)
        if len(parsed.get("Resources", {})) > _MOST_RESOURCES:
            raise ValidationError(message=f"a template holds at most {_MOST_RESOURCES} resources")
        return parsed

    return parse


def _without_no_value(resolve: Any) -> Any:
    """Resolution of intrinsics in which AWS::NoValue also vanishes from lists."""

    def resolved(value: Any, resources_map: ResourceMap) -> Any:
        if isinstance(value, list):
            found = [(item, resolved(item, resources_map)) for item in value]
            return [result for item, result in found if result is not None or item is None]
        return resolve(value, resources_map)

    return resolved


def _create(stack: Stack, create: Any) -> None:
    """Create a stack's resources, or nothing: what was made before a failure is taken back."""
    try:
        _refuse_unknown(stack.template_dict)
        create(stack)
    except Exception as error:
        stack.status = "ROLLBACK_COMPLETE"
        take_back(stack.resource_map)
        cloudformation = models.cloudformation_backends[stack.account_id][stack.region_name]
        cloudformation.stacks.pop(stack.stack_id, None)
        raise ValidationError(message=_reason(error)) from error


def _reason(error: Exception) -> str:
    """What went wrong, in the words of whoever refused."""
    message = getattr(error, "message", "") or str(error)
    return f"{type(error).__name__}: {message}"


def _refuse_unknown(template: Mapping[str, Any]) -> None:
    types = {resource["Type"] for resource in template.get("Resources", {}).values()}
    unknown = sorted(types - set(parsing.get_model_map()) - set(parsing.NULL_MODELS))
    if unknown:
        raise ValidationError(message=f"the simulator has no resource type {', '.join(unknown)}")


def references(value: Any) -> Iterator[str]:
    """Logical names and parameters that a part of a template refers to."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "Ref" and isinstance(item, str):
                yield item
            elif key == "Fn::GetAtt":
                yield item[0] if isinstance(item, list) else item.split(".")[0]
            elif key == "Fn::Sub":
                text, own = item if isinstance(item, list) else (item, {})
                yield from (name.split(".")[0] for name in _SUBSTITUTED.findall(text) if name not in own)
                yield from references(own)
            elif key == "DependsOn":
                yield from [item] if isinstance(item, str) else item
            else:
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def in_order(definitions: Mapping[str, Any]) -> list[str]:
    """Logical names, each after those it refers to. Raises ValidationError for a circle."""
    needs = {
        name: {other for other in references(body) if other in definitions}
        for name, body in definitions.items()
    }
    order: list[str] = []
    while needs:
        ready = sorted(name for name, others in needs.items() if others <= set(order))
        if not ready:
            raise ValidationError(message=f"circular dependency between resources: {sorted(needs)}")
        order += ready
        for name in ready:
            del needs[name]
    return order


def _update(self: ResourceMap, template: dict[str, Any], parameters: dict[str, Any] | None = None) -> None:
    """Add and change in the order of references, then remove what the template no longer has."""
    _refuse_unknown(template)
    backend = models.cloudformation_backends[self._account_id][self._region_name]
    old, old_parameters, before = (
        self._resource_json_map,
        dict(self.resolved_parameters),
        dict(self._parsed_resources),
    )
    self.cross_stack_resources = backend.exports
    self._template, self._resource_json_map = template, template["Resources"]
    if parameters:
        self.input_parameters = _kept(template, parameters, self.input_parameters, old_parameters)
    self.load_mapping()
    self.load_parameters()
    self.load_conditions()
    touched = {name for name, value in self.resolved_parameters.items() if old_parameters.get(name) != value}
    for name in in_order(self._resource_json_map):
        body = self._resource_json_map[name]
        wanted = _is_wanted(self, body)
        exists = before.get(name) is not None and name in old
        replaced = exists and old[name]["Type"] != body["Type"]
        if not wanted:
            if exists:
                _remove(self, name, old[name])
            continue
        if not exists or replaced:
            if replaced:
                _remove(self, name, old[name])
            self._parsed_resources.pop(name, None)
            _ = self[name]
            touched.add(name)
        elif old[name] != body or touched & set(references(body)) or "Fn::ImportValue" in json.dumps(body):
            _change(self, name, body)
            touched.add(name)
    for name in reversed([name for name in old if name not in self._resource_json_map]):
        _remove(self, name, old[name])


def _kept(
    template: Mapping[str, Any],
    given: Mapping[str, Any],
    before: Mapping[str, Any],
    resolved: Mapping[str, Any],
) -> dict[str, Any]:
    """Parameters of an update. A name in Parameter Store must stay one, though its value is given."""
    kept = dict(given)
    for name, slot in template.get("Parameters", {}).items():
        if (
            slot["Type"].startswith("AWS::SSM::Parameter::")
            and name in kept
            and kept[name] == resolved.get(name)
        ):
            del kept[name]
            kept |= {name: before[name]} if name in before else {}
    return kept


def _is_wanted(resource_map: ResourceMap, body: Mapping[str, Any]) -> bool:
    return "Condition" not in body or bool(resource_map.lazy_condition_map[body["Condition"]])


def _change(resource_map: ResourceMap, name: str, body: Mapping[str, Any]) -> None:
    """Change in place where the type can, else put a new resource in its place."""
    original = resource_map._parsed_resources[name]
    model = parsing.resource_class_from_type(body["Type"])
    if not hasattr(model.update_from_cloudformation_json, "__isabstractmethod__"):
        resource_map._parsed_resources[name] = parsing.parse_and_update_resource(
            name,
            json.loads(json.dumps(body)),
            resource_map,
            resource_map._account_id,
            resource_map._region_name,
        )
        return
    del resource_map._parsed_resources[name]
    replacement = resource_map[name]
    if replacement is not None and replacement.physical_resource_id != original.physical_resource_id:
        _destroy(resource_map, original, body)


def take_back(resource_map: ResourceMap) -> None:
    """Delete what was made for a stack that could not be completed."""
    made = [name for name in resource_map._resource_json_map if name in resource_map._parsed_resources]
    for name in reversed(made):
        _remove(resource_map, name, resource_map._resource_json_map[name], retained=("Retain",))


def _remove(
    resource_map: ResourceMap,
    name: str,
    body: dict[str, Any],
    *,
    retained: tuple[str, ...] = ("Retain", "RetainExceptOnCreate"),
) -> None:
    """Delete a resource unless its policy of deletion is one of ``retained``."""
    resource = resource_map._parsed_resources.pop(name, None)
    if resource is None or isinstance(resource, str):
        return
    if body.get("DeletionPolicy") in retained:
        return
    _destroy(resource_map, resource, body)


def _destroy(resource_map: ResourceMap, resource: Any, body: dict[str, Any]) -> None:
    """Delete by the model's own method; moto's takes any AttributeError in it for its absence."""
    if isinstance(resource, Stack):
        models.cloudformation_backends[resource.account_id][resource.region_name].delete_stack(
            resource.stack_id
        )
    elif hasattr(resource, "delete"):
        resource.delete(resource_map._account_id, resource_map._region_name)
    else:
        name = getattr(resource, "physical_resource_id", None)
        parsing.parse_and_delete_resource(name, body, resource_map._account_id, resource_map._region_name)


def _delete(self: ResourceMap) -> None:
    """Delete a stack's resources, those that refer to others first."""
    for name in reversed(in_order(self._resource_json_map)):
        _remove(self, name, self._resource_json_map[name])
