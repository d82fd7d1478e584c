"""Settings of all tests."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_DEDUP_LOGS", "1")

import cv2
from hypothesis import settings

cv2.setNumThreads(1)
settings.register_profile("lamp", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("lamp")
