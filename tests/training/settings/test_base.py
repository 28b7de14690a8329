"""Settings that came later change no name of a run as long as nobody sets them."""

from __future__ import annotations

from rankwise.training.settings.base import Settings, later_defaults, setting


class Inner(Settings):
    old: int = 1
    new: int = setting(2, "a later choice", unit="number", is_later=True)


class Outer(Settings):
    inner: Inner = Inner()
    other: str = setting("a", "a later choice", is_later=True)


def test_a_later_setting_at_its_default_is_left_out_wherever_it_is():
    assert later_defaults(Outer()) == {"inner": {"new": True}, "other": True}
    assert Outer().model_dump(exclude=later_defaults(Outer())) == {"inner": {"old": 1}}


def test_a_later_setting_that_somebody_sets_is_not():
    settings = Outer(inner=Inner(new=3), other="b")
    assert later_defaults(settings) == {}
    assert settings.model_dump(exclude=later_defaults(settings)) == settings.model_dump()
