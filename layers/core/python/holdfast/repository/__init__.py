"""The repository format: packs of blocks, segment maps, manifests of restore points.

docs/repository-format.md is the normative description; a change of bytes here is a new format version there.
"""
