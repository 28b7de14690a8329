"""Federated fine-tuning: many clients train, one server averages, and no row leaves its client.

Flower reports its use to its makers unless it is told not to when it is first imported, so it is
told here, before any file of this folder can import it. A federation sends nothing to anyone else.
"""

import os

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Clients see the accelerators that they would see as local processes.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
