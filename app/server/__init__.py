"""The processes around the app: port and connections, workers, the end."""
