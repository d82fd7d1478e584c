"""What a client is told when its request is not answered."""

import logging

from lamp_model.prediction import NotFinite
from lamp_model.serving.service import Busy, Ending
from schemas.errors import first_line

logger = logging.getLogger(__name__)


def said(error: Exception) -> str:
    """One sentence for the client. An error of the server itself is logged here, and its insides are not sent."""
    if isinstance(error, Busy):
        return f"busy: {first_line(error)}"
    if isinstance(error, Ending):
        return f"ending: {first_line(error)}"
    if isinstance(error, NotFinite):
        logger.warning("%s", error)
        return f"prediction failed: {first_line(error)}"
    if isinstance(error, ValueError):
        return f"invalid request: {first_line(error)}"
    logger.error("a prediction failed", exc_info=error)
    return f"prediction failed: an error of the server ({type(error).__name__}), which its log shows"
