"""The world as AWS gives it: the only package that knows an endpoint, a credential or boto3.

``signing``, ``http``, ``ebs`` and ``s3`` carry every block and must not import boto3: its import costs more
than a whole worker's start. The other modules import it inside the function that needs it.
"""
