"""Tables: many small nets learnt at once, cross-fitted, calibrated and measured by nested cross-validation."""
