"""DescribeInstances, fast and paged by instance: ten thousand instances in seconds instead of a minute.

The answer is written as XML without moto's generic serializer; every field a restore needs must be here.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from xml.sax.saxutils import escape

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instances import Instance
from moto.ec2.responses.instances import InstanceResponse

from simulator.patches import Patches
from simulator.snapshots import page_of

_patches = Patches()


def install(_: Any) -> None:
    """Answer DescribeInstances here."""
    _patches.set(InstanceResponse, "describe_instances", _describe_instances)


def uninstall() -> None:
    """Give moto its own DescribeInstances back."""
    _patches.undo()


def _describe_instances(response: InstanceResponse) -> tuple[int, dict[str, str], str]:
    response.error_on_dryrun()
    backend, wanted = response.ec2_backend, response._get_param("InstanceIds", [])
    if wanted and response._get_param("MaxResults"):
        message = "The parameter instancesSet cannot be used with the parameter maxResults"
        raise EC2ClientError("InvalidParameterCombination", message)
    everything = [(r, i) for r in list(backend.reservations.values()) for i in r.instances]
    if wanted:
        by_id = {instance.id: (reservation, instance) for reservation, instance in everything}
        if missing := [instance_id for instance_id in wanted if instance_id not in by_id]:
            text = f"The instance ID '{', '.join(missing)}' does not exist"
            raise EC2ClientError("InvalidInstanceID.NotFound", text)
        everything = [by_id[instance_id] for instance_id in wanted]
    filters: dict[str, Any] = response._filters_from_querystring()
    tests = [_test(name, values) for name, values in filters.items()]
    chosen = [pair for pair in everything if all(test(pair[1]) for test in tests)]
    page, following = page_of(response, chosen)
    items = "".join(_reservation(reservation, instance) for reservation, instance in page)
    token = f"<nextToken>{escape(following)}</nextToken>" if following else ""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>simulated</requestId>'
        f"<reservationSet>{items}</reservationSet>{token}</DescribeInstancesResponse>"
    )
    return 200, {"Content-Type": "text/xml"}, body


_ATTRIBUTES: dict[str, Callable[[Instance], Any]] = {
    "architecture": lambda i: i.architecture,
    "availability-zone": lambda i: i.placement.zone,
    "iam-instance-profile.arn": lambda i: profile.arn if (profile := _profile(i)) else None,
    "image-id": lambda i: i.image_id,
    "instance-id": lambda i: i.id,
    "instance-state-code": lambda i: str(i.state_code),
    "instance-state-name": lambda i: i.state,
    "instance-type": lambda i: i.instance_type,
    "instance.group-id": lambda i: [group.id for group in i.security_groups],
    "instance.group-name": lambda i: [group.name for group in i.security_groups],
    "block-device-mapping.volume-id": lambda i: [m.volume_id for _, m in i.get_block_device_mapping],
    "key-name": lambda i: i.key_name,
    "owner-id": lambda i: i.owner_id,
    "platform": lambda i: i.platform,
    "private-ip-address": lambda i: i.private_ip,
    "private-dns-name": lambda i: i.private_dns_name,
    "ip-address": lambda i: i.public_ip,
    "root-device-name": lambda i: i.root_device_name,
    "root-device-type": lambda i: i.root_device_type,
    "subnet-id": lambda i: i.subnet_id,
    "vpc-id": lambda i: i.vpc_id,
    "client-token": lambda i: i.client_token,
    "tag-key": lambda i: list(_tags(i)),
    "tag-value": lambda i: list(_tags(i).values()),
}


def _test(name: str, values: list[str]) -> Callable[[Instance], bool]:
    patterns = [re.compile(fnmatch.translate(value)) for value in values]
    read = _ATTRIBUTES.get(name)
    if name.startswith("tag:"):
        key = name.removeprefix("tag:")
        read = lambda instance: _tags(instance).get(key)  # noqa: E731 the other readers are of this shape
    if read is None:
        raise EC2ClientError("InvalidParameterValue", f"The filter '{name}' is invalid")

    def matches(instance: Instance) -> bool:
        value = read(instance)
        found = value if isinstance(value, list) else [value]
        return any(pattern.match(str(one)) for one in found if one is not None for pattern in patterns)

    return matches


def _tags(instance: Instance) -> dict[str, str]:
    tags: dict[str, str] = instance.ec2_backend.tags.get(instance.id, {})
    return tags


def _profile(instance: Instance) -> Any:
    association = instance.ec2_backend.iam_instance_profile_associations.get(instance.id)
    return association.iam_instance_profile if association else None


def _element(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, datetime):
        value = value.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return f"<{name}>{escape(str(value))}</{name}>"


def _elements(**fields: Any) -> str:
    return "".join(_element(name, value) for name, value in fields.items())


def _set(name: str, items: Iterator[str] | list[str]) -> str:
    return f"<{name}>{''.join(f'<item>{item}</item>' for item in items)}</{name}>"


def _groups(groups: list[Any]) -> str:
    return _set("groupSet", [_elements(groupId=group.id, groupName=group.name) for group in groups])


def _reservation(reservation: Any, instance: Instance) -> str:
    head = _elements(reservationId=reservation.id, ownerId=instance.owner_id)
    return f"<item>{head}<groupSet/>{_set('instancesSet', [_instance(instance)])}</item>"


def _instance(instance: Instance) -> str:
    alive = instance.state != "terminated"
    placement = instance.placement
    profile = _profile(instance)
    image = instance.ec2_backend.amis.get(instance.image_id)
    windows = instance.platform == "windows"
    parts = [
        _elements(instanceId=instance.id, imageId=instance.image_id),
        f"<instanceState>{_elements(code=instance.state_code, name=instance.state)}</instanceState>",
        _elements(
            privateDnsName=instance.private_dns_name if alive else "",
            dnsName=(instance.public_dns_name or "") if alive else "",
            reason=instance._reason,
            keyName=instance.key_name,
            amiLaunchIndex=instance.ami_launch_index,
        ),
        _set(
            "productCodes",
            [_elements(productCode=code, type="marketplace") for code in instance.product_codes],
        ),
        _elements(instanceType=instance.instance_type, launchTime=instance.launch_time),
        "<placement>"
        + _elements(
            availabilityZone=placement.zone,
            groupName=placement.group_name,
            tenancy=placement.tenancy,
            hostId=placement.host_id,
        )
        + "</placement>",
        _elements(
            platform=instance.platform,
            platformDetails="Windows" if windows else "Linux/UNIX",
            usageOperation="RunInstances:0002" if windows else "RunInstances",
        ),
        f"<monitoring>{_element('state', instance.monitoring_state)}</monitoring>",
        _network(instance) if alive else "",
        _elements(sourceDestCheck=instance.source_dest_check, architecture=instance.architecture),
        _elements(
            rootDeviceType=instance.root_device_type,
            rootDeviceName=instance.root_device_name,
            virtualizationType=instance.virtualization_type or "hvm",
            clientToken=instance.client_token,
            hypervisor=instance.hypervisor,
            ebsOptimized=bool(instance.ebs_optimized),
            enaSupport=getattr(image, "ena_support", True),
            bootMode=getattr(image, "boot_mode", None),
            instanceLifecycle=instance.lifecycle,
        ),
        _set("blockDeviceMapping", _mappings(instance)),
        _set("tagSet", [_elements(key=key, value=value) for key, value in _tags(instance).items()]),
        f"<iamInstanceProfile>{_elements(arn=profile.arn, id=profile.id)}</iamInstanceProfile>"
        if profile
        else "",
        _options(instance),
    ]
    if instance.state_reason.code:
        reason = _elements(code=instance.state_reason.code, message=instance.state_reason.message)
        parts.append(f"<stateReason>{reason}</stateReason>")
    return "".join(parts)


def _network(instance: Instance) -> str:
    return "".join(
        (
            _elements(
                subnetId=instance.subnet_id,
                vpcId=instance.vpc_id,
                privateIpAddress=instance.private_ip,
                ipAddress=instance.public_ip,
            ),
            _groups(instance.security_groups or (instance.nics[0].group_set if instance.nics else [])),
            _set("networkInterfaceSet", [_interface(nic) for nic in instance.nics.values()]),
        )
    )


def _interface(nic: Any) -> str:
    attachment = _elements(
        attachmentId=nic.attachment_id,
        deviceIndex=nic.device_index,
        status="attached",
        attachTime=nic.attach_time,
        deleteOnTermination=bool(nic.delete_on_termination),
        networkCardIndex=0,
    )
    addresses = [
        _elements(
            privateIpAddress=address.get("PrivateIpAddress"),
            primary=bool(address.get("Primary") or address.get("PrivateIpAddress") == nic.private_ip_address),
        )
        for address in nic.private_ip_addresses
    ]
    association = _elements(**nic.association)
    return "".join(
        (
            _elements(
                networkInterfaceId=nic.id,
                subnetId=nic.subnet_id,
                vpcId=nic.vpc_id,
                description=nic.description,
                ownerId=nic.owner_id,
                status=nic.status,
                macAddress=nic.mac_address,
                privateIpAddress=nic.private_ip_address,
                privateDnsName=getattr(nic, "private_dns_name", None),
                sourceDestCheck=nic.source_dest_check,
                interfaceType=nic.interface_type,
            ),
            _groups(nic.group_set),
            f"<attachment>{attachment}</attachment>",
            f"<association>{association}</association>" if association else "",
            _set("privateIpAddressesSet", addresses),
            _set("ipv6AddressesSet", [_element("ipv6Address", address) for address in nic.ipv6_addresses]),
        )
    )


def _mappings(instance: Instance) -> Iterator[str]:
    for device, mapping in instance.get_block_device_mapping:
        ebs = _elements(
            volumeId=mapping.volume_id,
            status="attached",
            attachTime=mapping.attach_time,
            deleteOnTermination=bool(mapping.delete_on_termination),
        )
        yield f"{_element('deviceName', device)}<ebs>{ebs}</ebs>"


def _options(instance: Instance) -> str:
    metadata = instance.metadata_options
    options = _elements(
        state=metadata.state,
        httpTokens=metadata.http_tokens,
        httpPutResponseHopLimit=metadata.http_put_response_hop_limit,
        httpEndpoint=metadata.http_endpoint,
        httpProtocolIpv6=metadata.http_protocol_ipv6,
        instanceMetadataTags=metadata.instance_metadata_tags,
    )
    hibernates = bool((instance.hibernation_options or {}).get("Configured"))
    return (
        f"<metadataOptions>{options}</metadataOptions>"
        f"<hibernationOptions>{_element('configured', hibernates)}</hibernationOptions>"
        "<cpuOptions><coreCount>1</coreCount><threadsPerCore>2</threadsPerCore></cpuOptions>"
        "<capacityReservationSpecification><capacityReservationPreference>open</capacityReservationPreference>"
        "</capacityReservationSpecification><enclaveOptions><enabled>false</enabled></enclaveOptions>"
        "<maintenanceOptions><autoRecovery>default</autoRecovery></maintenanceOptions>"
    )
