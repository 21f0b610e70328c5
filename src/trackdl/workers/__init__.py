"""Worker processes: on this machine or a cluster, for tasks and for figures."""
