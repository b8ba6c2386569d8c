"""Traces: what an execution spent its time on, as spans of OpenTelemetry, below the client's own if it has one.

Off unless ``tracing.url`` is set. An execution pays for a few values put into a bounded queue; whatever else there
is to do, a thread does (:mod:`~supervisor.tracing.exporter`).
"""
