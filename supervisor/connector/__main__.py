"""``python -m supervisor.connector``: see :mod:`supervisor.connector.process`."""

from supervisor.connector.process import main

if __name__ == "__main__":
    main()
