"""How it moves: channels, tasks, pipelines and what runs them."""
