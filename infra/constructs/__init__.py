"""Building blocks of the stacks: one factory for each kind of resource that Holdfast deploys.

Every hardening of a resource (TLS only, retention, least privilege) is made here once, not where it is used.
"""
