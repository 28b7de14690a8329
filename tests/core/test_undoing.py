"""What undoes a change is called, and called again when it is interrupted."""

import contextlib

import pytest

from rankwise.core.undoing import undone, undone_on_error


class Undo:
    def __init__(self, failures=0):
        self.calls, self.failures = 0, failures

    def __call__(self):
        self.calls += 1
        if self.calls <= self.failures:
            raise KeyboardInterrupt


def test_it_is_called_once_after_success_and_once_after_an_error():
    undo = Undo()
    with undone(undo):
        assert undo.calls == 0
    assert undo.calls == 1
    with pytest.raises(ValueError, match="inside"), undone(undo):
        raise ValueError("inside")
    assert undo.calls == 2


def test_it_is_called_again_when_it_was_interrupted():
    undo = Undo(failures=1)
    with pytest.raises(KeyboardInterrupt), undone(undo):
        pass
    assert undo.calls == 2


def test_it_is_called_where_the_with_statement_never_ends():
    undo = Undo()
    entered = undone(undo)
    entered.__enter__()
    del entered
    assert undo.calls == 1


def test_on_error_alone_if_that_is_asked_for():
    undo = Undo()
    with undone_on_error(undo):
        pass
    assert undo.calls == 0
    with contextlib.suppress(KeyboardInterrupt), undone_on_error(undo):
        raise KeyboardInterrupt
    assert undo.calls == 1
