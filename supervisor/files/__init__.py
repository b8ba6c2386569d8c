"""Files of sessions: kept, reached by links, and edited where they are kept."""
