"""The one error of the generator."""


class GeneratorError(Exception):
    """Bad input or a file in the way; the message says what was given and what is allowed."""
