"""MetricText, numbers and tables for a terminal."""
