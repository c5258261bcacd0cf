"""What each function of the hub and the cells may do, in pieces that rows of the function table put together.

A piece names exact resources of this installation. Where AWS offers none, the statement carries the reason
for its wildcard. Nothing here may delete an EC2 resource: spoke roles have that right, bound to our tag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from holdfast.model.configuration import Configuration, Mailing
from infra.names import WORK_PREFIXES, Place, Site, makes_key, repository_key_alias
from infra.statements import Statement, allow

Grant = Callable[[Site], tuple[Statement, ...]]

REPOSITORY_CONTEXT: Final = "kms:EncryptionContext:holdfast:repository"
EXPIRING_FOLDERS: Final = ("points", "candidates")
_EXECUTION_IDS: Final = "Step Functions chooses the ids of executions and map runs when they start."
_TRACES: Final = "X-Ray has no resources to name for these actions."
_OBJECTS: Final = "Object keys are made at run time; the bucket and the prefix are fixed."
_ANY_ACCOUNT: Final = (
    "Accounts join the Organization after deployment. The role name is fixed, and each account's own trust "
    "policy names this function's role and the external id."
)


def logs(site: Site, verb: str) -> tuple[Statement, ...]:
    """Write to the function's own log group."""
    group = site.arn("logs", f"log-group:/aws/lambda/{site.named(verb)}:*")
    because = "Lambda chooses the names of log streams."
    return (allow("WriteLogs", "logs:CreateLogStream PutLogEvents", group, because=because),)


def traces(site: Site) -> tuple[Statement, ...]:
    """Send traces."""
    return (allow("WriteTraces", "xray:PutTraceSegments PutTelemetryRecords", "*", because=_TRACES),)


def undelivered(site: Site) -> tuple[Statement, ...]:
    """Keep an asynchronous event that failed for good."""
    return (allow("KeepUndelivered", "sqs:SendMessage", site.undelivered_arn),)


def catalog_read(site: Site) -> tuple[Statement, ...]:
    """Read sessions, restore points and switches."""
    because = "Indexes of the catalog's own table."
    return (
        allow(
            "ReadCatalog",
            "dynamodb:GetItem Query",
            site.table_arn,
            f"{site.table_arn}/index/*",
            because=because,
        ),
    )


def catalog_write(site: Site) -> tuple[Statement, ...]:
    """Read the catalog and write to it."""
    return (*catalog_read(site), allow("WriteCatalog", "dynamodb:PutItem", site.table_arn))


def catalog_remove(site: Site) -> tuple[Statement, ...]:
    """Read the catalog, write to it and remove from it."""
    return (*catalog_write(site), allow("RemoveFromCatalog", "dynamodb:DeleteItem", site.table_arn))


def _work(site: Site, sid: str, actions: str) -> Statement:
    objects = [f"{site.bucket_arn(site.work_bucket)}/{prefix}*" for prefix in WORK_PREFIXES]
    return allow(sid, actions, *objects, because=_OBJECTS)


def _work_list(site: Site, sid: str) -> Statement:
    # Without a condition on the prefix: S3 answers "not found" instead of "denied" only to who may list.
    return allow(sid, "s3:ListBucket", site.bucket_arn(site.work_bucket))


def work_read(site: Site) -> tuple[Statement, ...]:
    """Read the lists of executions in this Region."""
    return (_work(site, "ReadWork", "s3:GetObject"), _work_list(site, "ListWork"))


def work_write(site: Site) -> tuple[Statement, ...]:
    """Read and write the lists of executions in this Region."""
    return (_work(site, "UseWork", "s3:GetObject PutObject"), _work_list(site, "ListWork"))


def mark_stops(site: Site) -> tuple[Statement, ...]:
    """Leave the mark by which workers of any Region see that their session is to stop."""
    cells = [Site(site.configuration, Place.CELL, region) for region in site.configuration.regions()]
    marks = [f"{cell.bucket_arn(cell.work_bucket)}/sessions/*/stop.json" for cell in cells]
    return (allow("MarkStops", "s3:GetObject PutObject", *marks, because=_OBJECTS),) if marks else ()


def start(machine: str) -> Grant:
    """Start a state machine of the same place."""

    def grant(site: Site) -> tuple[Statement, ...]:
        return (allow("StartExecution", "states:StartExecution", site.machine_arn(machine)),)

    return grant


def start_cells(site: Site) -> tuple[Statement, ...]:
    """Start the cell of every protected Region."""
    machines = [site.machine_arn("cell", region=region) for region in site.configuration.regions()]
    return (allow("StartCells", "states:StartExecution", *machines),) if machines else ()


def answer_session(site: Site) -> tuple[Statement, ...]:
    """Answer the session that waits for this cell."""
    machine = site.machine_arn("session", region=site.configuration.hub_region)
    return (allow("AnswerSession", "states:SendTaskSuccess", machine),)


def _mailings(configuration: Configuration) -> Iterator[Mailing]:
    yield configuration.notifications
    every = (*configuration.policies, *configuration.sla_policies)
    yield from (policy.notifications for policy in every if policy.notifications)


def publish(site: Site) -> tuple[Statement, ...]:
    """Publish to the topic of the installation, or the one that the configuration names for everything."""
    named = site.configuration.notifications.topic_arn
    return (allow("Publish", "sns:Publish", *sorted({site.topic_arn, *([named] if named else [])})),)


def notify(site: Site) -> tuple[Statement, ...]:
    """Publish results to the topics, and send mail from the senders, that the configuration names."""
    topics = {mailing.topic_arn for mailing in _mailings(site.configuration) if mailing.topic_arn}
    publish = allow("PublishResults", "sns:Publish", *sorted({site.topic_arn, *topics}))
    senders = sorted({mailing.sender for mailing in _mailings(site.configuration) if mailing.sender})
    if not senders:
        return (publish,)
    region = site.configuration.hub_region
    identities = {part for sender in senders for part in (sender, sender.rpartition("@")[2])}
    mail = allow(
        "SendMail",
        "ses:SendEmail",
        *(site.arn("ses", f"identity/{identity}", region=region) for identity in sorted(identities)),
        when={"StringEquals": {"ses:FromAddress": senders}},
    )
    return (publish, mail)


def _keys(site: Site, uses: str) -> Iterator[Statement]:
    """Use the keys of repositories, and only to wrap repository keys."""
    wrapping = {"Null": {REPOSITORY_CONTEXT: "false"}}
    with_key = [found for found in site.configuration.repositories if found.encryption.kind == "kms"]
    given = sorted({found.encryption.key_arn for found in with_key if not makes_key(found)})
    made = [found for found in with_key if makes_key(found)]
    if given:
        yield allow("UseKeys", uses, *given, when=wrapping)
    if made:
        aliases = [repository_key_alias(site.configuration, found) for found in made]
        yield allow(
            "UseMadeKeys",
            uses,
            *sorted({site.arn("kms", "key/*", region=found.region) for found in made}),
            when={**wrapping, "ForAnyValue:StringEquals": {"kms:ResourceAliases": aliases}},
            because="The repository stack makes the key; its alias, fixed in the condition, stands for it.",
        )


def _repositories(site: Site, *, objects: str, keys: str) -> tuple[Statement, ...]:
    repositories = site.configuration.repositories
    if not repositories:
        return ()
    buckets = {found.bucket: site.bucket_arn(found.bucket) for found in repositories}
    inside = [f"{buckets[found.bucket]}/{found.prefix}/*" for found in repositories]
    secrets = sorted({found.encryption.secret_arn for found in repositories if found.encryption.secret_arn})
    return (
        allow("UseRepositories", objects, *inside, because=_OBJECTS),
        allow("ListRepositories", "s3:ListBucket", *buckets.values()),
        *_keys(site, keys),
        *((allow("ReadPasswords", "secretsmanager:GetSecretValue", *secrets),) if secrets else ()),
    )


def repository_read(site: Site) -> tuple[Statement, ...]:
    """Read repositories and open them with their key or password."""
    return _repositories(site, objects="s3:GetObject", keys="kms:Decrypt")


def repository_write(site: Site) -> tuple[Statement, ...]:
    """Read repositories and add objects; nothing can be deleted."""
    return _repositories(site, objects="s3:GetObject PutObject", keys="kms:Decrypt")


def repository_create(site: Site) -> tuple[Statement, ...]:
    """The same, and create a repository: wrap its key."""
    return _repositories(site, objects="s3:GetObject PutObject", keys="kms:Decrypt Encrypt")


def repository_expire(site: Site) -> tuple[Statement, ...]:
    """Read repositories, note candidates, and delete manifests and notes (never packs or maps)."""
    expiring = [
        f"{site.bucket_arn(repository.bucket)}/{repository.prefix}/{folder}/*"
        for repository in site.configuration.repositories
        for folder in EXPIRING_FOLDERS
    ]
    if not expiring:
        return ()
    changes = allow("ExpirePoints", "s3:PutObject DeleteObject", *expiring, because=_OBJECTS)
    return (*repository_read(site), changes)


def repository_mark(site: Site) -> tuple[Statement, ...]:
    """Read repositories and note candidates; nothing can be deleted."""
    candidates = [
        f"{site.bucket_arn(repository.bucket)}/{repository.prefix}/candidates/*"
        for repository in site.configuration.repositories
    ]
    if not candidates:
        return ()
    changes = allow("MarkPoints", "s3:PutObject", *candidates, because=_OBJECTS)
    return (*repository_read(site), changes)


def machine_role(
    site: Site, machine: str, functions: tuple[str, ...], *, maps: bool, notes: str = ""
) -> tuple[Statement, ...]:
    """What a state machine may do: call its functions.

    With ``maps`` also run maps over lists of work; with ``notes``, a folder of the work bucket, leave there
    why an item failed.
    """
    invoke = [site.function_arn(verb) for verb in functions]
    return (
        allow("InvokeFunctions", "lambda:InvokeFunction", *invoke),
        *(_runs_maps(site, machine) if maps else ()),
        *(_notes_problems(site, notes) if notes else ()),
        *traces(site),
        allow("SampleTraces", "xray:GetSamplingRules GetSamplingTargets", "*", because=_TRACES),
        allow(
            "DeliverLogs",
            "logs:CreateLogDelivery GetLogDelivery UpdateLogDelivery DeleteLogDelivery ListLogDeliveries"
            " PutResourcePolicy DescribeResourcePolicies DescribeLogGroups",
            "*",
            because="CloudWatch Logs has no resources to name for log deliveries.",
        ),
    )


def _runs_maps(site: Site, machine: str) -> Iterator[Statement]:
    """Read lists of work, and start and follow the child executions that work on them."""
    yield _work(site, "ReadLists", "s3:GetObject")
    yield allow("RunMaps", "states:StartExecution", site.machine_arn(machine))
    yield allow(
        "FollowMaps",
        "states:DescribeExecution StopExecution",
        site.executions(machine),
        site.child_executions(machine),
        because=_EXECUTION_IDS,
    )


def _notes_problems(site: Site, folder: str) -> Iterator[Statement]:
    """Write why an item of a map failed; the map itself does not tell."""
    problems = f"{site.bucket_arn(site.work_bucket)}/{folder}/*/problem.json"
    yield allow("NoteProblems", "s3:PutObject", problems, because=_OBJECTS)


def scheduler_role(site: Site, verbs: tuple[str, ...]) -> tuple[Statement, ...]:
    """Invoke what runs by the clock, and keep events that could not be delivered."""
    targets = [site.function_arn(verb) for verb in verbs]
    return (allow("InvokeTargets", "lambda:InvokeFunction", *targets), *undelivered(site))


def assume(site: Site, duty: str, role_arns: tuple[str, ...]) -> tuple[Statement, ...]:
    """Assume the spoke roles of one duty."""
    fixed = tuple(arn for arn in role_arns if "*" not in arn)
    open_ended = tuple(arn for arn in role_arns if "*" in arn)
    name = duty.capitalize()
    return (
        *((allow(f"Assume{name}", "sts:AssumeRole", *fixed),) if fixed else ()),
        *(
            (allow(f"Assume{name}Anywhere", "sts:AssumeRole", *open_ended, because=_ANY_ACCOUNT),)
            if open_ended
            else ()
        ),
    )
