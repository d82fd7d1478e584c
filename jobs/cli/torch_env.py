"""Settings of torch and transformers for commands: how threads wait, and what the libraries print. Neither library is
imported before it is needed.
"""

import os


def let_threads_sleep() -> None:
    """Let torch's threads sleep while they wait; it must be said before torch is loaded.

    By default they spin, and on cores that are shared with anything else training becomes six times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def quieten() -> None:
    """Turn off the libraries' own progress bars and advice."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
