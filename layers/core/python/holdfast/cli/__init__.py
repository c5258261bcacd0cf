"""The ``holdfast`` command: the operations of the functions, for a person.

Nothing deployed imports this package; data goes to standard output, progress and errors to standard error.
"""
