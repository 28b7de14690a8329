"""Changes that are whole or not at all, and Ctrl-C that waits for them."""

import copy
import os
import pickle
import signal
import threading

import pytest

from rankwise.core.interrupts import (
    EndsInTwoSteps,
    Terminated,
    all_or_none,
    delayed_interrupt,
    go_back,
    raised_sigterm,
)


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def listening():
    """Both signals as in a terminal.

    What is started in the background is told to ignore Ctrl-C, and Ray has a SIGTERM of its own.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    term = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, before)
    signal.signal(signal.SIGTERM, term)


# --- Ctrl-C --------------------------------------------------------------------------------------


def test_ctrl_c_waits_until_the_step_is_over():
    done = []

    def step() -> None:
        with delayed_interrupt():
            ctrl_c()
            done.append("step")

    with pytest.raises(KeyboardInterrupt):
        step()
    assert done == ["step"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_that_waited_is_not_lost_in_another_exception():
    def step() -> None:
        with delayed_interrupt():
            ctrl_c()
            raise ValueError("of the step")

    with pytest.raises(KeyboardInterrupt) as caught:
        step()
    assert isinstance(caught.value.__context__, ValueError)


def test_steps_within_steps_let_it_wait_for_the_outermost():
    done = []

    def step() -> None:
        with delayed_interrupt():
            with delayed_interrupt():
                ctrl_c()
                done.append("inner")
            done.append("outer")

    with pytest.raises(KeyboardInterrupt):
        step()
    assert done == ["inner", "outer"]


def test_a_handler_of_the_users_own_is_called_and_stays():
    called = []
    before = signal.signal(signal.SIGINT, lambda *arguments: called.append(arguments[0]))
    try:
        with delayed_interrupt():
            ctrl_c()
            assert not called
        assert called == [signal.SIGINT]
        ctrl_c()
        assert len(called) == 2
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_signal_that_is_left_to_the_system_stays_so(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        with delayed_interrupt():
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_nothing_waits():
    seen = []

    def work() -> None:
        with delayed_interrupt():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


# --- all or none ---------------------------------------------------------------------------------


class Counter:
    """Two numbers that must be equal."""

    def __init__(self) -> None:
        self.first = self.second = 0

    def change(self, error: BaseException | None = None, signalled: bool = False) -> None:
        self.first += 1
        if signalled:
            ctrl_c()
        if error:
            raise error
        self.second += 1

    def ways_back(self) -> list:
        return [
            lambda value=self.first: setattr(self, "first", value),
            lambda value=self.second: setattr(self, "second", value),
        ]

    @property
    def values(self) -> tuple[int, int]:
        return self.first, self.second


def test_a_change_that_goes_well_stays():
    counter = Counter()
    all_or_none(counter.change, counter.ways_back())
    assert counter.values == (1, 1)


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_a_change_that_breaks_is_undone(error):
    counter = Counter()
    with pytest.raises(type(error)):
        all_or_none(lambda: counter.change(error), counter.ways_back())
    assert counter.values == (0, 0)


def test_ctrl_c_amid_a_change_arrives_after_it_and_undoes_it():
    counter = Counter()
    with pytest.raises(KeyboardInterrupt):
        all_or_none(lambda: counter.change(signalled=True), counter.ways_back())
    assert counter.values == (0, 0)


def test_every_way_back_is_taken_though_one_fails():
    taken = []

    def fail() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        go_back([lambda: taken.append(1), fail, lambda: taken.append(3)])
    assert taken == [3, 1]


# --- an end in two steps -------------------------------------------------------------------------


class Ended(EndsInTwoSteps):
    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self.error, self.steps = error, []

    def _end(self) -> None:
        self.steps.append("first")
        if self.error:
            raise self.error

    def _end_anyway(self) -> None:
        self.steps.append("second")


def test_both_steps_are_taken_at_the_end():
    with Ended() as ended:
        assert ended.steps == []
    assert ended.steps == ["first", "second"]


def test_the_second_is_taken_whatever_stops_the_first():
    ended = Ended(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), ended:
        pass
    assert ended.steps == ["first", "second"]


def test_an_exception_of_the_body_passes_on_and_an_end_is_taken_once():
    ended = Ended()
    with pytest.raises(ValueError, match="body"), ended, ended:
        raise ValueError("body")
    assert ended.steps == ["first", "second"]


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))]
)
def test_a_copy_has_an_end_of_its_own(duplicate):
    ended = Ended()
    with duplicate(ended) as twin:
        pass
    assert (twin.steps, ended.steps) == (["first", "second"], [])


# --- SIGTERM -------------------------------------------------------------------------------------


def test_sigterm_is_told_as_ctrl_c_and_once():
    def twice() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Terminated), raised_sigterm():
        twice()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_sigterm_waits_as_ctrl_c_does():
    done = []

    def step() -> None:
        with delayed_interrupt() as received:
            os.kill(os.getpid(), signal.SIGTERM)
            ctrl_c()
            done.append(len(received))

    with raised_sigterm(), pytest.raises(Terminated):
        step()
    assert done == [2]


def test_a_handler_of_sigterm_of_the_users_own_stays():
    def handle(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, handle)
    try:
        with raised_sigterm():
            assert signal.getsignal(signal.SIGTERM) is handle
    finally:
        signal.signal(signal.SIGTERM, before)


def test_who_insists_does_not_wait():
    done = []

    def step() -> None:
        with delayed_interrupt(is_insisted_on=True):
            ctrl_c()
            done.append("first")
            ctrl_c()
            done.append("second")

    with pytest.raises(KeyboardInterrupt):
        step()
    assert done == ["first"]
