"""Vectors of selection, ownership, retry and placement."""

from __future__ import annotations

from datetime import date

from holdfast.model.configuration import Account, Configuration
from holdfast.model.inventory import AttachedVolume, Instance
from holdfast.model.session import State
from holdfast.planning.attempts import RETRY_AFTER, health_check_due, to_retry
from holdfast.planning.replication import Copy, Refusal, is_readable, plan_copy
from holdfast.planning.selection import Target, precedence, rivals, scope, select
from holdfast.planning.sizing import profile
from tests.vectors.policies import BASIS, REGION, configuration, policy

ID = "i-0123456789abcdef0"
OWN = "444455556666"


def run(vector: dict) -> int:
    """Run one vector; returns how many expectations it had."""
    if "attempts_fail" in vector:
        return retried(vector)
    for case in vector["cases"]:
        if "owner" in case:
            owned(case)
        elif "processed" in case:
            processed(case)
        elif "source_encrypted" in case or "source_key" in case:
            encrypted(case)
        elif "worker" in case:
            assert profile(case["total_gb"]).instance_type == case["worker"]
        else:
            raise AssertionError(f"unknown case {case}")
    return len(vector["cases"])


def instance(region: str = REGION, **more: object) -> Instance:
    volume = AttachedVolume(
        volume_id="vol-0123456789abcdef0", device="/dev/xvda", size_bytes=1 << 30, root=True
    )
    return Instance.model_validate(
        {"instance_id": ID, "account": OWN, "region": region, "tags": {"backup": "yes"}, "volumes": (volume,)}
        | more
    )


def owned(case: dict) -> None:
    """The policy that processes an instance which all of them select."""
    sla = [each for each in case["policies"] if each["kind"] == "sla"]
    scheduled = [each for each in case["policies"] if each["kind"] == "schedule"]
    made = configuration(
        *(BASIS | {"name": each["name"], "priority": each["priority"]} for each in scheduled),
        sla_templates=[{"name": "t", "snapshots": {"daily": {"hours": 1}}}],
        sla_policies=[
            BASIS | {"name": each["name"], "priority": each["priority"], "sla_template": "t"} for each in sla
        ],
    )
    owners = [
        each.name
        for each in precedence(made)
        if select(each, [instance()], {OWN: rivals(made, each, OWN)}).protected
    ]
    assert owners == [case["owner"]]


def processed(case: dict) -> None:
    if "org_excluded_ou" in case:
        assert bool(scope_of_nested(case)) is case["processed"]
        return
    chosen: dict[str, object] = {}
    how = case.get("included_by", case.get("scope"))
    chosen |= {"id": {"instances": [ID]}, "tag": {"tags": [{"key": "backup"}]}, "all": {"all": True}}[how]
    if "excluded_by" in case:
        out = {
            "id": {"exclude_instances": [ID]},
            "tag": {"exclude_tags": [{"key": "backup", "value": "yes"}]},
        }
        chosen |= out[case["excluded_by"]]
    made = policy(selection=chosen, regions=case.get("policy_regions", [REGION]))
    found = select(made, [instance(case.get("instance_region", REGION))])
    assert bool(found.protected) is case["processed"]


def scope_of_nested(case: dict) -> tuple[Target, ...]:
    assert (case["org_excluded_ou"], case["account_in"]) == ("parent", "nested_child_ou")
    made: Configuration = configuration(
        BASIS | {"source": {"organization": "company", "exclude_units": ["ou-root-parentou"]}},
        organizations=[{"name": "company", "management_role": "arn:aws:iam::777788889999:role/Organization"}],
    )
    account = Account(account=OWN, units=("r-root", "ou-root-parentou", "ou-root-childunit"))
    return scope(made, made.policies[0], [account]).targets


def retried(vector: dict) -> int:
    attempts = []
    pending = list(vector["instances"])
    final = dict.fromkeys(pending, State.FAILED)
    retries = vector["retry"]["max"]
    checks: list[date] = []
    day = date(2026, 1, 31)
    check = policy(health_check={"run_on": {"day": "last"}}).health_check
    for attempt, failing in enumerate(vector["attempts_fail"]):
        attempts.append(pending)
        outcome = {name: State.FAILED if name in failing else State.SUCCESS for name in pending}
        final |= outcome
        pending = list(to_retry(outcome, attempt, retries))
        state = State.SUCCESS if set(final.values()) == {State.SUCCESS} else State.FAILED
        if health_check_due(check, day, checks, state, last=not pending):
            checks.append(day)
    assert attempts == vector["expect_processed_per_attempt"]
    assert pending == []
    assert (set(final.values()) == {State.SUCCESS}) is (vector["expect_final"] == "Success")
    assert RETRY_AFTER.total_seconds() == vector["retry"]["interval_s"]
    assert len(to_retry({"i1": State.FAILED}, 0, retries, manual=True)) == vector["manual_start_retries"]
    health = vector["health_check"]
    for _ in range(health["sessions_today"] - 1):
        if health_check_due(check, day, checks, State.SUCCESS, last=True):
            checks.append(day)
    assert health["due_today"]
    assert len(checks) == health["runs"]
    return len(attempts)


def encrypted(case: dict) -> None:
    default = case.get("source_key") == "aws/ebs"
    volume = AttachedVolume(
        volume_id="vol-0123456789abcdef0",
        device="/dev/xvda",
        size_bytes=1 << 30,
        encrypted=True,
        kms_key_arn=f"arn:aws:kms:{REGION}:{OWN}:alias/aws/ebs"
        if default
        else f"arn:aws:kms:{REGION}:{OWN}:key/own",
    )
    if "worker_account" in case:
        reader = OWN if case["worker_account"] == "production" else "111122223333"
        assert is_readable(volume, OWN, reader) is case["backup_created"]
        return
    across = case.get("cross_account_replica", False)
    key = "" if case.get("target_key", "a key") is None else "arn:aws:kms:eu-west-1:111122223333:key/target"
    target = {
        "source_region": REGION,
        "region": "eu-west-1",
        "key_arn": key,
        "role": "other" if across else "",
    }
    made = configuration(
        BASIS | {"replication": [target]},
        roles=[
            {"name": "role", "arn": f"arn:aws:iam::{OWN}:role/HoldfastBackup"},
            {"name": "other", "arn": "arn:aws:iam::111122223333:role/HoldfastReplica"},
        ],
    )
    found = plan_copy(made, made.policies[0], instance(volumes=(volume,)), Target(OWN, "arn"))
    assert isinstance(found, Copy) is case["replica_created"]
    if "session" in case:
        assert isinstance(found, Refusal)
        assert found.state is {"Warning": State.WARNING, "Failed_replication": State.FAILED}[case["session"]]
