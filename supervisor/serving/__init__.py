"""Connections: who gets one, how long it may keep us waiting, TLS, HTTP/1.1 and HTTP/2 as strict as we need."""
