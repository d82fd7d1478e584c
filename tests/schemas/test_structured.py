"""Files written by people: read safely, and what does not fit is named with its place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from schemas.structured import BadFile, read_structured, structure


@dataclass(frozen=True)
class Wheel:
    radius: float
    colour: Literal["black", "white"] = "black"


@dataclass(frozen=True)
class Car:
    name: str
    wheels: dict[str, Wheel]
    doors: int = 4
    words: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    electric: bool = False

    def __post_init__(self) -> None:
        if self.doors < 0:
            raise ValueError(f"doors must be 0 or more, found {self.doors}")


YAML = "name: a\nwheels:\n  left: {radius: 1}\n  right: {radius: 0.5, colour: white}\nwords: one\nsize: [3, 4]\n"
TOML = """\
name = "a"
words = ["one"]
size = [3, 4]
[wheels]
left = {radius = 1}
right = {radius = 0.5, colour = "white"}
"""


def written(tmp_path: Path, text: str, name: str = "car.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_yaml_and_toml_say_the_same(tmp_path):
    made = [
        structure(Car, read_structured(written(tmp_path, text, f"car{suffix}")), "car")
        for text, suffix in ((YAML, ".yaml"), (YAML, ".yml"), (TOML, ".toml"))
    ]
    assert made[0] == Car("a", {"left": Wheel(1.0), "right": Wheel(0.5, "white")}, words=("one",), size=(3, 4))
    assert made[0] == made[1] == made[2]
    assert isinstance(made[0].wheels["left"].radius, float)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"colour": "red"}, "it has a name 'colour' that is not known; known are name, wheels, doors"),
        ({"name": None}, "name must be text, found None"),
        ({"doors": 2.5}, "doors must be a whole number, found 2.5"),
        ({"doors": True}, "doors must be a whole number, found True"),
        ({"doors": -1}, "it is wrong: doors must be 0 or more, found -1"),
        ({"size": [3]}, "size must hold 2 values, found 1"),
        ({"words": [1]}, r"words\[0\] must be text, found 1"),
        ({"electric": 1}, "electric must be true or false, found 1"),
        ({"wheels": {"left": {"radius": "x"}}}, "wheels.left.radius must be a number, found 'x'"),
        ({"wheels": {"left": {}}}, "wheels.left lacks radius"),
        ({"wheels": {"left": {"radius": 1, "colour": "red"}}}, "wheels.left.colour must be one of black, white, found"),
        ({"wheels": 3}, "wheels must hold names with values, found 3"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(change, says):
    with pytest.raises(BadFile, match=f"^my.yaml: {says}"):
        structure(Car, {"name": "a", "wheels": {"left": {"radius": 1}}} | change, "my.yaml")


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("- a\n- b\n", "x.yaml", "must hold names with values, found"),
        ("a: [", "x.yaml", "cannot be read: while parsing"),
        ("a: 1\na: 2\n", "x.yaml", "a stands twice"),
        ("a: !!python/object/apply:os.getcwd []\n", "x.yaml", "could not determine a constructor"),
        ("a = [", "x.toml", "cannot be read"),
        ("a = 1", "x.ini", "must end in .yaml, .yml, .toml"),
        ("# " + "a" * (1 << 20), "x.yaml", "bytes; such a file is written by hand"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path, text, name, says):
    with pytest.raises(BadFile, match=says) as error:
        read_structured(written(tmp_path, text, name))
    assert "\n" not in str(error.value) and name in str(error.value)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(BadFile, match=r"none\.yaml cannot be read: No such file"):
        read_structured(tmp_path / "none.yaml")
