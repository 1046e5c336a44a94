"""The numbers of loops for monitoring: `metrics.prometheus` and `metrics.opentelemetry`, each with its library.

Neither is imported by anything else, and neither serves or sends anything: their libraries do.
"""
