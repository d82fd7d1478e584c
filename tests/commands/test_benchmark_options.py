"""Options of the benchmarks: there is nothing to say about what was measured no times."""

import argparse
import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks/machine.py"


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", ""])
def test_a_number_of_times_is_at_least_one(text):
    spec = importlib.util.spec_from_file_location("machine", PATH)
    assert spec is not None and spec.loader is not None
    machine = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(machine)
    assert machine.at_least_one("3") == 3
    with pytest.raises(argparse.ArgumentTypeError, match="must be a whole number of at least 1"):
        machine.at_least_one(text)
