"""The Hugging Face hub, asked once: where it cannot be reached, what was downloaded before is taken, or the lack of it
said, at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 5.0
"""How long the hub may take to answer the one question."""


@contextmanager
def hub_at_hand() -> Iterator[None]:
    """While something is taken from the hub by its name.

    Its library asks a host that cannot be reached six times over, for 23 s, and prints each time. Here the host is
    asked once before; when no answer comes, the library works in its offline mode until the end. Where the host
    answers, nothing is changed, and a download that falters is tried again as the library does.

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
    """Whether a host says anything at all, through the proxies that the library would use."""
    from huggingface_hub.utils import get_session

    try:
        get_session().head(host, timeout=PATIENCE_S)
    except Exception:  # the library's client has changed, and its errors with it
        return False
    return True
