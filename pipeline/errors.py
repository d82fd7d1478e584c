"""Errors that more than one package of the pipeline raises or handles."""


class BuildError(Exception):
    """The build cannot be done; the message says why and what to do."""


class UnreadableSource(Exception):
    """A file cannot be listed at all; the other files are still used.

    Attributes:
        source: the file, relative to the dataset's folder.
        code: a short name under which such cases are counted.
    """

    def __init__(self, source: str, code: str, message: str):
        super().__init__(source, code, message)
        self.source, self.code, self.message = source, code, message

    def __str__(self) -> str:
        return self.message


class SeveralForms(ValueError):
    """A folder holds a dataset in more than one form, perhaps the same episodes twice; the message asks for one of
    them.
    """


class UnknownForm(ValueError):
    """A reader does not read the form that was asked for; the message names those it reads."""
