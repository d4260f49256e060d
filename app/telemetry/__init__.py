"""What is told of requests to people and machines: headers and log lines, figures, traces."""
