"""The way to Redis: what the settings name, how it is dialled, which server is asked, what goes wrong."""
