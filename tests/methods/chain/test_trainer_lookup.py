"""The Trainer is found from within its event, in Transformers' and in TRL's; else one warns."""

import warnings

import pytest
from transformers import TrainerCallback, TrainerControl, TrainerState

from rankwise.methods.chain.callback import ChainCallback
from rankwise.methods.chain.trainer_lookup import find_trainer
from tests.models.chain_trainers import make_trainer
from tests.models.chains import build
from tests.models.language import language_model, sft_trainer_of, trainer_of


class Seeker(TrainerCallback):
    found = None

    def on_init_end(self, args, state, control, **kwargs):
        self.found = find_trainer(self)


@pytest.mark.parametrize("make", [trainer_of, sft_trainer_of])
def test_the_trainer_that_is_being_made_is_found(make, tmp_path):
    seeker = Seeker()
    trainer = make(language_model(), tmp_path, callbacks=[TrainerCallback(), seeker])
    assert seeker.found is trainer


def test_of_two_trainers_the_one_that_holds_the_callback_is_found(tmp_path):
    class Maker(TrainerCallback):
        def on_init_end(self, args, state, control, **kwargs):
            self.made = make_trainer(build(), tmp_path / "inner", callbacks=[seeker])

    seeker, maker = Seeker(), Maker()
    outer = make_trainer(build(), tmp_path, callbacks=[maker])
    assert seeker.found is maker.made is not outer


def test_without_a_trainer_none_is_found_and_the_callback_warns():
    assert find_trainer(Seeker()) is None
    callback = ChainCallback(build(), every=2)
    with pytest.warns(UserWarning, match=r"not found the Trainer .* `with callback: trainer"):
        callback.on_init_end(None, TrainerState(), TrainerControl())


def test_with_a_trainer_nothing_is_warned_of(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_trainer(build(), tmp_path, callbacks=[ChainCallback(build(), every=2)])
