"""How commands that train keep torch and its libraries from being a nuisance: nothing of them is imported before it
must be.
"""

import os


def wait_politely() -> None:
    """Let torch's threads sleep while they wait; it must be said before torch is loaded.

    By default they spin, and on cores that are shared with anything else training becomes six times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def quieten() -> None:
    """Libraries' own progress bars and advice say nothing to the person who trains."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
