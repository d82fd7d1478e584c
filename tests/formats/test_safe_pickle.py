"""Pickles from strangers: numbers come through as NumPy wrote them, and nothing that they name is run."""

import contextlib
import pickle
import pickletools
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.formats.safe_pickle import DamagedPickle, HostilePickle, load_pickle, read_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def same(found, told):
    if isinstance(told, dict):
        return found.keys() == told.keys() and all(same(found[k], v) for k, v in told.items())
    if isinstance(told, (list, tuple)):
        return type(found) is type(told) and len(found) == len(told) and all(map(same, found, told))
    if isinstance(told, np.ndarray):
        return found.dtype == told.dtype.newbyteorder("=") and np.array_equal(found, told, equal_nan=True)
    return found == told


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_what_a_robot_writes_comes_back_whatever_the_protocol_and_the_numpy(protocol, module):
    told = {
        "full_state": np.arange(14.0).reshape(2, 7),
        "columns first": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "big end first": np.arange(3, dtype=">i4"),
        "env_done": [False, True],
        "one": np.float32(2.5),
        "nothing": None,
        "policy": {"type": "VRTeleopPolicy", "actions": (1, 2.5, b"x", "ü")},
        "none": np.zeros((0, 7)),
    }
    data = pickle.dumps(told, protocol)
    if protocol < 4:  # names stand in lines
        data = data.replace(b"numpy._core.", f"{module}.".encode())
    assert same(load_pickle(data), told)


@given(hnp.arrays(hnp.boolean_dtypes() | hnp.integer_dtypes() | hnp.floating_dtypes(), hnp.array_shapes()), st.data())
def test_every_array_of_numbers_comes_back(array, data):
    assert same(load_pickle(pickle.dumps(array, data.draw(st.sampled_from(PROTOCOLS)))), array)


def test_values_that_nobody_needs_do_not_stand_in_the_way():
    """An array of objects is its values; an ordered dict a dict; texts in arrays are left out."""
    told = {"objects": np.array([{"a": 1}, None], object), "ordered": OrderedDict(a=1), "words": np.array(["a", "b"])}
    assert load_pickle(pickle.dumps(told)) == {"objects": [{"a": 1}, None], "ordered": {"a": 1}, "words": None}


class Runs:
    """What a pickle can do to who trusts it."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def hostile():
    import os
    import subprocess

    yield "a shell", Runs(os.system, "touch hostile"), "it names posix.system"
    yield "a process", Runs(subprocess.check_call, ["touch", "hostile"]), "it names [a-z]+.check_call"
    yield "code", Runs(eval, "open('hostile', 'w')"), "it names [_a-z]+.eval"
    yield "a file", Runs(open, "hostile", "w"), "it names io.open"
    yield "an attribute", Runs(getattr, "", "join"), "it names [_a-z]+.getattr"
    yield "a class", Runs(type, "name", (), {}), "it names [_a-z]+.type"
    yield "another pickle", Runs(pickle.loads, b"N."), "it names _?pickle.loads"
    yield "numpy's own loader", Runs(np.load, "x", None, True), "it names numpy.load"
    yield "numpy's tests", Runs(np.testing.measure, "open('hostile', 'w')"), "it names numpy.testing._private"
    yield "deep inside", {"a": [{"b": (1, Runs(os.system, "touch hostile"))}]}, "it names posix.system"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("value", "says"), [(v, s) for _, v, s in hostile()], ids=[n for n, *_ in hostile()])
def test_nothing_that_a_pickle_names_is_run(tmp_path, monkeypatch, protocol, value, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(value, protocol))
    with pytest.raises(HostilePickle, match=says):
        read_pickle(tmp_path / "x.pkl")
    assert [path.name for path in tmp_path.iterdir()] == ["x.pkl"]


def laughing():
    """A list of lists of lists ... each twice the one before: 60 bytes that would be 2^40 values when written out."""
    value = ["ha"]
    for _ in range(40):
        value = [value, value]
    return pickle.dumps(value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x80\x02K\x01r\xff\xff\xff\x7f.", "would reserve memory"),
        (laughing(), "holds more than"),
        (b"\x80\x02](h\x00e.", "no whole pickle"),
        (b"\x80\x02]q\x00h\x00a.", "nests deeper"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02K\x01Q.", "BINPERSID"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00bz2\x86R.", "the encoding 'bz2'"),
    ],
)
def test_a_pickle_that_would_grow_or_reach_out_is_refused(monkeypatch, data, says):
    monkeypatch.setattr("pipeline.formats.safe_pickle.MOST_VALUES", 1000)
    with pytest.raises((HostilePickle, DamagedPickle), match=says):
        load_pickle(data)


WHOLE = pickle.dumps({"full_state": np.arange(70.0).reshape(10, 7), "done": [False] * 10})


@given(st.integers(0, len(WHOLE) - 1))
def test_a_cut_is_said(length):
    with pytest.raises(DamagedPickle, match="no whole pickle"):
        load_pickle(WHOLE[:length])


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_a_changed_byte_is_read_or_said_and_never_raises_anything_else(place, byte):
    changed = WHOLE[:place] + bytes([byte]) + WHOLE[place + 1 :]
    with contextlib.suppress(HostilePickle, DamagedPickle):
        load_pickle(changed)


def test_the_bytes_of_the_test_are_what_they_seem():
    assert [code.name for code, *_ in pickletools.genops(b"\x80\x02]q\x00h\x00a.")] == [
        *("PROTO", "EMPTY_LIST", "BINPUT", "BINGET", "APPEND", "STOP")
    ]
