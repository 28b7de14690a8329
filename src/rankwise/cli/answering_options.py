"""The options of ``rankwise evaluate RUN --tasks``; apart, so that parsing loads no model."""

from __future__ import annotations

import argparse


def add_questions(parser: argparse.ArgumentParser) -> None:
    """Add the options of this form of the command."""
    group = parser.add_argument_group("questions to a causal language model")
    group.add_argument("--tasks", help="evaluation sets, such as gsm8k,boolq")
    count = group.add_mutually_exclusive_group()
    count.add_argument("--rows", type=int, default=200, help="questions of each (default: 200)")
    count.add_argument("--full", action="store_true", help="all questions of each")
    group.add_argument(
        "--protocol",
        choices=("greedy", "sampled", "likelihood"),
        default="greedy",
        help="how answers come about; likelihood weighs the options that are given",
    )
    group.add_argument("--batch-size", type=int, default=16, help="prompts at once (default: 16)")
    group.add_argument("--max-new-tokens", type=int, help="the longest answer (default: the set's)")
    group.add_argument("--questions-seed", type=int, default=0, help="draws them (default: 0)")
    group.add_argument("--judge", metavar="URL", help="an OpenAI-compatible endpoint for mt-bench")
    group.add_argument("--judge-model", metavar="NAME", help="its model")
