"""The connector: a small process that dials Redis and S3 for a daemon that may make no connection itself.

The daemon asks over a socket of its own (:mod:`~supervisor.connector.client`); the process
(:mod:`~supervisor.connector.process`) compares with what the settings name (:mod:`~supervisor.connector.allowlist`,
:mod:`~supervisor.connector.named_places`), dials, and passes the connected socket on. What is said on it it never sees.
"""
