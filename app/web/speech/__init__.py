"""From recordings to words: what `/v1/transcribe`, its WebSocket and `/v1/audio/transcriptions` share."""
