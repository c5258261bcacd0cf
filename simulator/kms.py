"""KMS keys that refuse: disabled, pending deletion, or with a key policy that does not name the caller.

Everything encrypted in the simulator asks :func:`require_usable`; a key that only looks disabled would hide
every fault that the loss of a key causes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.kms.models import Key, KmsBackend, kms_backends
from moto.kms.responses import KmsResponse
from moto.kms.utils import _deserialize_ciphertext_blob

from simulator.patches import Patches

_patches = Patches()
_USES = ("encrypt", "decrypt", "re_encrypt", "generate_data_key", "generate_data_key_without_plaintext")
_STATES = ("disable_key", "enable_key", "schedule_key_deletion", "cancel_key_deletion")
_OTHERS = ("describe_key", "get_key_policy", "create_grant")


class KeyRefused(JsonRESTError):
    """KMS does not let the key be used; ``error_type`` is KMS's code."""

    code = 400


def find_key(key_id: str, account: str, region: str) -> Key | None:
    """The key that ``account`` means in ``region`` by an id, ARN, alias or alias ARN; None without one."""
    if key_id.startswith("arn:"):
        region, account = key_id.split(":")[3:5]
    backend = kms_backends[account][region]
    return backend.keys.get(backend.any_id_to_key_id(key_id) if _is_known(backend, key_id) else "")


def require_usable(key_id: str, account: str, region: str) -> Key:
    """The key, when ``account`` may use it now. Raises KeyRefused."""
    key = find_key(key_id, account, region)
    if key is None:
        raise KeyRefused("NotFoundException", f"Key '{key_id}' does not exist")
    if key.account_id != account and not _names(key.policy, account):
        raise KeyRefused(
            "AccessDeniedException", f"The key policy of {key.arn} does not allow account {account}"
        )
    if key.key_state == "PendingDeletion":
        raise KeyRefused("KMSInvalidStateException", f"{key.arn} is pending deletion.")
    if key.key_state != "Enabled":
        raise KeyRefused("DisabledException", f"{key.arn} is disabled.")
    return key


def default_ebs_key(account: str, region: str) -> str:
    """The ARN of the AWS managed key ``aws/ebs``, made on first use."""
    backend = kms_backends[account][region]
    key = backend.keys[backend.any_id_to_key_id("alias/aws/ebs")]
    key.key_manager = "AWS"
    return str(key.arn)


def is_default_ebs_key(arn: str) -> bool:
    """Whether ``arn`` is an ``aws/ebs`` key, which no other account may ever use."""
    key = find_key(arn, "", "")
    return key is not None and "alias/aws/ebs" in key.aliases


def share(key: Key, accounts: tuple[str, ...]) -> None:
    """Let other accounts use a key through its key policy."""
    owners = [f"arn:aws:iam::{account}:root" for account in (key.account_id, *accounts)]
    statement = {"Effect": "Allow", "Principal": {"AWS": owners}, "Action": "kms:*", "Resource": "*"}
    key.policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _is_known(backend: Any, key_id: str) -> bool:
    alias = backend.get_alias_name(key_id)
    return not alias.startswith("alias/") or backend.get_key_id_from_alias(alias) is not None


def _names(policy: str | None, account: str) -> bool:
    try:
        statements = json.loads(policy or "{}").get("Statement", [])
    except ValueError:
        return False
    for statement in statements if isinstance(statements, list) else [statements]:
        principal = statement.get("Principal", {})
        named = principal if isinstance(principal, str) else principal.get("AWS", [])
        named = [named] if isinstance(named, str) else named
        if statement.get("Effect") == "Allow" and any(
            name in ("*", account) or f":{account}:" in name for name in named
        ):
            return True
    return False


def _home(response: KmsResponse) -> Any:
    return response.__dict__.get("_home") or kms_backends[response.current_account][response.region]


def _concerned_keys(response: KmsResponse) -> list[str]:
    keys = [key for name in ("KeyId", "DestinationKeyId") if (key := response._get_param(name))]
    blob = response._get_param("CiphertextBlob")
    if blob and not response._get_param("KeyId"):
        keys.insert(0, _key_of_ciphertext(blob, response.current_account, response.region))
    return keys


def _key_of_ciphertext(blob: bytes, account: str, region: str) -> str:
    try:
        key_id = _deserialize_ciphertext_blob(blob).key_id
    except Exception as error:  # any bytes may arrive here
        raise KeyRefused("InvalidCiphertextException", "") from error
    for owner in (account, *list(kms_backends)):
        if key_id in kms_backends[owner][region].keys:
            return str(kms_backends[owner][region].keys[key_id].arn)
    raise KeyRefused("InvalidCiphertextException", "")


def _redirected(original: Callable[[KmsResponse], str], *, uses: bool) -> Callable[[KmsResponse], str]:
    def respond(response: KmsResponse) -> str:
        key_ids = _concerned_keys(response) if uses else [response._get_param("KeyId") or ""]
        keys = [find_key(key_id, response.current_account, response.region) for key_id in key_ids]
        if uses:
            for key_id in key_ids:
                require_usable(key_id, response.current_account, response.region)
        if keys and keys[0] is not None:
            response.__dict__["_home"] = kms_backends[keys[0].account_id][keys[0].region]
        try:
            return original(response)
        finally:
            response.__dict__.pop("_home", None)

    return respond


def _by_any_id(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(backend: Any, key_id: str, *arguments: Any) -> Any:
        return original(backend, backend.any_id_to_key_id(key_id), *arguments)

    return call


def install(_: Any) -> None:
    """Let KMS resolve foreign ARNs and refuse unusable keys."""
    _patches.set(KmsResponse, "kms_backend", property(_home))
    for name in (*_USES, *_OTHERS):
        original = vars(KmsResponse)[name]
        _patches.set(KmsResponse, name, _redirected(original, uses=name in _USES))

    for name in _STATES:  # moto knows them by plain id alone
        _patches.set(KmsBackend, name, _by_any_id(vars(KmsBackend)[name]))


def uninstall() -> None:
    """Give moto its own KMS back."""
    _patches.undo()
