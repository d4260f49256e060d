"""Tables: many small nets trained at once, cross-fitted, calibrated and measured by nested cross-validation."""
