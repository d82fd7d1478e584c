"""The two executors (``pipeline.build.executor.Executor``). Both produce the same bytes.

A module of this folder defines ``Config`` and ``build(config)``.
"""

from collections.abc import Mapping
from typing import Any

from jobs.executors import local, ray
from pipeline.build.executor import Executor
from schemas.plugins import configured

EXECUTORS = {"local": local, "ray": ray}


def executor_config(name: str, options: Mapping[str, str]) -> Any:
    """The ``Config`` of an executor.

    Raises:
        ValueError: an unknown executor, option or value.
    """
    if name not in EXECUTORS:
        raise ValueError(f"no executor is called {name!r}; there are: {', '.join(EXECUTORS)}")
    return configured(EXECUTORS[name].Config, name, options)


def make_executor(name: str, config: Any) -> Executor:
    """The executor with its ``executor_config``."""
    return EXECUTORS[name].build(config)
