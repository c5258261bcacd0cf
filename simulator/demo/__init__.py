"""The demonstration: the main job of Holdfast on real file systems, proven byte by byte.

``python -m simulator.demo`` runs it; it consists of the same commands that a person would type.
"""
