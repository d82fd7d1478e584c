"""One Ray for all tests that need it: started at the first use, two CPUs, nothing joined and nothing left."""

import atexit
import os
from functools import cache

import pytest


@cache
def start_ray():
    """Ray, running here."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    atexit.register(ray.shutdown)
    return ray


@pytest.fixture(scope="session")
def running_ray():
    """Ray with two CPUs."""
    return start_ray()
