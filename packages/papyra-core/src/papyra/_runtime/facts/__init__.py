"""Parts of the record of facts: runs, dead letters, and the share that was dropped."""
