"""Settings of all tests."""

import os
import random
import signal
import sys
import tempfile

os.environ.setdefault("XDG_CACHE_HOME", os.path.join(tempfile.gettempdir(), f"lamp-tests-{os.getuid()}"))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_DEDUP_LOGS", "1")

import cv2
import pytest
from hypothesis import settings

# A shell lets what it starts in the background ignore Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
cv2.setNumThreads(1)
settings.register_profile("lamp", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("lamp")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Every test draws the same numbers, whichever tests ran before it in its process."""
    random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
