"""CloudWatch metrics in embedded metric format, written as one log line.

The policy is the only dimension: a dimension per instance would cost more than the backup. Alarms find a
metric by exactly these dimensions, so another one beside it would blind them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TextIO

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

from holdfast.model.ids import metric_label

DIMENSION = "Policy"
UNITS = {"Bytes": MetricUnit.Bytes, "Seconds": MetricUnit.Seconds, "Percent": MetricUnit.Percent}


def publish(
    metrics: Mapping[str, float], *, policy: str, namespace: str, stream: TextIO | None = None
) -> None:
    """Write one line; a unit in a metric's name (BytesRead, DurationSeconds) is its unit, else: count.

    An empty ``policy``: metrics of the installation, without any dimension.
    """
    provider = AmazonCloudWatchEMFProvider(
        namespace=namespace, metric_set={}, dimension_set={}, metadata_set={}
    )
    if policy:
        provider.add_dimension(name=DIMENSION, value=metric_label(policy))
    for name, value in metrics.items():
        unit = next((unit for word, unit in UNITS.items() if word in name), MetricUnit.Count)
        provider.add_metric(name=name, unit=unit, value=value)
    print(json.dumps(provider.serialize_metric_set(), separators=(",", ":")), file=stream or sys.stdout)
