"""Errors of runs, weights and samples; every message is one sentence for the user."""


class BadRun(ValueError):
    """A run's folder is missing, unfinished or not what was expected, or the requested run is not possible."""


class BadCheckpoint(ValueError):
    """A file of weights is missing, damaged or from another model; the message names it."""


class BadSample(ValueError):
    """A sample does not fit the model; the message names it and says what to do."""


class BadMatch(ValueError):
    """A client and a policy do not fit together; the message names what each of them sends or takes."""


class TooLong(ValueError):
    """A sequence has more tokens than the Action Expert has positions."""
