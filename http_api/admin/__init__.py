"""The admin API: what operators ask and do. Every route asks for their credential, whatever the settings say."""
