"""A Trainer stays on one device, however many its process sees."""

from __future__ import annotations

from transformers import TrainingArguments

from rankwise.training.loops.trainer import on_one_device


def test_several_gpus_are_not_taken_by_data_parallel(tmp_path):
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    assert on_one_device(arguments).n_gpu == 0  # reading it sets the devices up
    arguments._n_gpu = 4
    assert on_one_device(arguments).n_gpu == 1
