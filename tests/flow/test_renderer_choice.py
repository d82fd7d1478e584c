"""What mujoco draws with where nobody says."""

import os

import pytest

from pipeline.simulator import model


@pytest.mark.parametrize(("installed", "asked", "chosen"), [
    (("OSMesa", "EGL"), None, "osmesa"),
    (("EGL",), None, "egl"),
    ((), None, "osmesa"),
    (("EGL",), "glfw", "glfw"),
])  # fmt: skip
def test_software_first_then_what_there_is_and_never_against_a_persons_choice(monkeypatch, installed, asked, chosen):
    monkeypatch.setenv("MUJOCO_GL", asked or "")
    if asked is None:
        monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr(model, "find_library", lambda name: f"lib{name}.so" if name in installed else None)
    model._choose_renderer()
    assert os.environ["MUJOCO_GL"] == chosen
