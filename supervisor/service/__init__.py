"""What a service manager and we say to each other: sd_notify, the watchdog, sockets, credentials, reloads."""
