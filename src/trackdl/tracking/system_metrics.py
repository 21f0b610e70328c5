"""MLflow's threads that log the machine's load (`system/...`): begun again after an outage, ended with their run.

Such a thread ends at its first call that fails, whereupon the rest of the run would have no such metrics.
"""

import threading

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking.fluent import _active_run_stack, run_id_to_system_metrics_monitor

__all__ = ["let_go", "revive"]


def revive(run_id: str) -> None:
    """Begin a run's monitoring again, where it has broken off; it goes on with its next step."""
    monitor: SystemMetricsMonitor | None = run_id_to_system_metrics_monitor.get(run_id)
    if monitor and monitor._process and not monitor._process.is_alive():
        monitor.start()  # type: ignore[no-untyped-call]


def let_go(run_id: str, *, wait: bool) -> None:
    """Make MLflow forget that a run is open here, and end its monitoring; the store is not told that it has ended.

    Args:
        run_id: The run.
        wait: For the monitoring's last values; where the store does not answer, that would take long.
    """
    stack = _active_run_stack.get()  # type: ignore[no-untyped-call]
    stack[:] = [run for run in stack if run.info.run_id != run_id]
    if monitor := run_id_to_system_metrics_monitor.pop(run_id, None):
        ending = threading.Thread(target=monitor.finish, name="last system metrics", daemon=True)
        ending.start()
        if wait:
            ending.join()
