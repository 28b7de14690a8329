#!/bin/bash
#SBATCH --job-name=rankwise
#SBATCH --nodes=1
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
# sbatch slurm.sh reviews.csv --task.model ./encoder
#
# One run on four GPUs, in the environment that sbatch was called in. Two minutes before its time is
# up, and when it is preempted, the job gets SIGTERM: torchrun takes the place of the shell (exec) and
# passes it on, each process ends its step, and a checkpoint is written; torchrun gives them 30
# seconds, and SLURM, where it preempts, its KillWait, 30 too by default. A preempted job is queued
# again, and --resume goes on from there; where there is no checkpoint yet the run begins. One whose
# time was up goes on when the same line submits it again. Without append, a job that is queued again
# would write over what it has told so far.
set -euo pipefail
exec torchrun --standalone --nproc-per-node 4 -m rankwise train "$@" --output "${SLURM_SUBMIT_DIR:-.}/runs/job" --resume
