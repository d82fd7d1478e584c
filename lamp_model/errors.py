"""What can be wrong with a run, its weights and its samples; every message is one sentence for a person."""


class BadRun(ValueError):
    """A run's folder is missing, unfinished or not what was expected, or a run cannot be made of what was asked for."""


class BadCheckpoint(ValueError):
    """A file of weights is missing, damaged or of another model; the message names it."""


class BadSample(ValueError):
    """A sample does not fit the model; the message names it and says what to do."""


class TooLong(ValueError):
    """A sequence has more tokens than the Action Expert has positions."""
