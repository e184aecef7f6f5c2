"""The commands that measure: bench, plan, profile, tune."""
