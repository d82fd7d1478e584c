"""Access to the Hugging Face hub. If it cannot be reached, earlier downloads are used, or their absence is reported
without delay.
"""

from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 5.0
"""Timeout of the check, in seconds."""


@contextmanager
def hub_at_hand() -> Iterator[None]:
    """Context in which something is loaded from the hub by name.

    The hub's library tries an unreachable host six times, for 23 s, and prints each time. Here the host is checked
    once before. If it does not answer, the library runs in offline mode until the block ends. If it answers, nothing
    is changed, and the library retries failing downloads as usual.

    Raises:
        ConnectionError: the hub cannot be reached, and what was wanted is not on this machine.
    """
    from huggingface_hub import constants

    if constants.is_offline_mode() or _answers(constants.ENDPOINT):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    except OSError as error:
        raise ConnectionError(f"{constants.ENDPOINT} cannot be reached, and they were not downloaded before") from error
    finally:
        constants.HF_HUB_OFFLINE = False


def _answers(host: str) -> bool:
    """Whether a host answers at all, through the proxies that the library would use."""
    from huggingface_hub.utils import get_session

    try:
        get_session().head(host, timeout=PATIENCE_S)
    except Exception:  # the types of its errors depend on the version of the library's client
        return False
    return True
