"""MLflow's threads that log the machine's load (`system/...`): restarted after an outage, ended with their run.

Such a thread ends at its first call that fails, and without a restart the rest of the run would lack these metrics.
"""

import threading

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking.fluent import _active_run_stack, run_id_to_system_metrics_monitor


def revive(run_id: str) -> None:
    """Restart a run's monitoring if it has ended; it continues with its next step."""
    monitor: SystemMetricsMonitor | None = run_id_to_system_metrics_monitor.get(run_id)
    if monitor and monitor._process and not monitor._process.is_alive():
        monitor.start()  # type: ignore[no-untyped-call]


def let_go(run_id: str, *, wait: bool) -> None:
    """Remove a run from MLflow's open runs and end its monitoring; its status in the store stays as it is.

    With `wait` the monitoring's last values are waited for, which takes long if the store does not answer.
    """
    stack = _active_run_stack.get()  # type: ignore[no-untyped-call]
    stack[:] = [run for run in stack if run.info.run_id != run_id]
    if monitor := run_id_to_system_metrics_monitor.pop(run_id, None):
        ending = threading.Thread(target=monitor.finish, name="last system metrics", daemon=True)
        ending.start()
        if wait:
            ending.join()
