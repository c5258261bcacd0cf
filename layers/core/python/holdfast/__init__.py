"""Serverless backup for Amazon EC2.

Only the version lives here: a function pays the import of its own operation alone.
"""

__version__ = "0.1.0"
