"""The error that ends the program with a message."""


class InputError(Exception):
    """Something given to the program is missing or not what it should be."""
