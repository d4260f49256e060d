"""What is recorded of requests: log lines, metrics, traces."""
